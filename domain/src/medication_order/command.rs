//! What can be asked of a medication order.

use crate::allergy::ActiveAllergy;
use crate::fhir::Resource;

/// The commands of a medication order. Allergies are read from the patient's own streams beforehand; the append refuses
/// if any of them has moved since.
#[derive(Clone, Debug, PartialEq)]
pub enum MedicationOrderCommand {
    /// Orders a medication here and now. A reason is needed where an active allergy speaks against it.
    Prescribe { resource: Resource, override_reason: Option<String>, active_allergies: Vec<ActiveAllergy> },
    /// States an order as it was given elsewhere, whatever its status.
    Record { resource: Resource, active_allergies: Vec<ActiveAllergy> },
    /// Replaces what was stated by a corrected or newer statement.
    Amend { resource: Resource },
    /// The medication is not given for the time being.
    Hold { reason: String },
    /// The medication is given again after a hold.
    Resume,
    /// The medication is given no more, before it was to end.
    Discontinue { reason: String },
    /// All that was ordered has been given.
    Complete,
    /// The order should not have been recorded.
    MarkEnteredInError,
}
