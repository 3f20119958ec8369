//! FHIR R4 (<https://hl7.org/fhir/R4/>) as far as rules and read models need it. A resource stays JSON; typed values are
//! taken from it where something depends on them.

mod coding;
mod datetime;
mod form;
mod id;
mod links;
pub mod modifiers;
pub mod naming;
mod primitive;
mod quantity;
mod reference;
mod resource;
mod resource_types;
mod subject;
mod when;
mod whose;

pub use coding::{Coding, codings};
pub use datetime::{FhirDateTime, Precision};
pub use form::{check_elements, check_form, check_text};
pub use id::{derived_id, id_of, is_fhir_id};
pub use links::{Link, rewrite_links};
pub use modifiers::{Stance, Understanding, stance, understood};
pub use quantity::{Comparator, Finding, Measurement, Quantity, RESULTS, UCUM, findings, measurements};
pub use reference::{Reference, identifier_of, references, rewrite_references, without_version};
pub use resource::{Digest, Resource};
pub use resource_types::is_resource_type;
pub(crate) use subject::is_never_a_patients;
pub use subject::{
    Homeless, Owner, Whose, is_directory_type, is_found_by_identifier, is_open, may_be_nobodys, name_patient,
    patient_identifier, patient_of, reason_not_kept, settle, whose,
};
pub use when::{TimeKind, When, clinical_time};
