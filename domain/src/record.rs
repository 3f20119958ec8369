//! What all aggregates have in common, so that one executor serves them all.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::persist::EventUpcaster;

use crate::fhir::Resource;
use crate::types::{ClaimChange, FormError, Note, RuleError};

/// Whether a command decides something now or states what has happened elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Taken here: every rule applies.
    Decision,
    /// Recorded history, such as a FHIR bundle: rules of form and sense refuse, rules about decisions leave a [`Note`].
    History,
}

/// What a command knows of the patient it is about, read from the patient's own stream beforehand. The append refuses
/// if that stream has moved since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PatientFacts {
    pub exists: bool,
    /// When the patient died, if known to have died.
    pub deceased_at: Option<DateTime<Utc>>,
    pub deceased: bool,
    /// This record is a duplicate: work goes on in another one.
    pub replaced: bool,
}

impl PatientFacts {
    /// Whether the patient is known to have died before this moment.
    pub fn died_before(&self, time: DateTime<Utc>) -> bool {
        self.deceased_at.is_some_and(|death| time > death)
    }
}

/// A command with what surrounds it: the clock's reading, where it comes from, and the patient as last seen.
#[derive(Clone, Debug)]
pub struct Issued<A> {
    pub now: DateTime<Utc>,
    pub origin: Origin,
    pub patient: PatientFacts,
    pub action: A,
}

impl<A> Issued<A> {
    /// Applies a rule about decisions taken here: a decision is refused, history gets a note.
    pub fn judge<E: RuleError>(&self, rule: Result<(), E>, notes: &mut Vec<Note>) -> Result<(), E> {
        match (rule, self.origin) {
            (Err(error), Origin::History) => {
                notes.push(Note::of(&error));
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }
}

/// An event as read models see it: every event carries the whole FHIR resource as it stands after it.
pub trait Fact {
    /// The resource after this event.
    fn resource(&self) -> &Resource;
    /// Rules that the recorded history breaks.
    fn notes(&self) -> &[Note];
    /// Adds a rule that was found broken outside of the aggregate. Events that state no history have no place for it.
    fn note(&mut self, note: Note);
}

/// An aggregate of the record. `decide` is the whole of its rules; [`Aggregate::handle`] only passes on to it.
pub trait Record:
    Aggregate<Command = Issued<Self::Action>, Services = (), Event: Fact, Error: RuleError + From<FormError>>
    + Clone
    + 'static
{
    /// The commands, imperative.
    type Action: Send + Sync;

    /// The rules: a pure function from state and command to events or a refusal. No events means that the command has
    /// already had its effect (a retry is not an error).
    fn decide(&self, issued: &Issued<Self::Action>) -> Result<Vec<Self::Event>, Self::Error>;

    /// The resource as it stands, or nothing if the stream is empty.
    fn resource(&self) -> Option<&Resource>;

    /// The claims that an event takes and gives up, given the state before it.
    fn claims(&self, event: &Self::Event) -> Vec<ClaimChange>;

    /// The command that creates the aggregate from a FHIR resource.
    fn record(resource: Resource) -> Self::Action;

    /// The command that replaces the resource by a corrected or newer one.
    fn amend(resource: Resource) -> Self::Action;

    /// The command that marks the resource as entered in error or takes it back.
    fn retract() -> Self::Action;

    /// From old event versions to the current ones.
    fn upcasters() -> Vec<Box<dyn EventUpcaster>>;
}
