//! Whose key seals a batch, and which partition it goes to.
//!
//! A batch is about many patients and belongs to none. Its subject is a lane of the access log: one of a few ids per month.
//! So the keys stay few, the partitions are used alike, and a month whose time is over can be shredded as a whole.

use chrono::{DateTime, Datelike, Utc};
use uuid::Uuid;

/// The namespace of lanes (version 5 UUIDs); it never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e65_7875_7361_4363_8573_736c_6f67_6c6e);
/// Lanes of a month. More than partitions, so that nearly each partition has one.
const LANES: u8 = 24;

/// The lane of a batch: spread by the batch's own random id.
pub(crate) fn lane_of(batch: Uuid, at: DateTime<Utc>) -> Uuid {
    let number = batch.as_bytes()[15] % LANES;
    Uuid::new_v5(&NAMESPACE, format!("{:04}-{:02}/{number}", at.year(), at.month()).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nexus_event_store::{PARTITIONS_DEFAULT, partition_of};

    use super::*;

    #[test]
    fn a_month_has_a_few_lanes_and_another_month_has_others() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let lanes = |at| BTreeSet::from_iter((0..2_000).map(|_| lane_of(Uuid::new_v4(), at)));
        let november = lanes(at("2026-11-30T23:59:59Z"));
        assert_eq!(november.len(), usize::from(LANES));
        assert!(november.is_disjoint(&lanes(at("2026-12-01T00:00:00Z"))));
        let partitions = BTreeSet::from_iter(november.iter().map(|lane| partition_of(*lane, PARTITIONS_DEFAULT)));
        assert!(partitions.len() > 8, "{partitions:?}");
    }
}
