//! Rules that every aggregate has, so that each folder says only what is its own.
//!
//! Checks of form answer with a [`FormError`]; rules that depend on other streams or on earlier events answer with a
//! [`Refusal`], which an aggregate's error carries unchanged.

mod check;
mod refusal;
mod tag;
mod upcast;

#[cfg(test)]
pub(crate) mod testing;

pub use refusal::Refusal;

pub(crate) use check::{
    check_code, check_concept, check_concept_if_any, check_not_after, check_period, check_reason, check_shape,
    check_status, check_subject, check_value_set, json_time, parsed_time,
};
pub(crate) use refusal::{about_patient, alive, repeated, same_subject};
pub(crate) use tag::{check_tags, has_tag, with_tag};
pub(crate) use upcast::without_notes_before;
