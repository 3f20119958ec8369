//! The bodies that task routes take, and the FHIR R4 elements they become.
//!
//! Unknown members are refused, and decimals keep the digits they came with.

mod datatypes;
mod json;
mod overlay;

pub use datatypes::{
    Address, Coding, Concept, HumanName, Identifier, Moment, OptionalReason, Quantity, Reason, Telecom, at_or_now,
    coded, list, object, reference, text, time,
};
pub use json::{Command, Id, NoBody, ResourceBody, TypedId, resource};
pub use overlay::overlay;
