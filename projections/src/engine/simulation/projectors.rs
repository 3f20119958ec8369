//! Projector processes with a lane per partition, and the operator who retries parked subjects.
//!
//! What a lane places, concludes and parks is the engine's own code; only its input and output are of this model.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use nexus_event_store::SealedEvent;
use nexus_event_store::sabotage::Safeguard;
use rdkafka::Offset;

use super::read_database::{Locked, ReadDatabase, Transaction};
use super::relays::Topics;
use super::store::Store;
use super::{PARTITIONS, Trouble};
use crate::engine::batch::{Batch, Placed, Record, still_to_do};
use crate::engine::checkpoint::Ownership;
use crate::engine::config::Limits;
use crate::engine::fault::Reason;
use crate::engine::open::Unreadable;
use crate::engine::parked::{Queues, Search};
use crate::engine::start::{Continuity, Seen, Start};
use crate::engine::watchdog::Stall;

const RECEIVED_MAX: usize = 4;
const APPLY_ATTEMPTS: u32 = 2;
const STALL_MAX: Duration = Duration::from_secs(20);

/// What projectors share.
pub struct Around<'a> {
    pub store: &'a Store,
    pub topics: &'a Topics,
    pub read: &'a mut ReadDatabase,
    /// Which process the group gives each partition to.
    pub assigned: &'a [usize; PARTITIONS as usize],
    pub trouble: &'a Trouble,
    pub clock: Instant,
}

#[derive(Default)]
pub struct Projector {
    number: usize,
    lanes: BTreeMap<i32, Lane>,
}

impl Projector {
    pub fn new(number: usize) -> Self {
        Self { number, lanes: BTreeMap::new() }
    }

    /// One step of one lane; or the group's news about a partition, which may come late.
    pub fn step(&mut self, around: &mut Around, dice: u32) -> Result<(), String> {
        let partition = i32::try_from(dice % PARTITIONS.unsigned_abs()).unwrap();
        let dice = dice / PARTITIONS.unsigned_abs();
        let is_mine = around.assigned[usize::try_from(partition).unwrap()] == self.number;
        match self.lanes.get_mut(&partition) {
            None if is_mine => drop(self.lanes.insert(partition, Lane::new(partition, around))),
            None => {}
            Some(_) if !is_mine && dice.is_multiple_of(4) => self.end(partition, around.read),
            Some(lane) => {
                let is_over = lane.is_stalled(around) || lane.step(around, dice / 4)? == Goes::Over;
                if is_over {
                    self.end(partition, around.read);
                }
            }
        }
        Ok(())
    }

    /// A lane of this process falls silent: no records come any more, and no error either.
    pub fn silence(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.is_silent = true);
    }

    /// Ends a lane in the middle of whatever it does.
    fn end(&mut self, partition: i32, read: &mut ReadDatabase) {
        if let Some(lane) = self.lanes.remove(&partition) {
            lane.end(read);
        }
    }

    pub fn crash(&mut self, read: &mut ReadDatabase) {
        std::mem::take(&mut self.lanes).into_values().for_each(|lane| lane.end(read));
    }
}

/// Whether a lane goes on, or has to start over.
#[derive(Debug, PartialEq, Eq)]
enum Goes {
    On,
    Over,
}

struct Lane {
    partition: i32,
    owned: Ownership,
    continuity: Continuity,
    next: usize,
    records: VecDeque<Record>,
    doing: Doing,
    attempts: u32,
    /// The topic has lost records: what the store has comes first.
    is_from_store: bool,
    is_silent: bool,
    stall: Stall,
}

enum Doing {
    Taking,
    Starting,
    Reading,
    /// Waits for the store to fill a gap, or to say what an unreadable record stands for.
    Fetching {
        batch: Batch,
        first: i64,
        last: Option<i64>,
    },
    Attempting {
        sealed: Vec<SealedEvent>,
        to: Ownership,
    },
    Applying {
        sealed: Vec<SealedEvent>,
        to: Ownership,
        transaction: Transaction,
    },
    Committing {
        sealed: Vec<SealedEvent>,
        to: Ownership,
        transaction: Transaction,
    },
    Committed {
        to: Ownership,
    },
    /// The checkpoint was not where it was left: by whom was it moved?
    Asking {
        sealed: Vec<SealedEvent>,
        to: Ownership,
    },
    Retaking {
        sealed: Vec<SealedEvent>,
        to: Ownership,
    },
}

