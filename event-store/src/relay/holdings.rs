//! What a relay knows about the partitions it holds, and what it concludes: plain values, without Postgres or Kafka.
//!
//! Each partition goes from *unknown* over *taking over* to *idle* and back and forth between *idle* and *publishing*.
//! Whatever is not plain, such as a failed batch or another epoch, leads back to *unknown*, where Kafka's tail is read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::event::SealedEvent;

/// How far a partition is published: partition, epoch of the lease, position.
pub type Advanced = (i32, i64, i64);

/// The partitions of one relay.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    held: BTreeMap<i32, Held>,
    /// Partitions with a batch that is not settled, under whatever lease it was begun. What it still may put into Kafka
    /// would not be in a tail that is read now.
    in_flight: BTreeSet<i32>,
    taking_over: bool,
}

#[derive(Clone, Debug)]
struct Held {
    epoch: i64,
    stage: Stage,
    /// To be given up as soon as what is under way is acknowledged.
    surplus: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Kafka's tail has to be read, not before this moment.
    Unknown(Instant),
    /// Kafka's tail is being read.
    TakingOver,
    /// Published up to here.
    Idle(i64),
    /// A batch after this position waits for its acknowledgements.
    Publishing(i64),
}

/// Whether a batch may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Under the lease of this epoch.
    Begun { epoch: i64 },
    /// The log does not go on where publishing stopped.
    Gap { after: i64, position: i64 },
    /// Nothing is to be published here now.
    NotIdle,
}

/// A partition of which the store has less than was published from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack {
    pub partition: i32,
    pub head: i64,
    pub published: i64,
}

impl Holdings {
    /// Brings what is held in line with what the store says is held. Any other epoch is another lease, be it later or, in
    /// a store that went back, earlier: it starts with Kafka's tail.
    pub fn adopt(&mut self, leased: &[(i32, i64)], now: Instant) {
        self.held.retain(|partition, held| leased.contains(&(*partition, held.epoch)));
        for (partition, epoch) in leased {
            let stage = Stage::Unknown(now);
            self.held.entry(*partition).or_insert(Held { epoch: *epoch, stage, surplus: false });
        }
    }

    /// Has the tail read again where the store has less than was published: it was restored from a backup, or failed over
    /// to a replica that was behind. Its heads were read after `after` was reached, so a healthy store is never behind.
    /// A batch under way is left to end first; the next heartbeat sees where it ended.
    pub fn distrust(&mut self, heads: &[(i32, i64)], now: Instant) -> Vec<WentBack> {
        let mut found = Vec::new();
        for (partition, head) in heads {
            let Some(held) = self.held.get_mut(partition) else { continue };
            if let Stage::Idle(after) = held.stage
                && after > *head
            {
                found.push(WentBack { partition: *partition, head: *head, published: after });
                held.stage = Stage::Unknown(now);
            }
        }
        found
    }

    /// The partitions (with their epochs) whose tails are to be read now: all together, one round at a time. A partition
    /// with a batch that is not settled waits for it.
    pub fn begin_takeover(&mut self, now: Instant) -> Vec<(i32, i64)> {
        if self.taking_over {
            return Vec::new();
        }
        let mut epochs = Vec::new();
        for (partition, held) in &mut self.held {
            if matches!(held.stage, Stage::Unknown(due) if due <= now) && !self.in_flight.contains(partition) {
                held.stage = Stage::TakingOver;
                epochs.push((*partition, held.epoch));
            }
        }
        self.taking_over = !epochs.is_empty();
        epochs
    }

    /// A round has ended: `published` says how far Kafka is; a partition without an entry is tried again later.
    pub fn took_over(
        &mut self,
        epochs: &[(i32, i64)],
        published: &BTreeMap<i32, i64>,
        retry_at: Instant,
    ) -> Vec<Advanced> {
        self.taking_over = false;
        let mut advanced = Vec::new();
        for (partition, epoch) in epochs {
            if let Some(held) = self.at(*partition, *epoch, |stage| matches!(stage, Stage::TakingOver)) {
                match published.get(partition) {
                    Some(up_to) => {
                        held.stage = Stage::Idle(*up_to);
                        advanced.push((*partition, *epoch, *up_to));
                    }
                    None => held.stage = Stage::Unknown(retry_at),
                }
            }
        }
        advanced
    }

