use super::*;

const PATIENT: Uuid = Uuid::from_u128(1);

fn version(sequence: i64) -> Version {
    Version { resource_type: "Patient".to_owned(), id: PATIENT, sequence }
}

fn place(position: i64) -> Place {
    Place { partition: 3, position }
}

fn event(position: i64) -> Event {
    let digest = [u8::try_from(position).unwrap(); 32];
    Event {
        place: place(position),
        version: version(position),
        subject: PATIENT,
        event_type: "Patient.Updated".to_owned(),
        digest,
    }
}

fn operation(action: Action, outcome: Outcome) -> Operation {
    let (mrn, at_least) = (None, None);
    Operation { client: 1, action, started_ms: 0, ended_ms: 1, tries: 1, unknown: 0, mrn, at_least, outcome }
}

fn accepted(position: i64) -> Operation {
    let mut accepted =
        operation(Action::Register, Outcome::Accepted { version: version(position), place: place(position) });
    accepted.mrn = Some(format!("mrn {position}"));
    accepted
}

fn read(action: Action, at_least: i64, outcome: Outcome) -> Operation {
    Operation { at_least: Some(at_least), ..operation(action, outcome) }
}

fn hashes(text: &str) -> Hashes {
    Hashes::from([("timeline_v3.entries".to_owned(), (2, text.to_owned()))])
}

/// Three commands, all well.
fn good() -> (Vec<Operation>, Evidence) {
    let history = vec![
        accepted(1),
        accepted(2),
        accepted(3),
        operation(Action::RegisterDuplicate, Outcome::Refused { problem: "claim-taken".to_owned() }),
        read(Action::ReadOwn, 3, Outcome::Seen { version: version(3) }),
    ];
    let events = vec![event(1), event(2), event(3)];
    let evidence = Evidence {
        log: events.clone(),
        heads: BTreeMap::from([(3, 3), (4, 0)]),
        // A relay that woke up repeats what it had in flight.
        topic: vec![event(1), event(2), event(1), event(2), event(3)],
        claims: 3,
        parked: 0,
        served: hashes("a"),
        folded_again: hashes("a"),
        orders: BTreeMap::new(),
        ordered_again: BTreeSet::new(),
    };
    (history, evidence)
}

#[track_caller]
fn check(break_it: impl Fn(&mut Vec<Operation>, &mut Evidence), expected: &[&str]) {
    let (mut history, mut evidence) = good();
    break_it(&mut history, &mut evidence);
    let found: BTreeSet<_> = all(&history, &evidence).into_iter().map(|breach| breach.check).collect();
    assert_eq!(found, expected.iter().copied().collect());
}

/// Another event of an alert, at this position.
fn add_alert(evidence: &mut Evidence, sequence: i64, position: i64) {
    let alert = Event { version: Version { resource_type: ALERT.to_owned(), ..version(sequence) }, ..event(position) };
    evidence.log.push(alert.clone());
    evidence.topic.push(alert);
    evidence.heads.insert(3, position);
}

/// A good run in which a patient had an alert.
fn with_an_alert(evidence: &mut Evidence) {
    add_alert(evidence, 1, 4);
    evidence.orders.insert("order".to_owned(), "done".to_owned());
    evidence.ordered_again.insert("order".to_owned());
}

const LOST: &str = "no acknowledged command lost";
const ONCE: &str = "each command applied once, none that was refused";
const GAP: &str = "no gap per partition";
const ORDER: &str = "order per aggregate";
const KAFKA: &str = "Kafka has what Postgres has";

#[test]
fn a_good_run_has_no_breach() {
    check(|_, _| {}, &[]);
}

#[test]
fn a_lost_command_is_seen() {
    check(|history, _| history[2] = Operation { mrn: history[2].mrn.clone(), ..accepted(4) }, &[LOST, ONCE]);
    // As if the store had come back without its newest event.
    check(
        |_, evidence| {
            evidence.log.pop();
            evidence.topic.pop();
            evidence.heads.insert(3, 2);
        },
        &[LOST],
    );
}

#[test]
fn a_command_applied_twice_or_though_refused_is_seen() {
    let one_more = |_: &mut Vec<Operation>, evidence: &mut Evidence| {
        evidence.log.push(event(4));
        evidence.topic.push(event(4));
        evidence.heads.insert(3, 4);
    };
    check(one_more, &[ONCE]);
    check(|history, _| history.push(Operation { mrn: None, ..accepted(3) }), &[ONCE]);
}

#[test]
fn gaps_and_disorder_are_seen() {
    check(
        |history, evidence| {
            history.remove(1);
            evidence.log.remove(1);
            evidence.topic = evidence.log.clone();
            evidence.claims = 2;
        },
        &[GAP, ORDER, KAFKA],
    );
    check(
        |_, evidence| {
            evidence.heads.insert(4, 1);
        },
        &[GAP, KAFKA],
    );
}

#[test]
fn a_topic_that_differs_is_seen() {
    check(
        |_, evidence| {
            evidence.topic.pop();
        },
        &[KAFKA],
    );
    check(|_, evidence| evidence.topic[4].digest = [0; 32], &[KAFKA]);
    check(|_, evidence| evidence.topic = vec![event(2), event(1), event(3)], &[KAFKA]);
}

#[test]
fn an_order_that_is_carried_out_twice_or_never_is_seen() {
    const ORDERED: &str = "each order carried out once";
    check(|_, evidence| with_an_alert(evidence), &[]);
    let breaks: [fn(&mut Evidence); 4] = [
        |evidence| drop(evidence.orders.insert("order".to_owned(), "due".to_owned())),
        |evidence| evidence.orders.clear(),
        |evidence| drop(evidence.orders.insert("another".to_owned(), "done".to_owned())),
        |evidence| add_alert(evidence, 2, 5),
    ];
    for break_it in breaks {
        let broken = |_: &mut Vec<Operation>, evidence: &mut Evidence| {
            with_an_alert(evidence);
            break_it(evidence);
        };
        check(broken, &[ORDERED]);
    }
}

#[test]
fn a_session_that_goes_back_is_seen() {
    let older = || Outcome::Seen { version: version(2) };
    let absent = || Outcome::Absent { resource_type: "Patient".to_owned(), id: PATIENT };
    check(|history, _| history.push(read(Action::ReadOwn, 3, older())), &["own writes are seen"]);
    check(|history, _| history.push(read(Action::Read, 3, older())), &["reads never go back"]);
    check(|history, _| history.push(read(Action::Read, 1, absent())), &["reads never go back"]);
    check(|history, _| history.push(read(Action::Read, 0, absent())), &[]);
}

#[test]
fn a_claim_with_two_holders_is_seen() {
    check(|history, _| history[1].mrn = history[0].mrn.clone(), &["claims unique"]);
    check(|_, evidence| evidence.claims = 4, &["claims unique"]);
}

#[test]
fn what_is_unknown_parked_or_folded_differently_is_seen() {
    check(|history, _| history.push(operation(Action::Amend, Outcome::Unknown)), &["outcomes known"]);
    check(|_, evidence| evidence.parked = 1, &["nothing parked"]);
    check(|_, evidence| evidence.folded_again = hashes("b"), &["read models equal a fresh fold"]);
    check(
        |_, evidence| (evidence.served, evidence.folded_again) = (Hashes::new(), Hashes::new()),
        &["read models equal a fresh fold"],
    );
}