impl Lane {
    fn new(partition: i32, around: &Around) -> Self {
        Self {
            partition,
            owned: around.read.checkpoints[usize::try_from(partition).unwrap()],
            continuity: Continuity::new(Start::Beginning),
            next: 0,
            records: VecDeque::new(),
            doing: Doing::Taking,
            attempts: 0,
            is_from_store: false,
            is_silent: false,
            stall: Stall::new(),
        }
    }

    /// Its connection is gone, and with it the transaction.
    fn end(self, read: &mut ReadDatabase) {
        if let Doing::Applying { transaction, .. } | Doing::Committing { transaction, .. } = &self.doing
            && read.is_open(transaction)
        {
            read.roll_back(self.partition);
        }
    }

    fn is_stalled(&mut self, around: &Around) -> bool {
        let high = around.topics[usize::try_from(self.partition).unwrap()].high();
        let (next, is_waiting) = (self.continuity.next_offset(), matches!(self.doing, Doing::Reading));
        self.stall.is_stalled(next, high, is_waiting && self.records.is_empty(), around.clock, STALL_MAX)
    }

    fn step(&mut self, around: &mut Around, dice: u32) -> Result<Goes, String> {
        match std::mem::replace(&mut self.doing, Doing::Reading) {
            Doing::Taking => match around.read.take(self.partition) {
                Locked::Done(owned) => (self.owned, self.doing) = (owned, Doing::Starting),
                Locked::Waiting => self.doing = Doing::Taking,
            },
            Doing::Starting => self.start(around),
            Doing::Reading if self.is_from_store => self.fill_from_store(around),
            Doing::Reading if self.records.is_empty() => self.receive(around, dice),
            Doing::Reading => {
                let after = self.batch_after(around);
                self.gather(Batch::after(after));
            }
            Doing::Fetching { batch, first, last } => self.fetch(around, batch, (first, last)),
            Doing::Attempting { sealed, to } => match around.read.advance(self.partition, &self.owned, to) {
                Locked::Done(Some(transaction)) => self.doing = Doing::Applying { sealed, to, transaction },
                Locked::Done(None) => self.doing = Doing::Asking { sealed, to },
                Locked::Waiting => self.doing = Doing::Attempting { sealed, to },
            },
            Doing::Applying { sealed, to, transaction } => self.apply(around, (sealed, to), transaction, dice),
            Doing::Committing { sealed, to, transaction } => {
                let is_open = around.read.is_open(&transaction);
                if is_open {
                    around.read.commit(transaction)?;
                }
                // The answer may get lost, and nobody knows what has become of it.
                let is_told = is_open && !dice.is_multiple_of(8);
                self.doing = if is_told { Doing::Committed { to } } else { Doing::Attempting { sealed, to } };
            }
            Doing::Committed { to } => self.owned = to,
            Doing::Asking { sealed, to } => {
                let now = around.read.checkpoints[usize::try_from(self.partition).unwrap()];
                if now.epoch == to.epoch && now.position == to.position {
                    self.owned = to;
                } else {
                    self.doing = Doing::Retaking { sealed, to };
                }
            }
            Doing::Retaking { sealed, to } => return Ok(self.retake(around, sealed, to)),
        }
        Ok(Goes::On)
    }

    fn start(&mut self, around: &Around) {
        let topic = &around.topics[usize::try_from(self.partition).unwrap()];
        let start = Start::choose(self.owned.anchor, 0, topic.high());
        self.continuity = Continuity::new(start);
        self.is_from_store = matches!(start, Start::Over { .. });
        self.next = match start.offset() {
            Offset::Offset(offset) => usize::try_from(offset).unwrap(),
            _ => 0,
        };
    }

