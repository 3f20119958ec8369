use std::time::Duration;

use chrono::DateTime;
use uuid::Uuid;

use super::*;
use crate::event::Header;

fn events(positions: &[i64]) -> Vec<SealedEvent> {
    let header = Header {
        aggregate_type: "Condition".to_owned(),
        aggregate_id: Uuid::nil(),
        sequence: 1,
        subject: Uuid::nil(),
        event_type: "Condition.Recorded".to_owned(),
        event_version: "1.0".to_owned(),
        key_id: Uuid::nil(),
        recorded_at: DateTime::UNIX_EPOCH,
        traceparent: None,
    };
    let event =
        |position: &i64| SealedEvent { header: header.clone(), partition: 0, position: *position, sealed: vec![] };
    positions.iter().map(event).collect()
}

/// Holds partition 0 under epoch 1, published up to 5.
fn idle(now: Instant) -> Holdings {
    let mut holdings = Holdings::default();
    holdings.adopt(&[(0, 1)], now);
    assert_eq!(holdings.begin_takeover(now), [(0, 1)]);
    assert_eq!(holdings.took_over(&[(0, 1)], &BTreeMap::from([(0, 5)]), now), [(0, 1, 5)]);
    holdings
}

#[test]
fn publishing_goes_on_after_the_tail_and_nowhere_else() {
    let now = Instant::now();
    let mut holdings = idle(now);
    assert_eq!(holdings.idle(), [(0, 5)]);
    assert_eq!(holdings.begin(0, &events(&[7])), Begin::Gap { after: 5, position: 7 });
    assert_eq!(holdings.begin(1, &events(&[1])), Begin::NotIdle);
    assert_eq!(holdings.begin(0, &events(&[6, 7])), Begin::Begun { epoch: 1 });
    assert_eq!(holdings.begin(0, &events(&[8])), Begin::NotIdle, "one batch at a time");
    assert_eq!(holdings.published(0, 1, 7), Some((0, 1, 7)));
    assert_eq!((holdings.idle(), holdings.lag(0, 9)), (vec![(0, 7)], 2));
}

#[test]
fn a_failed_batch_leads_back_to_the_tail_after_a_pause() {
    let now = Instant::now();
    let mut holdings = idle(now);
    holdings.begin(0, &events(&[6]));
    holdings.failed(0, 1, now + Duration::from_secs(1));
    assert!(holdings.idle().is_empty() && holdings.begin_takeover(now).is_empty());
    assert_eq!(holdings.begin_takeover(now + Duration::from_secs(1)), [(0, 1)]);
}

#[test]
fn a_lease_of_another_epoch_starts_with_the_tail_once_the_batch_of_before_is_settled() {
    let now = Instant::now();
    let mut holdings = idle(now);
    holdings.begin(0, &events(&[6]));
    holdings.adopt(&[(0, 3)], now);
    assert!(holdings.begin_takeover(now).is_empty(), "what is in flight would not be in the tail");
    assert_eq!(holdings.published(0, 1, 6), None, "it was published under another lease");
    assert_eq!(holdings.begin_takeover(now), [(0, 3)]);
    assert_eq!(holdings.took_over(&[(0, 3)], &BTreeMap::from([(0, 6)]), now), [(0, 3, 6)]);
}

#[test]
fn what_a_round_found_out_is_not_used_under_another_lease() {
    let now = Instant::now();
    let mut holdings = Holdings::default();
    holdings.adopt(&[(0, 1), (1, 1)], now);
    let round = holdings.begin_takeover(now);
    holdings.adopt(&[(0, 2), (1, 1)], now);
    assert!(holdings.begin_takeover(now).is_empty(), "one round at a time");
    assert_eq!(holdings.took_over(&round, &BTreeMap::from([(0, 4), (1, 8)]), now), [(1, 1, 8)]);
    assert_eq!(holdings.begin_takeover(now), [(0, 2)]);
}

#[test]
fn a_store_that_went_back_is_compared_with_the_tail_again() {
    let now = Instant::now();
    let mut holdings = idle(now);
    assert!(holdings.distrust(&[(0, 5)], now).is_empty());
    assert_eq!(holdings.distrust(&[(0, 4)], now), [WentBack { partition: 0, head: 4, published: 5 }]);
    assert_eq!(holdings.begin_takeover(now), [(0, 1)]);
}

#[test]
fn surplus_goes_when_nothing_is_under_way_and_what_is_lost_is_dropped() {
    let now = Instant::now();
    let mut holdings = Holdings::default();
    holdings.adopt(&[(0, 1), (1, 1), (2, 1)], now);
    let round = holdings.begin_takeover(now);
    holdings.took_over(&round, &BTreeMap::from([(0, 0), (1, 0), (2, 0)]), now);
    holdings.begin(1, &events(&[1]));
    holdings.mark_surplus(1);
    assert_eq!(holdings.release_surplus(), [2]);
    assert!(holdings.is_publishing());
    holdings.published(1, 1, 1);
    assert_eq!(holdings.release_surplus(), [1]);
    assert!(holdings.drop_lost(&[(0, 9, 0)], &[]).is_empty(), "another lease was lost");
    assert_eq!(holdings.drop_lost(&[(0, 1, 0)], &[]), [(0, 1)]);
    assert!(holdings.idle().is_empty());
}
