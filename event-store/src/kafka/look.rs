//! How far back a partition has to be read to know its highest position.
//!
//! Positions are published in order, so a record is either the next position of its partition or a repeat of an
//! earlier one; the record at offset `o` has a position of at most `o + 1`. Two things follow:
//!
//! 1. All records before offset `from` have positions of at most `from`. A record from there on with a position of
//!    `from` or more is therefore not exceeded by anything before: the highest seen is the highest of all. Each
//!    repeat moves positions one further behind the offsets, so this happens as soon as more records have been looked
//!    at than there are repeats in the whole partition. Mostly there are none, and the last few records will do.
//! 2. Where there are many, only those at the very end can hide the highest position. They are what relays that were
//!    paused and woke up as zombies had in flight: one batch each, which is limited in records and in bytes. A look that
//!    is longer than two such batches holds a record from before them, and that one is the highest.

use crate::append::EVENT_BYTES_MAX;
use crate::relay::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};

/// How many records are looked at first, and how many times more with each further look.
pub(super) const RECORDS_FIRST: i64 = 16;
pub(super) const RECORDS_FACTOR: i64 = 8;
/// How many batches of repeats may lie at the very end.
const BATCHES: i64 = 2;
const REPEATS_MAX: i64 = BATCHES * BATCH_EVENTS_MAX;
const REPEATED_BYTES_MAX: i64 = BATCHES * (BATCH_BYTES_MAX + EVENT_BYTES_MAX as i64);

/// What was seen of a partition: every record from an offset up to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    from: i64,
    records: i64,
    bytes: i64,
    pub highest: Option<i64>,
}

impl Look {
    pub(super) fn new(from: i64) -> Self {
        Self { from, records: 0, bytes: 0, highest: None }
    }

    /// Adds a record; one that is not ours has no position.
    pub(super) fn add(&mut self, position: Option<i64>, bytes: usize) {
        self.records += 1;
        self.bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        self.highest = self.highest.max(position);
    }

    /// Whether nothing before can have a higher position. `low` is the partition's first offset.
    pub(super) fn suffices(&self, low: i64) -> bool {
        self.from <= low
            || self.highest.is_some_and(|highest| highest >= self.from)
            || self.records > REPEATS_MAX
            || self.bytes > REPEATED_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A record as the look sees it: position and bytes.
    type Record = (i64, usize);

    fn look_at(partition: &[Record]) -> (Option<i64>, usize) {
        let high = i64::try_from(partition.len()).unwrap();
        let mut records = RECORDS_FIRST;
        loop {
            let mut look = Look::new((high - records).max(0));
            let seen = &partition[usize::try_from(look.from).unwrap()..];
            seen.iter().for_each(|(position, bytes)| look.add(Some(*position), *bytes));
            if look.suffices(0) {
                return (look.highest, seen.len());
            }
            records *= RECORDS_FACTOR;
        }
    }

    /// What a relay does to a partition: it goes on, or a zombie repeats one batch that ends so far before the end.
    #[derive(Clone, Debug)]
    enum Step {
        Publish(usize),
        Repeat { back: usize, count: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let repeat = (0_usize..2_000, 1..=usize::try_from(BATCH_EVENTS_MAX).unwrap());
        prop_oneof![
            (1_usize..700).prop_map(Step::Publish),
            repeat.prop_map(|(back, count)| Step::Repeat { back, count })
        ]
    }

    /// The records that these steps leave, with no more than two batches of repeats at the end.
    fn partition(steps: &[Step], event_bytes: usize) -> Vec<Record> {
        let batch = usize::try_from(BATCH_BYTES_MAX).unwrap().div_ceil(event_bytes);
        let (mut head, mut repeated, mut records) = (0_i64, 0, Vec::new());
        for step in steps {
            match step {
                Step::Publish(count) => {
                    records.extend((0..*count).map(|_| {
                        head += 1;
                        (head, event_bytes)
                    }));
                    repeated = 0;
                }
                Step::Repeat { back, count } if repeated < BATCHES => {
                    let last = head - i64::try_from(*back).unwrap();
                    let first = last - i64::try_from((*count).min(batch)).unwrap() + 1;
                    records.extend((first.max(1)..=last).map(|position| (position, event_bytes)));
                    repeated += 1;
                }
                Step::Repeat { .. } => {}
            }
        }
        records
    }

    proptest! {
        #[test]
        fn the_highest_position_is_found_behind_any_repeats(
            steps in vec(step(), 0..12),
            event_bytes in prop_oneof![Just(500_usize), Just(200_000), Just(EVENT_BYTES_MAX)],
        ) {
            let records = partition(&steps, event_bytes);
            let highest = records.iter().map(|(position, _)| *position).max();
            let (found, looked) = look_at(&records);
            prop_assert_eq!(found, highest);
            let repeats = records.len() - usize::try_from(highest.unwrap_or(0)).unwrap();
            prop_assert!(looked <= 16 * 8 * 8);
            prop_assert!(looked <= 16 || looked <= repeats * 8, "{looked} looked at for {repeats} repeats");
        }
    }

    #[test]
    fn without_repeats_the_last_few_records_are_enough() {
        let records: Vec<Record> = (1..=5_000).map(|position| (position, 200_000)).collect();
        assert_eq!(look_at(&records), (Some(5_000), 16));
    }
}