    fn fill_from_store(&mut self, around: &mut Around) {
        let mut batch = Batch::after(self.owned.position);
        let filled = batch.fill(around.store.range(self.partition, self.owned.position, RECEIVED_MAX));
        around.read.gaps_filled += filled;
        self.is_from_store = filled > 0;
        self.gather(batch);
    }

    fn receive(&mut self, around: &Around, dice: u32) {
        let topic = &around.topics[usize::try_from(self.partition).unwrap()];
        if self.is_silent {
            return;
        }
        if self.next > topic.records.len() {
            // Out of range: from the earliest there is.
            self.next = 0;
        }
        let count = 1 + usize::try_from(dice).unwrap() % RECEIVED_MAX;
        for record in topic.records.iter().skip(self.next).take(count) {
            self.next += 1;
            if self.continuity.see(record) != Seen::Anchor {
                self.records.push_back(record.clone());
            }
        }
    }

    /// Where a batch begins. Without the position check, at whatever record comes.
    fn batch_after(&self, around: &Around) -> i64 {
        let first = self.records.front().and_then(|record| record.event.as_ref()).map(|event| event.position - 1);
        match first {
            Some(before) if around.store.off == Some(Safeguard::PositionCheck) => before.min(self.owned.position),
            _ => self.owned.position,
        }
    }

    fn gather(&mut self, mut batch: Batch) {
        let limits = Limits { batch_events_max: 3, ..Limits::default() };
        match batch.place(&mut self.records, &limits) {
            Placed::Gap { first, last } if batch.events.is_empty() => {
                self.doing = Doing::Fetching { batch, first, last: Some(last) };
            }
            Placed::Unreadable { position } if batch.events.is_empty() => {
                self.doing = Doing::Fetching { batch, first: position, last: None };
            }
            _ if batch.events.is_empty() => {}
            _ => {
                let position = batch.position().max(self.owned.position);
                let to = Ownership { epoch: self.owned.epoch, position, anchor: batch.anchor.or(self.owned.anchor) };
                self.attempts = 0;
                self.doing = Doing::Attempting { sealed: batch.events, to };
            }
        }
    }

    fn fetch(&mut self, around: &mut Around, mut batch: Batch, (first, last): (i64, Option<i64>)) {
        match last {
            Some(last) => {
                let missing = around.store.range(self.partition, first - 1, usize::try_from(last - first + 1).unwrap());
                around.read.gaps_filled += batch.fill(missing);
            }
            None => {
                around.read.gaps_filled += batch.fill(around.store.range(self.partition, first - 1, 1));
                self.records.pop_front();
            }
        }
        self.gather(batch);
    }

    fn apply(
        &mut self,
        around: &mut Around,
        (sealed, to): (Vec<SealedEvent>, Ownership),
        mut transaction: Transaction,
        dice: u32,
    ) {
        let is_cut = dice.is_multiple_of(16) || !around.read.is_open(&transaction);
        let mut queues = Queues::new(around.read.parked_subjects(self.partition));
        let is_applied = if self.attempts < APPLY_ATTEMPTS {
            around.trouble.together(&mut queues, &sealed)
        } else {
            Some(around.trouble.apart(&mut queues, &sealed))
        };
        match is_applied {
            Some(applied) if !is_cut => {
                transaction.rows = applied.iter().map(|event| (event.header.subject, event.position)).collect();
                let is_parked = |event: &&SealedEvent| queues.rows().contains_key(&event.position);
                transaction.parked = sealed.iter().filter(is_parked).cloned().collect();
                self.doing = Doing::Committing { sealed, to, transaction };
            }
            outcome => {
                if around.read.is_open(&transaction) {
                    around.read.roll_back(self.partition);
                }
                self.attempts += u32::from(outcome.is_none() && !is_cut);
                self.doing = Doing::Attempting { sealed, to };
            }
        }
    }

