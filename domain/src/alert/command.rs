//! What can be asked of an alert.

use crate::fhir::Resource;

/// The commands of an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertCommand {
    /// States how urgent it is now: raises, escalates, eases or clears the alert, whichever that is.
    Assess { resource: Resource },
    /// Takes it back, which is not possible: what was signalled stays on record.
    Retract,
}
