//! What the record itself says about who may see it: who cares for the patient, what the patient consents to, how
//! sensitive a resource is. Facts only; what follows from them is decided by `nexus_auth::policy`.

mod care;
mod codes;
mod consent;
mod emergency;
mod marks;
mod sensitivity;

#[cfg(test)]
mod tests;

pub use care::{AFTER_ENCOUNTER, AROUND_APPOINTMENT, Care};
pub use codes::{UNKNOWN, codes};
pub use consent::{Asked, ConsentRule, Ruling, ruling};
pub use emergency::Emergency;
pub use marks::{Marks, lenders};
pub use sensitivity::sensitivity;
