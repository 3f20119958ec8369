use chrono::DateTime;
use nexus_event_store::Header;
use uuid::Uuid;

use super::*;

const LIMITS: fn() -> Limits = || Limits { batch_events_max: 3, batch_bytes_max: 100, ..Limits::default() };

fn event(position: i64, bytes: usize) -> SealedEvent {
    let header = Header {
        aggregate_type: "Condition".to_owned(),
        aggregate_id: Uuid::nil(),
        sequence: position,
        subject: Uuid::nil(),
        event_type: "Condition.Recorded".to_owned(),
        event_version: "1.0".to_owned(),
        key_id: Uuid::nil(),
        recorded_at: DateTime::UNIX_EPOCH,
        traceparent: None,
    };
    SealedEvent { header, partition: 0, position, sealed: vec![0; bytes] }
}

/// Records at offsets 100, 101 …; zero stands for one that can't be read.
fn records(positions: &[i64]) -> VecDeque<Record> {
    let record =
        |(offset, position): (i64, &i64)| Record { offset, event: (*position > 0).then(|| event(*position, 10)) };
    (100..).zip(positions).map(record).collect()
}

#[track_caller]
fn check(after: i64, given: &[i64], taken: &[i64], duplicates: u64, placed: Placed, anchor: Option<(i64, i64)>) {
    let mut records = records(given);
    let mut batch = Batch::after(after);
    assert_eq!(batch.place(&mut records, &LIMITS()), placed);
    assert_eq!(batch.events.iter().map(|event| event.position).collect::<Vec<_>>(), taken);
    assert_eq!(batch.duplicates, duplicates);
    assert_eq!(batch.anchor, anchor.map(|(offset, position)| Anchor { offset, position }));
    assert_eq!(batch.position(), taken.last().copied().unwrap_or(after));
}

#[test]
fn records_are_placed_by_position_alone() {
    check(0, &[1, 2], &[1, 2], 0, Placed::Drained, Some((101, 2)));
    check(4, &[3, 4, 5], &[5], 2, Placed::Drained, Some((102, 5)));
    check(4, &[3, 4], &[], 2, Placed::Drained, None);
    check(4, &[5, 5, 4, 6], &[5, 6], 2, Placed::Drained, Some((103, 6)));
    check(4, &[5, 6, 5], &[5, 6], 1, Placed::Drained, Some((101, 6)));
    check(4, &[7], &[], 0, Placed::Gap { first: 5, last: 6 }, None);
    check(4, &[5, 8], &[5], 0, Placed::Gap { first: 6, last: 7 }, Some((100, 5)));
    check(4, &[5, 0, 6], &[5], 0, Placed::Unreadable { position: 6 }, Some((100, 5)));
    check(0, &[1, 2, 3, 4], &[1, 2, 3], 0, Placed::Full, Some((102, 3)));
    check(0, &[1, 2, 3, 3, 4], &[1, 2, 3], 1, Placed::Full, Some((102, 3)));
}

#[test]
fn a_batch_is_bounded_in_bytes_but_a_large_event_goes_alone() {
    let record = |position, bytes| Record { offset: position, event: Some(event(position, bytes)) };
    let mut records = VecDeque::from([record(1, 500), record(2, 60), record(3, 60)]);
    let mut batch = Batch::after(0);
    assert_eq!(batch.place(&mut records, &LIMITS()), Placed::Full);
    assert_eq!((batch.position(), records.len()), (1, 2));
    let mut batch = Batch::after(1);
    assert_eq!(batch.place(&mut records, &LIMITS()), Placed::Full);
    assert_eq!((batch.position(), records.len()), (2, 1));
}

#[test]
fn a_gap_is_filled_only_with_what_follows() {
    let mut records = records(&[8]);
    let mut batch = Batch::after(4);
    batch.place(&mut records, &LIMITS());
    assert_eq!(batch.fill(vec![event(5, 1), event(6, 1), event(9, 1)]), 2);
    assert_eq!(batch.place(&mut records, &LIMITS()), Placed::Gap { first: 7, last: 7 });
    assert_eq!(batch.fill(vec![event(7, 1)]), 1);
    assert_eq!(batch.position(), 7);
}

#[test]
fn what_others_have_applied_is_left_out_and_what_is_missing_is_noticed() {
    let events: Vec<_> = (5..=8).map(|position| event(position, 1)).collect();
    let left = |applied| still_to_do(&events, applied).map(|left| left.iter().map(|event| event.position).collect());
    assert_eq!(left(4), Some(vec![5, 6, 7, 8]));
    assert_eq!(left(6), Some(vec![7, 8]));
    assert_eq!(left(9), Some(vec![]));
    assert_eq!(left(3), None, "the checkpoint went back: position 4 is not at hand");
}
