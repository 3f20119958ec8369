//! Which records become events of the next transaction: the arithmetic of positions, and nothing else.

use std::collections::VecDeque;

use nexus_event_store::SealedEvent;
use nexus_event_store::sabotage::{Safeguard, is_off};

use super::checkpoint::Anchor;
use super::config::Limits;

/// A record as it came from Kafka.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    /// Nothing, if it is not of the documented form.
    pub event: Option<SealedEvent>,
}

/// Events in a row without a gap, ready to be applied.
#[derive(Debug)]
pub struct Batch {
    pub events: Vec<SealedEvent>,
    /// The newest record among them; nothing if all were filled from the store.
    pub anchor: Option<Anchor>,
    /// Records dropped because their position had been applied.
    pub duplicates: u64,
    expected: i64,
    bytes: usize,
}

/// Why no more records were taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed {
    /// All records that were there are taken.
    Drained,
    /// The batch is as large as it may be.
    Full,
    /// The next record is further on: positions from `first` to `last` are missing.
    Gap { first: i64, last: i64 },
    /// The next record can't be read; it probably is the event at this position.
    Unreadable { position: i64 },
}

impl Batch {
    /// An empty batch behind a checkpoint.
    pub fn after(position: i64) -> Self {
        Self { events: Vec::new(), anchor: None, duplicates: 0, expected: position + 1, bytes: 0 }
    }

    /// The last position in it, which is the checkpoint once it is applied.
    pub fn position(&self) -> i64 {
        self.expected - 1
    }

    /// Takes records from the front as long as they follow each other.
    pub fn place(&mut self, records: &mut VecDeque<Record>, limits: &Limits) -> Placed {
        while let Some(record) = records.front() {
            match &record.event {
                None => return Placed::Unreadable { position: self.expected },
                Some(event) if event.position > self.expected => {
                    return Placed::Gap { first: self.expected, last: event.position - 1 };
                }
                Some(event) if event.position == self.expected && self.is_full(event, limits) => return Placed::Full,
                Some(_) => self.take(records.pop_front()),
            }
        }
        Placed::Drained
    }

    /// Appends events read from the store, as far as they follow; answers how many did.
    pub fn fill(&mut self, events: Vec<SealedEvent>) -> usize {
        let before = self.events.len();
        for event in events {
            if event.position == self.expected {
                self.push(event);
            }
        }
        self.events.len() - before
    }

    fn take(&mut self, record: Option<Record>) {
        let Some(Record { offset, event: Some(event) }) = record else { return };
        if event.position < self.expected && !is_off(Safeguard::PositionCheck) {
            self.duplicates += 1;
            return;
        }
        self.anchor = Some(Anchor { offset, position: event.position });
        self.push(event);
    }

    fn push(&mut self, event: SealedEvent) {
        self.expected = self.expected.max(event.position + 1);
        self.bytes += event.sealed.len();
        self.events.push(event);
    }

    fn is_full(&self, next: &SealedEvent, limits: &Limits) -> bool {
        let too_many = self.events.len() >= limits.batch_events_max;
        let too_large = !self.events.is_empty() && self.bytes + next.sealed.len() > limits.batch_bytes_max;
        too_many || too_large
    }
}

/// What of a batch comes after a position that others have applied meanwhile; nothing, if what follows that position is from
/// before the batch.
pub(crate) fn still_to_do(events: &[SealedEvent], applied: i64) -> Option<&[SealedEvent]> {
    let left = &events[events.partition_point(|event| event.position <= applied)..];
    left.first().is_none_or(|next| next.position == applied + 1).then_some(left)
}

#[cfg(test)]
mod tests;
