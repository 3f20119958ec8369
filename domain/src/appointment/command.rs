//! What can be asked of an appointment.

use crate::fhir::Resource;

/// The commands of an appointment.
#[derive(Clone, Debug, PartialEq)]
pub enum AppointmentCommand {
    /// Takes a time of a practitioner, or of several.
    Book { resource: Resource },
    /// States an appointment as it was made elsewhere, whatever its status.
    Record {
        resource: Resource,
        /// Whether somebody else already holds a part of the time.
        slot_taken: bool,
    },
    /// Replaces what was stated by a corrected or newer statement; moves the appointment if its time differs.
    Amend { resource: Resource },
    /// What was proposed or pending is agreed on.
    Confirm,
    /// The patient has come.
    CheckIn,
    /// The appointment will not take place.
    Cancel { reason: Option<String> },
    /// The patient has not come.
    MarkNoShow,
    /// It is time to remind the patient.
    Remind,
    /// The appointment should not have been recorded.
    MarkEnteredInError,
}
