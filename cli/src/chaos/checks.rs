//! What has to hold after a run, decided from the history and the evidence alone.
//!
//! Each command of the clients has exactly one event, and but for alerts nobody else writes: so the places that accepted
//! commands were told are exactly the places of the log. One that is missing is lost; one that is there beyond them was applied
//! twice, or although it was refused. Each order of the early warning has exactly one event of an alert.

use std::collections::{BTreeMap, BTreeSet};

use nexus_projections::engine::Hashes;
use serde::Serialize;
use uuid::Uuid;

use super::history::{Action, Operation, Outcome, Place, Version};

/// What reactors write, and no client.
const ALERT: &str = "Alert";

/// How many examples of a breach are named.
const EXAMPLES: usize = 5;

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breach {
    pub check: &'static str,
    pub detail: String,
}

/// An event as Postgres or Kafka has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub place: Place,
    pub version: Version,
    pub subject: Uuid,
    pub event_type: String,
    /// Of what is sealed.
    pub digest: [u8; 32],
}

/// What was found when everything was quiet.
#[derive(Default)]
pub struct Evidence {
    /// In the order of their places.
    pub log: Vec<Event>,
    /// The head of each partition.
    pub heads: BTreeMap<i32, i64>,
    /// In the order of the topic, partition by partition.
    pub topic: Vec<Event>,
    pub claims: usize,
    pub parked: usize,
    pub served: Hashes,
    pub folded_again: Hashes,
    /// What reactors have ordered: the keys, each with the state of its order.
    pub orders: BTreeMap<String, String>,
    /// The keys of what a fresh fold orders.
    pub ordered_again: BTreeSet<String>,
}

/// Every check.
pub fn all(history: &[Operation], evidence: &Evidence) -> Vec<Breach> {
    let mut breaches = Vec::new();
    breaches.extend(everything_is_known(history));
    breaches.extend(nothing_is_lost(history, evidence));
    breaches.extend(nothing_is_applied_twice(history, evidence));
    breaches.extend(log_has_no_gap(evidence));
    breaches.extend(topic_is_the_log(evidence));
    breaches.extend(sessions_go_forward(history));
    breaches.extend(claims_are_unique(history, evidence));
    breaches.extend(read_models_are_the_fold(evidence));
    breaches.extend(each_order_is_carried_out_once(evidence));
    if evidence.parked > 0 {
        breaches.push(breach("nothing parked", format!("{} events are parked", evidence.parked)));
    }
    breaches
}

fn breach(check: &'static str, detail: String) -> Breach {
    Breach { check, detail }
}

/// One breach for however many cases.
fn cases<T: std::fmt::Debug>(check: &'static str, what: &str, cases: &[T]) -> Option<Breach> {
    let examples = &cases[..cases.len().min(EXAMPLES)];
    (!cases.is_empty()).then(|| breach(check, format!("{} {what}, such as {examples:?}", cases.len())))
}

/// Healed, everything that was repeated has got an answer.
fn everything_is_known(history: &[Operation]) -> Option<Breach> {
    let unknown: Vec<_> = history.iter().filter(|operation| operation.outcome == Outcome::Unknown).collect();
    cases("outcomes known", "operations never got an answer", &unknown)
}

fn nothing_is_lost(history: &[Operation], evidence: &Evidence) -> Option<Breach> {
    let log: BTreeMap<Place, &Version> = evidence.log.iter().map(|event| (event.place, &event.version)).collect();
    let accepted = history.iter().filter_map(Operation::accepted);
    let lost: Vec<_> = accepted.filter(|(version, place)| log.get(place) != Some(version)).collect();
    cases("no acknowledged command lost", "accepted commands are not in the log", &lost)
}

fn nothing_is_applied_twice(history: &[Operation], evidence: &Evidence) -> Vec<Breach> {
    let mut told = BTreeSet::new();
    let accepted = history.iter().filter_map(Operation::accepted);
    let shared: Vec<Place> = accepted.map(|(_, place)| place).filter(|place| !told.insert(*place)).collect();
    let of_clients = evidence.log.iter().filter(|event| event.version.resource_type != ALERT);
    let beyond: Vec<_> = of_clients.filter(|event| !told.contains(&event.place)).collect();
    let check = "each command applied once, none that was refused";
    let twice = cases(check, "places were given to more than one command", &shared);
    let though_refused = cases(check, "events belong to no accepted command", &beyond);
    twice.into_iter().chain(though_refused).collect()
}

