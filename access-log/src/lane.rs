//! Whose key seals a batch, and which partition it goes to.
//!
//! A batch is about many patients and belongs to none. Its subject is a lane of the access log: one of a few ids per month.
//! So the keys stay few, the partitions are used alike, and a month whose time is over can be shredded as a whole.

use chrono::{DateTime, Datelike, Timelike, Utc};
use uuid::Uuid;

/// The namespace of lanes (version 5 UUIDs); it never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e65_7875_7361_4363_8573_736c_6f67_6c6e);
/// Lanes of a month. More than partitions, so that nearly each partition has one.
const LANES: u32 = 24;

/// The lane that a recorder, by its random id, writes to at this time: another one each minute. An opening and its
/// completion so mostly meet in one partition, where they are published, fetched and applied together.
pub(crate) fn lane_of(recorder: Uuid, at: DateTime<Utc>) -> Uuid {
    let number = (u32::from(recorder.as_bytes()[15]) + at.hour() * 60 + at.minute()) % LANES;
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
        assert_eq!(november.len(), LANES as usize);
        assert!(november.is_disjoint(&lanes(at("2026-12-01T00:00:00Z"))));
        let recorder = Uuid::new_v4();
        let minute = |number| at("2026-11-30T00:00:00Z") + chrono::TimeDelta::minutes(number);
        assert_eq!(lane_of(recorder, minute(7)), lane_of(recorder, minute(7) + chrono::TimeDelta::seconds(59)));
        assert_eq!(BTreeSet::from_iter((0..24).map(|number| lane_of(recorder, minute(number)))), november);
        let partitions = BTreeSet::from_iter(november.iter().map(|lane| partition_of(*lane, PARTITIONS_DEFAULT)));
        assert!(partitions.len() > 8, "{partitions:?}");
    }
}
