//! The bedside of one patient, as a pure fold: events in, findings out.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::early_warning::{Parameter, Readings, Risk, Value, readings};
use nexus_domain::fhir::Resource;
use nexus_domain::observation::NotCounted;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::read_model::Event;
use crate::rows;

/// What was measured longer before than this does not count.
const FRESH: TimeDelta = TimeDelta::hours(24);
/// How far the clock of whoever measured may be ahead: as much as the write door takes for a decision.
const AHEAD: TimeDelta = TimeDelta::minutes(5);
/// So many readings of each parameter are kept, for the day on which the latest turns out to be wrong.
const KEPT_MAX: usize = 20;
/// NEWS2 is for those of this age and older.
const AGE_MIN: i32 = 16;
/// Classes of an encounter of an inpatient (HL7 v3-ActCode).
const INPATIENT: [&str; 3] = ["IMP", "ACUTE", "NONAC"];

/// What is known of one patient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bedside {
    /// The year of the sixteenth birthday, of those who may not have had it. Of others nothing is kept.
    minor_until: Option<i32>,
    /// Present stays, each with the risk that was last found.
    stays: BTreeMap<Uuid, String>,
    /// In the order in which they were recorded.
    readings: Vec<Reading>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    observation: Uuid,
    parameter: Parameter,
    value: Value,
    /// When it was measured; of a measurement that took a while, when it began, so that what was measured meanwhile is newer.
    at: DateTime<Utc>,
}

/// What an observation says of the time at which it was recorded.
enum Said {
    /// These readings are current.
    Current(DateTime<Utc>, Vec<(Parameter, Value)>),
    /// Nothing: it was taken back, is about somebody or something else, or about another time.
    Nothing,
    /// Nobody can tell: it is not understood, not stated yet, or its time is not known to the moment.
    Unknown,
}

/// A risk that differs from what was found before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) encounter: Uuid,
    pub(super) risk: Risk,
    /// The least that it can be.
    pub(super) score: u8,
    /// What it leaves out.
    pub(super) undecided: Vec<Parameter>,
}

/// Whether an incomplete set may ease what stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Measured,
    Corrected,
}

impl Bedside {
    /// Takes in the patient's next event.
    pub(super) fn see(&mut self, event: &Event) -> Vec<Finding> {
        match &event.fact {
            AnyEvent::Patient(_) => {
                self.minor_until = minor_until(event);
                Vec::new()
            }
            AnyEvent::Encounter(_) => self.see_encounter(event),
            AnyEvent::Observation(_) => self.see_observation(event),
            _ => Vec::new(),
        }
    }

    fn see_encounter(&mut self, event: &Event) -> Vec<Finding> {
        let encounter = event.aggregate_id;
        if is_inpatient(event.fact.resource()) {
            self.stays.entry(encounter).or_insert_with(|| Risk::Low.as_str().to_owned());
            return self.assess(event.recorded_at, Cause::Measured);
        }
        let Some(found) = self.stays.remove(&encounter) else { return Vec::new() };
        if self.stays.is_empty() {
            self.readings.clear();
        }
        let is_raised = Risk::parse(&found).is_some_and(|risk| risk > Risk::Low);
        is_raised
            .then_some(Finding { encounter, risk: Risk::Low, score: 0, undecided: Vec::new() })
            .into_iter()
            .collect()
    }

    fn see_observation(&mut self, event: &Event) -> Vec<Finding> {
        let (now, observation) = (event.recorded_at, event.aggregate_id);
        let is_correction = self.readings.iter().any(|reading| reading.observation == observation);
        match said(event) {
            Said::Current(at, readings) => {
                self.readings.retain(|reading| reading.observation != observation);
                let new = |(parameter, value)| Reading { observation, parameter, value, at };
                self.readings.extend(readings.into_iter().map(new));
            }
            Said::Nothing => self.readings.retain(|reading| reading.observation != observation),
            // What was known before holds no longer, and what holds instead is not known.
            Said::Unknown => {
                let amended = self.readings.iter_mut().filter(|reading| reading.observation == observation);
                amended.for_each(|reading| reading.value = Value::UNKNOWN);
            }
        }
        if !is_correction && self.readings.iter().all(|reading| reading.observation != observation) {
            return Vec::new();
        }
        self.tidy(now);
        self.assess(now, if is_correction { Cause::Corrected } else { Cause::Measured })
    }

    /// Drops what is too old to count, and of what is too much what was measured first.
    fn tidy(&mut self, now: DateTime<Utc>) {
        self.readings.retain(|reading| reading.at > now - FRESH);
        for parameter in Parameter::ALL {
            let mut times: Vec<_> =
                self.readings.iter().filter(|it| it.parameter == parameter).map(|it| it.at).collect();
            times.sort_unstable();
            let mut excess = times.len().saturating_sub(KEPT_MAX);
            let Some(first_kept) = times.get(excess).copied() else { continue };
            self.readings.retain(|reading| {
                let goes = excess > 0 && reading.parameter == parameter && reading.at < first_kept;
                excess -= usize::from(goes);
                !goes
            });
        }
    }

    fn assess(&mut self, now: DateTime<Utc>, cause: Cause) -> Vec<Finding> {
        if self.minor_until.is_some_and(|year| now.year() < year) {
            return Vec::new();
        }
        let latest = self.latest(now);
        let (risk, score, undecided) = (latest.risk(), latest.score().total(), latest.undecided());
        let may_ease = latest.is_complete() || (cause == Cause::Corrected && latest.is_exact());
        let mut findings = Vec::new();
        for (encounter, found) in &mut self.stays {
            let before = Risk::parse(found).unwrap_or(Risk::Low);
            if risk > before || (risk < before && may_ease) {
                risk.as_str().clone_into(found);
                findings.push(Finding { encounter: *encounter, risk, score, undecided: undecided.clone() });
            }
        }
        findings
    }

    /// The latest reading of each parameter by the time at which it was measured; of two at the same time, the one that was
    /// recorded later.
    fn latest(&self, now: DateTime<Utc>) -> Readings {
        let mut latest = Readings::default();
        let mut in_time: Vec<&Reading> = self.readings.iter().filter(|reading| reading.at > now - FRESH).collect();
        in_time.sort_by_key(|reading| reading.at);
        for reading in in_time {
            latest.set(reading.parameter, reading.value);
        }
        latest
    }
}

/// A reading is current if all of the time at which it can have been measured lies in the day before it was recorded.
fn said(event: &Event) -> Said {
    match rows::counts(event) {
        Ok(()) => {}
        Err(NotCounted::TakenBack | NotCounted::NotThePatient) => return Said::Nothing,
        Err(NotCounted::NotUnderstood | NotCounted::NotStated) => return Said::Unknown,
    }
    let oldest = event.recorded_at - FRESH;
    let Some(when) = rows::occurred(event) else { return Said::Unknown };
    if when.latest().is_some_and(|latest| latest <= oldest) {
        return Said::Nothing;
    }
    match when.span() {
        Some((start, end)) if start > oldest && end <= event.recorded_at + AHEAD => {
            Said::Current(start, readings(event.fact.resource()))
        }
        _ => Said::Unknown,
    }
}

fn is_inpatient(encounter: &Resource) -> bool {
    encounter.text_at("/class/code").is_some_and(|class| INPATIENT.contains(&class)) && rows::is_present(encounter)
}

fn minor_until(patient: &Event) -> Option<i32> {
    let born = rows::moment(patient.fact.resource().text("birthDate"))?;
    let grown = born.year() + AGE_MIN;
    (grown > patient.recorded_at.year()).then_some(grown)
}

#[cfg(test)]
mod tests;