    /// Published positions after which the log is to be read.
    pub fn idle(&self) -> Vec<(i32, i64)> {
        let idle =
            self.held.iter().filter(|(_, held)| !held.surplus).filter_map(|(partition, held)| match held.stage {
                Stage::Idle(after) => Some((*partition, after)),
                _ => None,
            });
        idle.collect()
    }

    /// Notes that a batch is being published, if it goes on where publishing stopped.
    pub fn begin(&mut self, partition: i32, events: &[SealedEvent]) -> Begin {
        let Some(held) = self.held.get_mut(&partition) else { return Begin::NotIdle };
        let Stage::Idle(after) = held.stage else { return Begin::NotIdle };
        if let Some((_, event)) = (after + 1..).zip(events).find(|(position, event)| event.position != *position) {
            return Begin::Gap { after, position: event.position };
        }
        held.stage = Stage::Publishing(after);
        self.in_flight.insert(partition);
        Begin::Begun { epoch: held.epoch }
    }

    /// Every record of a batch is acknowledged.
    pub fn published(&mut self, partition: i32, epoch: i64, up_to: i64) -> Option<Advanced> {
        self.in_flight.remove(&partition);
        let held = self.at(partition, epoch, |stage| matches!(stage, Stage::Publishing(_)))?;
        held.stage = Stage::Idle(up_to);
        Some((partition, epoch, up_to))
    }

    /// Nobody knows how much of a batch is in Kafka: its tail will tell.
    pub fn failed(&mut self, partition: i32, epoch: i64, retry_at: Instant) {
        self.in_flight.remove(&partition);
        if let Some(held) = self.at(partition, epoch, |stage| matches!(stage, Stage::Publishing(_))) {
            held.stage = Stage::Unknown(retry_at);
        }
    }

    /// Drops the partitions whose progress was not taken from this relay; answers which those were, with their epochs.
    pub fn drop_lost(&mut self, advanced: &[Advanced], ours: &[i32]) -> Vec<(i32, i64)> {
        let mut lost = Vec::new();
        for (partition, epoch, _) in advanced {
            if !ours.contains(partition) && self.at(*partition, *epoch, |_| true).is_some() {
                self.held.remove(partition);
                lost.push((*partition, *epoch));
            }
        }
        lost
    }

    /// Only the first `share` partitions are to be kept.
    pub fn mark_surplus(&mut self, share: usize) {
        for (number, held) in self.held.values_mut().enumerate() {
            held.surplus = number >= share;
        }
    }

    /// Lets go of the surplus that has nothing under way, and answers which partitions those are.
    pub fn release_surplus(&mut self) -> Vec<i32> {
        let free = |held: &Held| held.surplus && !matches!(held.stage, Stage::Publishing(_));
        let released: Vec<_> =
            self.held.iter().filter(|(_, held)| free(held)).map(|(partition, _)| *partition).collect();
        self.held.retain(|partition, _| !released.contains(partition));
        released
    }

    /// How many events of a partition are not published; zero for another relay's, or where it is not known yet.
    pub fn lag(&self, partition: i32, head: i64) -> i64 {
        match self.held.get(&partition).map(|held| held.stage) {
            Some(Stage::Idle(after) | Stage::Publishing(after)) => head - after,
            _ => 0,
        }
    }

    /// Whether any batch of a held partition waits for acknowledgements.
    pub fn is_publishing(&self) -> bool {
        self.held.values().any(|held| matches!(held.stage, Stage::Publishing(_)))
    }

    /// A partition, if it is still held under this lease and where it was left.
    fn at(&mut self, partition: i32, epoch: i64, left: impl Fn(&Stage) -> bool) -> Option<&mut Held> {
        self.held.get_mut(&partition).filter(|held| held.epoch == epoch && left(&held.stage))
    }
}

#[cfg(test)]
mod tests;