    fn retake(&mut self, around: &mut Around, sealed: Vec<SealedEvent>, to: Ownership) -> Goes {
        let Locked::Done(owned) = around.read.take(self.partition) else {
            self.doing = Doing::Retaking { sealed, to };
            return Goes::On;
        };
        self.owned = owned;
        around.read.retaken += 1;
        match still_to_do(&sealed, owned.position) {
            None => return Goes::Over,
            Some([]) => {}
            Some(left) => {
                let to = Ownership { epoch: owned.epoch, ..to };
                self.doing = Doing::Attempting { sealed: left.to_vec(), to };
            }
        }
        Goes::On
    }
}

impl Trouble {
    fn is_poison(&self, event: &SealedEvent) -> bool {
        self.poison.contains(&(event.partition, event.position))
    }

    fn unreadable(&self, sealed: &[SealedEvent]) -> Vec<Unreadable> {
        let broken = sealed.iter().filter(|event| self.unreadable.contains(&(event.partition, event.position)));
        let unreadable = |event: &SealedEvent| Unreadable {
            position: event.position,
            subject: event.header.subject,
            reason: "key.not-provisioned",
        };
        broken.map(unreadable).collect()
    }

    /// Applies a batch as a whole; nothing, if an event is at fault.
    fn together(&self, queues: &mut Queues, sealed: &[SealedEvent]) -> Option<Vec<SealedEvent>> {
        if !self.unreadable(sealed).is_empty() {
            return None;
        }
        let free = queues.hold_back(sealed);
        (!free.iter().any(|event| self.is_poison(event))).then_some(free)
    }

    /// Applies a batch apart from what is at fault.
    fn apart(&self, queues: &mut Queues, sealed: &[SealedEvent]) -> Vec<SealedEvent> {
        let unreadable = self.unreadable(sealed);
        let broken: BTreeSet<i64> = unreadable.iter().map(|event| event.position).collect();
        let readable: Vec<_> = sealed.iter().filter(|event| !broken.contains(&event.position)).cloned().collect();
        let (mut search, mut applied) = (Search::new(&readable, &unreadable), Vec::new());
        while let Some(free) = search.next(queues) {
            if free.iter().any(|event| self.is_poison(event)) {
                search.failed(queues, &free, Reason::new("poison", &[]));
            } else {
                applied.extend(free);
            }
        }
        applied
    }
}

/// Someone who retries what is parked.
#[derive(Default)]
pub struct Operator {
    replaying: Option<Transaction>,
}

impl Operator {
    /// Locks the partition of a parked subject and replays its queue, or commits that.
    pub fn step(&mut self, read: &mut ReadDatabase, trouble: &Trouble, dice: u32) -> Result<(), String> {
        if let Some(transaction) = self.replaying.take() {
            return if read.is_open(&transaction) { read.commit(transaction) } else { Ok(()) };
        }
        let partition = i32::try_from(dice % PARTITIONS.unsigned_abs()).unwrap();
        let subjects = BTreeSet::from_iter(read.parked_subjects(partition));
        let at = usize::try_from(dice / PARTITIONS.unsigned_abs()).unwrap() % subjects.len().max(1);
        let Some(subject) = subjects.into_iter().nth(at) else { return Ok(()) };
        let Locked::Done(mut transaction) = read.begin(partition) else { return Ok(()) };
        let queue = read.parked_in(partition).filter(|event| event.header.subject == subject);
        let is_fine =
            |event: &&SealedEvent| !trouble.is_poison(event) && trouble.unreadable(&[(*event).clone()]).is_empty();
        let replayed: Vec<i64> = queue.take_while(is_fine).map(|event| event.position).collect();
        transaction.rows = replayed.iter().map(|position| (subject, *position)).collect();
        transaction.removed = replayed;
        self.replaying = Some(transaction);
        Ok(())
    }

    pub fn crash(&mut self, read: &mut ReadDatabase) {
        if let Some(transaction) = self.replaying.take()
            && read.is_open(&transaction)
        {
            read.roll_back(transaction.partition);
        }
    }
}
