//! Relays with their leases, what their producers have on the way, and Kafka's partitions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nexus_event_store::SealedEvent;
use nexus_event_store::relay::holdings::{Advanced, Begin, Holdings};
use nexus_event_store::sabotage::Safeguard;

use super::PARTITIONS;
use super::store::Store;
use crate::engine::batch::Record;

/// How long a lease lasts, in ticks.
pub const LEASE: u64 = 10;
/// How many events a relay publishes at a time.
const BATCH_EVENTS_MAX: usize = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
struct Lease {
    owner: Option<u64>,
    epoch: i64,
    expires: u64,
}

/// The tables of leases and progress.
#[derive(Debug, Default)]
pub struct Leases {
    leases: [Lease; PARTITIONS as usize],
    pub progress: [i64; PARTITIONS as usize],
    alive: BTreeMap<u64, u64>,
}

impl Leases {
    /// What a heartbeat does in the store: registers, renews, takes what is free up to a fair share.
    fn renew(&mut self, owner: u64, now: u64) -> (Vec<(i32, i64)>, usize) {
        self.alive.retain(|relay, expires| *relay == owner || *expires >= now);
        self.alive.insert(owner, now + LEASE);
        let share = self.leases.len().div_ceil(self.alive.len());
        let mut held = self.leases.iter().filter(|lease| lease.owner == Some(owner)).count();
        for lease in &mut self.leases {
            let is_free = lease.owner.is_none() || (lease.owner != Some(owner) && lease.expires < now);
            if lease.owner == Some(owner) {
                lease.expires = now + LEASE;
            } else if is_free && held < share {
                *lease = Lease { owner: Some(owner), epoch: lease.epoch + 1, expires: now + LEASE };
                held += 1;
            }
        }
        let mine = (0..).zip(&self.leases).filter(|(_, lease)| lease.owner == Some(owner));
        (mine.map(|(partition, lease)| (partition, lease.epoch)).collect(), share)
    }

    fn release(&mut self, owner: u64, partitions: &[i32]) {
        for (partition, lease) in (0..).zip(&mut self.leases) {
            if partitions.contains(&partition) && lease.owner == Some(owner) {
                lease.owner = None;
            }
        }
    }

    /// Stores progress where the lease is still this owner's under that epoch; answers where it was.
    fn advance(&mut self, owner: u64, advanced: &[Advanced], off: Option<Safeguard>) -> Vec<i32> {
        let mut ours = Vec::new();
        for (partition, epoch, position) in advanced {
            let at = usize::try_from(*partition).unwrap();
            let lease = &self.leases[at];
            if (lease.owner == Some(owner) && lease.epoch == *epoch) || off == Some(Safeguard::EpochFence) {
                self.progress[at] = *position;
                ours.push(*partition);
            }
        }
        ours
    }
}

/// A partition of the topic.
#[derive(Debug, Default)]
pub struct Topic {
    pub records: Vec<Record>,
    /// It has lost its newest records: recreated, truncated or restored from an older copy.
    pub is_torn: bool,
}

impl Topic {
    pub fn high(&self) -> i64 {
        i64::try_from(self.records.len()).unwrap()
    }

    fn tail(&self) -> i64 {
        self.records.iter().filter_map(|record| record.event.as_ref().map(|event| event.position)).max().unwrap_or(0)
    }

    /// A record can no longer be read.
    pub fn spoil(&mut self, dice: u32) {
        let at = usize::try_from(dice).unwrap() % self.records.len().max(1);
        if let Some(record) = self.records.get_mut(at) {
            record.event = None;
            self.is_torn = true;
        }
    }

    pub fn land(&mut self, event: Option<SealedEvent>) {
        self.records.push(Record { offset: self.high(), event });
    }
}

pub type Topics = [Topic; PARTITIONS as usize];

/// A batch on its way from a producer to the broker, in order. The broker takes a record only after the one before.
#[derive(Debug)]
pub struct Wire {
    partition: i32,
    events: Vec<SealedEvent>,
    landed: usize,
    /// Nothing more arrives.
    is_cut: bool,
    /// What the producer was told.
    told: Option<Result<(), ()>>,
}

/// Everything that is on its way.
#[derive(Debug, Default)]
pub struct Wires {
    wires: BTreeMap<u64, Wire>,
    made: u64,
}

impl Wires {
    fn start(&mut self, partition: i32, events: Vec<SealedEvent>) -> u64 {
        self.made += 1;
        self.wires.insert(self.made, Wire { partition, events, landed: 0, is_cut: false, told: None });
        self.made
    }

    /// One thing happens on the way: a record lands, an answer comes, or gets lost and the batch times out.
    pub fn step(&mut self, topics: &mut Topics, dice: u32, is_calm: bool) {
        let is_active = |wire: &&mut Wire| wire.told.is_none() || (!wire.is_cut && wire.landed < wire.events.len());
        let mut active: Vec<&mut Wire> = self.wires.values_mut().filter(is_active).collect();
        let count = u32::try_from(active.len()).unwrap().max(1);
        let Some(wire) = active.get_mut(usize::try_from(dice % count).unwrap()) else { return };
        let fate = if is_calm { u32::MAX } else { (dice / count) % 16 };
        match fate {
            // The time is over for the producer, and nothing of it is sent any more.
            0 => (wire.is_cut, wire.told) = (true, wire.told.or(Some(Err(())))),
            // The time is over, and what was sent still arrives.
            1 => wire.told = wire.told.or(Some(Err(()))),
            _ if wire.is_cut => wire.told = wire.told.or(Some(Err(()))),
            _ if wire.landed < wire.events.len() => {
                let event = wire.events[wire.landed].clone();
                topics[usize::try_from(wire.partition).unwrap()].land(Some(event));
                wire.landed += 1;
            }
            _ => wire.told = wire.told.or(Some(Ok(()))),
        }
    }

