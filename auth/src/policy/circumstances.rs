//! What is known about caller and patient at the moment of the decision.

/// What is known about caller and patient. Nothing known is the default, and allows least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the caller has to do with the patient.
    pub relation: Relation,
    /// The caller has broken the glass, and the time for it is not over.
    pub emergency: bool,
    /// What the patient's consents say about this caller and this resource, if anything.
    pub consent: Option<Verdict>,
}

/// How the caller has to do with the patient: an open encounter, or an appointment about now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// Not at all, as far as anybody knows.
    #[default]
    None,
    /// The caller's organization cares for the patient.
    Organization,
    /// The caller takes part in person.
    Own,
}

/// What consents say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The patient lets this caller in by name.
    Permit,
    /// The patient keeps this from the caller.
    Deny,
}
