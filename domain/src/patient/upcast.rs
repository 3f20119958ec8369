//! From old event versions to the current ones.

use cqrs_es::persist::EventUpcaster;

use crate::common::without_notes_before;

pub(super) fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
    vec![without_notes_before("Patient.Registered", "2.0")]
}