/// Positions of a partition and sequences of an aggregate are 1, 2, 3 … up to the head.
fn log_has_no_gap(evidence: &Evidence) -> Vec<Breach> {
    let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
    let mut sequences: BTreeMap<(&str, Uuid), i64> = BTreeMap::new();
    let (mut gaps, mut breaks) = (Vec::new(), Vec::new());
    for event in &evidence.log {
        if !follows(positions.entry(event.place.partition).or_default(), event.place.position) {
            gaps.push(event.place);
        }
        let stream = (event.version.resource_type.as_str(), event.version.id);
        if !follows(sequences.entry(stream).or_default(), event.version.sequence) {
            breaks.push(&event.version);
        }
    }
    let reached = |partition: &i32| positions.get(partition).copied().unwrap_or_default();
    let heads: Vec<_> = evidence.heads.iter().filter(|(partition, head)| reached(partition) != **head).collect();
    [
        cases("no gap per partition", "positions do not follow the one before", &gaps),
        cases("no gap per partition", "heads are not the last position", &heads),
        cases("order per aggregate", "sequences do not follow the one before", &breaks),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn follows(last: &mut i64, next: i64) -> bool {
    let follows = next == *last + 1;
    *last = next;
    follows
}

/// The topic has the events of the log in its order. It may repeat what it has, and never differently.
fn topic_is_the_log(evidence: &Evidence) -> Vec<Breach> {
    let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
    let log: BTreeMap<Place, &Event> = evidence.log.iter().map(|event| (event.place, event)).collect();
    let (mut gaps, mut different) = (Vec::new(), Vec::new());
    for event in &evidence.topic {
        let last = reached.entry(event.place.partition).or_default();
        if event.place.position > *last + 1 {
            gaps.push(event.place);
        }
        *last = event.place.position.max(*last);
        if log.get(&event.place) != Some(&event) {
            different.push(event.place);
        }
    }
    let reached = |partition: &i32| reached.get(partition).copied().unwrap_or_default();
    let short: Vec<_> = evidence.heads.iter().filter(|(partition, head)| reached(partition) != **head).collect();
    [
        cases("Kafka has what Postgres has", "records leave positions out", &gaps),
        cases("Kafka has what Postgres has", "records differ from their events", &different),
        cases("Kafka has what Postgres has", "partitions end elsewhere", &short),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Within a session no read shows less than one before it, and one that waits for the session's write shows it.
fn sessions_go_forward(history: &[Operation]) -> Vec<Breach> {
    let is_behind = |operation: &&Operation| {
        let at_least = operation.at_least.unwrap_or_default();
        match &operation.outcome {
            Outcome::Seen { version } => version.sequence < at_least,
            Outcome::Absent { .. } => at_least > 0,
            _ => false,
        }
    };
    let behind: Vec<_> = history.iter().filter(is_behind).collect();
    let of = |own: bool| -> Vec<_> { behind.iter().filter(|it| (it.action == Action::ReadOwn) == own).collect() };
    let own = cases("own writes are seen", "reads did not show the write they waited for", &of(true));
    own.into_iter().chain(cases("reads never go back", "reads showed less than one before", &of(false))).collect()
}

fn claims_are_unique(history: &[Operation], evidence: &Evidence) -> Vec<Breach> {
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for operation in history.iter().filter(|operation| operation.accepted().is_some()) {
        if let Some(mrn) = &operation.mrn {
            *holders.entry(mrn).or_default() += 1;
        }
    }
    let shared: Vec<_> = holders.iter().filter(|(_, count)| **count > 1).collect();
    let mut breaches: Vec<_> =
        cases("claims unique", "numbers have more than one holder", &shared).into_iter().collect();
    if holders.len() != evidence.claims {
        let detail = format!("{} numbers were given out, and {} claims are held", holders.len(), evidence.claims);
        breaches.push(breach("claims unique", detail));
    }
    breaches
}

fn read_models_are_the_fold(evidence: &Evidence) -> Vec<Breach> {
    let (served, again) = (&evidence.served, &evidence.folded_again);
    let tables: BTreeSet<_> = served.keys().chain(again.keys()).collect();
    let differing: Vec<_> = tables.into_iter().filter(|table| served.get(*table) != again.get(*table)).collect();
    let described: Vec<_> = differing.iter().map(|table| (table, served.get(*table), again.get(*table))).collect();
    let mut breaches: Vec<_> =
        cases("read models equal a fresh fold", "tables differ", &described).into_iter().collect();
    if served.values().all(|(count, _)| *count == 0) {
        breaches.push(breach("read models equal a fresh fold", "every read model is empty".to_owned()));
    }
    breaches
}

fn each_order_is_carried_out_once(evidence: &Evidence) -> Vec<Breach> {
    let check = "each order carried out once";
    let Evidence { orders, ordered_again, .. } = evidence;
    let undone: Vec<_> = orders.iter().filter(|(_, state)| *state != "done").collect();
    let missing: Vec<_> = ordered_again.iter().filter(|key| !orders.contains_key(*key)).collect();
    let beyond: Vec<_> = orders.keys().filter(|key| !ordered_again.contains(*key)).collect();
    let alerts = evidence.log.iter().filter(|event| event.version.resource_type == ALERT).count();
    let mut breaches: Vec<_> = [
        cases(check, "orders are not carried out", &undone),
        cases(check, "orders of a fresh fold are missing", &missing),
        cases(check, "orders are none of a fresh fold", &beyond),
    ]
    .into_iter()
    .flatten()
    .collect();
    if alerts != orders.len() {
        breaches.push(breach(check, format!("{} orders have {alerts} events of alerts", orders.len())));
    }
    breaches
}

#[cfg(test)]
mod tests;
