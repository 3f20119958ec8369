//! Given events, when a command, then events or a refusal: the words in which every aggregate's tests are written.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use cqrs_es::test::TestFramework;
use serde_json::Value;

use crate::any_event::read;
use crate::fhir::Resource;
use crate::record::{Fact, Issued, Origin, PatientFacts, Record};
use crate::types::{ClaimChange, RuleError};

/// The moment at which all tests run.
pub(crate) fn now() -> DateTime<Utc> {
    at("2026-11-24T08:00:00Z")
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn resource(json: Value) -> Resource {
    Resource::parse(json).unwrap()
}

/// A decision taken here about a living patient.
pub(crate) fn decided<A>(action: A) -> Issued<A> {
    let patient = PatientFacts { exists: true, ..PatientFacts::default() };
    Issued { now: now(), origin: Origin::Decision, patient, action }
}

/// Recorded history of a patient that exists.
pub(crate) fn history<A>(action: A) -> Issued<A> {
    Issued { origin: Origin::History, ..decided(action) }
}

/// The same command about a patient who is known otherwise.
pub(crate) fn about<A>(issued: Issued<A>, patient: PatientFacts) -> Issued<A> {
    Issued { patient: PatientFacts { exists: true, ..patient }, ..issued }
}

/// The state after events.
pub(crate) fn given<A: Record>(events: &[A::Event]) -> A {
    let mut state = A::default();
    events.iter().cloned().for_each(|event| state.apply(event));
    state
}

/// The events before and what a command adds to them.
pub(crate) fn after<A: Record>(events: &[A::Event], when: &Issued<A::Action>) -> Vec<A::Event> {
    let mut events = events.to_vec();
    events.extend(given::<A>(&events).decide(when).unwrap());
    events
}

/// Checks the types of the events, or the code of the refusal, and that `handle` does no more than pass on to `decide`.
#[track_caller]
pub(crate) fn check<A: Record<Action: Clone>>(
    events: &[A::Event],
    when: &Issued<A::Action>,
    then: Result<&[&str], &str>,
) {
    let outcome = given::<A>(events).decide(when);
    let handled = TestFramework::<A>::with(()).given(events.to_vec()).when(when.clone()).inspect_result();
    assert_eq!(handled.as_ref().ok(), outcome.as_ref().ok());
    let names = outcome.as_ref().map(|events| events.iter().map(DomainEvent::event_type).collect::<Vec<_>>());
    match then {
        Ok(expected) => assert_eq!(names.unwrap(), expected),
        Err(code) => assert_eq!(names.map_err(RuleError::code), Err(code)),
    }
}

/// Checks that the command is accepted with one event, which notes exactly these rules.
#[track_caller]
pub(crate) fn check_notes<A: Record>(events: &[A::Event], when: &Issued<A::Action>, then: &[&str]) {
    let outcome = given::<A>(events).decide(when).unwrap();
    let rules: Vec<&str> = outcome.iter().flat_map(Fact::notes).map(|note| note.rule.as_str()).collect();
    assert_eq!((outcome.len(), &rules[..]), (1, then));
}

/// Reads every fixture of the aggregate's folder. Events of the version that is written today must come out as they went
/// in; older ones must be readable and keep their resource. Answers with type and version of each file, sorted.
#[track_caller]
pub(crate) fn read_fixtures<A: Record>(folder: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder).join("fixtures");
    let mut seen: Vec<String> =
        std::fs::read_dir(path).unwrap().map(|entry| read_fixture::<A>(&entry.unwrap().path())).collect();
    seen.sort();
    seen
}

#[track_caller]
fn read_fixture<A: Record>(path: &std::path::Path) -> String {
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (name, version) = (fixture["event_type"].as_str().unwrap(), fixture["event_version"].as_str().unwrap());
    let mut events =
        read::<A>(name, version, fixture["payload"].clone()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let event = events.pop().filter(|_| events.is_empty()).unwrap_or_else(|| panic!("{path:?}: not one event"));
    assert_eq!(event.event_type(), name, "{path:?}");
    let written = fixture["payload"].as_object().and_then(|payload| payload.values().next()).unwrap();
    assert_eq!(serde_json::to_value(event.resource()).unwrap(), written["resource"], "{path:?}");
    if event.event_version() == version {
        assert_eq!(serde_json::to_value(&event).unwrap(), fixture["payload"], "{path:?}");
    }
    given::<A>(&[event]);
    format!("{name} {version}")
}

/// Gives the commands to an empty aggregate one after the other. Refusals are fine; what is accepted must fold into a
/// state that stands at the last event's resource, that `agrees`, and that has nothing to add when the same command comes
/// again. A claim is taken only while it is free and released only while it is held. Answers with the number of events.
#[track_caller]
pub(crate) fn fold_all<A: Record>(commands: &[Issued<A::Action>], agrees: impl Fn(&A)) -> usize {
    let mut state = A::default();
    let mut held = HashSet::new();
    let mut accepted = 0;
    for command in commands {
        let Ok(events) = state.decide(command) else { continue };
        for event in events {
            for change in state.claims(&event) {
                match change {
                    ClaimChange::Take(claim) => assert!(held.insert(claim), "taken twice"),
                    ClaimChange::Release(claim) => assert!(held.remove(&claim), "released without being held"),
                }
            }
            let after = event.resource().clone();
            state.apply(event);
            assert_eq!(state.resource(), Some(&after));
            agrees(&state);
            accepted += 1;
        }
        assert_eq!(state.decide(command).map(|events| events.len()).ok(), Some(0), "a repeated command has no effect");
    }
    accepted
}