    /// The topic is another one: what was on its way to it has failed.
    pub fn cut(&mut self, partition: i32) {
        for wire in self.wires.values_mut().filter(|wire| wire.partition == partition) {
            (wire.is_cut, wire.told) = (true, wire.told.or(Some(Err(()))));
        }
    }

    fn told(&self, wire: u64) -> Option<Result<(), ()>> {
        self.wires.get(&wire)?.told
    }
}

/// Partitions with their epochs, and the tails found so far.
type Round = (Vec<(i32, i64)>, BTreeMap<i32, i64>);

/// A relay process.
#[derive(Debug, Default)]
pub struct Relay {
    owner: u64,
    holdings: Holdings,
    doing: Doing,
    /// A takeover round that goes on beside.
    round: Option<Round>,
    batches: Vec<Batch>,
}

/// What the loop of a relay waits for; while it does, it begins nothing else.
#[derive(Debug, Default)]
enum Doing {
    #[default]
    Nothing,
    /// Heads are read, leases are not.
    Heartbeat {
        heads: Vec<(i32, i64)>,
    },
    Storing {
        advanced: Vec<Advanced>,
    },
}

#[derive(Debug)]
struct Batch {
    wire: u64,
    partition: i32,
    epoch: i64,
    up_to: i64,
}

/// What relays share.
pub struct Around<'a> {
    pub store: &'a Store,
    pub leases: &'a mut Leases,
    pub topics: &'a Topics,
    pub wires: &'a mut Wires,
    pub now: u64,
    pub clock: Instant,
}

impl Relay {
    pub fn new(owner: u64) -> Self {
        Self { owner, ..Self::default() }
    }

    pub fn step(&mut self, around: &mut Around, dice: u32) -> Result<(), String> {
        match std::mem::take(&mut self.doing) {
            Doing::Heartbeat { heads } => self.renew(around, &heads),
            Doing::Storing { advanced } => {
                let ours = around.leases.advance(self.owner, &advanced, around.store.off);
                self.holdings.drop_lost(&advanced, &ours);
                self.release(around);
            }
            Doing::Nothing => return self.begin(around, dice),
        }
        Ok(())
    }

    fn begin(&mut self, around: &mut Around, dice: u32) -> Result<(), String> {
        match dice % 4 {
            0 => self.doing = Doing::Heartbeat { heads: around.store.heads() },
            1 => return self.take_over(around),
            2 => self.publish(around),
            _ => self.settle(around, dice / 4),
        }
        Ok(())
    }

    /// Begins a round, looks at one more tail, or concludes.
    fn take_over(&mut self, around: &mut Around) -> Result<(), String> {
        let Some((epochs, mut tails)) = self.round.take() else {
            let epochs = self.holdings.begin_takeover(around.clock);
            self.round = (!epochs.is_empty()).then(|| (epochs, BTreeMap::new()));
            return Ok(());
        };
        if let Some((partition, _)) = epochs.get(tails.len()) {
            let tail = around.topics[usize::try_from(*partition).unwrap()].tail();
            if tail > around.store.head(*partition) {
                return Err("Kafka is ahead of a store that lost nothing".to_owned());
            }
            tails.insert(*partition, tail);
            self.round = Some((epochs, tails));
            return Ok(());
        }
        let advanced = self.holdings.took_over(&epochs, &tails, around.clock + RETRY_PAUSE);
        self.doing = Doing::Storing { advanced };
        Ok(())
    }

    fn renew(&mut self, around: &mut Around, heads: &[(i32, i64)]) {
        let (held, share) = around.leases.renew(self.owner, around.now);
        self.holdings.adopt(&held, around.clock);
        self.holdings.distrust(heads, around.clock);
        self.holdings.mark_surplus(share);
        self.release(around);
    }

    fn release(&mut self, around: &mut Around) {
        let released = self.holdings.release_surplus();
        around.leases.release(self.owner, &released);
    }

    fn publish(&mut self, around: &mut Around) {
        for (partition, after) in self.holdings.idle() {
            let events = around.store.range(partition, after, BATCH_EVENTS_MAX);
            let Some(up_to) = events.last().map(|event| event.position) else { continue };
            if let Begin::Begun { epoch } = self.holdings.begin(partition, &events) {
                let wire = around.wires.start(partition, events);
                self.batches.push(Batch { wire, partition, epoch, up_to });
            }
        }
    }

    /// Looks at what one batch has come to.
    fn settle(&mut self, around: &mut Around, dice: u32) {
        let told = |batch: &Batch| around.wires.told(batch.wire);
        let ended: Vec<usize> = (0..self.batches.len()).filter(|at| told(&self.batches[*at]).is_some()).collect();
        let Some(at) = ended.get(usize::try_from(dice).unwrap() % ended.len().max(1)) else { return };
        let batch = self.batches.remove(*at);
        match around.wires.told(batch.wire) {
            Some(Ok(())) => {
                let advanced = self.holdings.published(batch.partition, batch.epoch, batch.up_to);
                self.doing = Doing::Storing { advanced: advanced.into_iter().collect() };
            }
            _ => self.holdings.failed(batch.partition, batch.epoch, around.clock + RETRY_PAUSE),
        }
    }
}
