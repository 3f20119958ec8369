//! Where to start reading a partition, and whether the topic is still the one that was read before.
//!
//! The checkpoint remembers the newest record it was moved by: its offset and its position. Reading starts at that very
//! record. If it is there again, the topic is the same; if not, the topic was truncated, recreated or restored from an
//! older copy. Then it is said loudly, what is missing comes from the event store, and positions alone decide what is new.

use rdkafka::Offset;

use super::batch::Record;
use super::checkpoint::Anchor;

/// Where to start, given the first and the next offset of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing has been read before.
    Beginning,
    /// At the newest known record, to see that it is still the same.
    At(Anchor),
    /// The newest known record can't be there any more, or the first ones are gone before they were read: from the
    /// earliest one there is, at the offset `low`.
    Over { lost: Option<Anchor>, low: i64 },
}

impl Start {
    pub(crate) fn choose(anchor: Option<Anchor>, low: i64, high: i64) -> Self {
        match anchor {
            None if low == 0 => Self::Beginning,
            Some(anchor) if anchor.offset >= low && anchor.offset < high => Self::At(anchor),
            lost => Self::Over { lost, low },
        }
    }

    pub(crate) fn offset(&self) -> Offset {
        match self {
            Self::At(anchor) => Offset::Offset(anchor.offset),
            Self::Beginning | Self::Over { .. } => Offset::Beginning,
        }
    }
}

/// Follows the offsets of a partition, and notices a topic that is not the one known.
pub(crate) struct Continuity {
    expected: Option<Anchor>,
    next_offset: i64,
}

/// What a record says about the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The next record.
    Next,
    /// The known record, where it was: the topic is the same.
    Anchor,
    /// Not what is known to have been there.
    Other,
}

impl Continuity {
    pub(crate) fn new(start: Start) -> Self {
        match start {
            Start::At(anchor) => Self { expected: Some(anchor), next_offset: anchor.offset },
            Start::Beginning => Self { expected: None, next_offset: 0 },
            Start::Over { low, .. } => Self { expected: None, next_offset: low },
        }
    }

    pub(crate) fn see(&mut self, record: &Record) -> Seen {
        let went_back = record.offset < self.next_offset;
        self.next_offset = record.offset + 1;
        match self.expected.take() {
            _ if went_back => Seen::Other,
            None => Seen::Next,
            Some(anchor) => {
                let same = record.offset == anchor.offset
                    && record.event.as_ref().is_some_and(|event| event.position == anchor.position);
                if same { Seen::Anchor } else { Seen::Other }
            }
        }
    }

    /// The offset after the last record seen.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANCHOR: Anchor = Anchor { offset: 41, position: 40 };

    #[test]
    fn reading_starts_at_the_newest_known_record() {
        assert_eq!(Start::choose(None, 0, 9), Start::Beginning);
        assert_eq!(Start::choose(Some(ANCHOR), 0, 42), Start::At(ANCHOR));
        assert_eq!(Start::choose(Some(ANCHOR), 41, 99), Start::At(ANCHOR));
    }

    #[test]
    fn a_topic_without_that_record_is_read_from_its_beginning() {
        for (low, high) in [(0, 41), (0, 0), (42, 99)] {
            let start = Start::choose(Some(ANCHOR), low, high);
            assert_eq!(start, Start::Over { lost: Some(ANCHOR), low });
            assert_eq!(Continuity::new(start).next_offset(), low);
            assert_eq!(start.offset(), Offset::Beginning);
        }
    }

    #[test]
    fn a_topic_whose_first_records_are_gone_is_not_taken_for_a_new_one() {
        assert_eq!(Start::choose(None, 7, 9), Start::Over { lost: None, low: 7 });
    }

    #[test]
    fn another_record_in_its_place_is_noticed() {
        let unreadable = |offset| Record { offset, event: None };
        assert_eq!(Continuity::new(Start::At(ANCHOR)).see(&unreadable(41)), Seen::Other);
        let mut continuity = Continuity::new(Start::Beginning);
        assert_eq!(continuity.see(&unreadable(0)), Seen::Next);
        assert_eq!(continuity.see(&unreadable(5)), Seen::Next);
        assert_eq!(continuity.see(&unreadable(2)), Seen::Other, "offsets went back");
        assert_eq!(continuity.next_offset(), 3);
    }
}
