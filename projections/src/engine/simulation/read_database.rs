//! The read database: checkpoints with their row locks, one read model's rows, and the parked events.

use std::collections::{BTreeMap, HashSet};

use nexus_event_store::SealedEvent;
use nexus_event_store::sabotage::Safeguard;
use uuid::Uuid;

use super::PARTITIONS;
use super::store::Store;
use crate::engine::checkpoint::Ownership;
use crate::engine::parked::Stands;

/// Rows of the read model: the positions applied to each subject, in the order in which they were.
type Rows = BTreeMap<Uuid, Vec<i64>>;

impl Stands for SealedEvent {
    fn position(&self) -> i64 {
        self.position
    }

    fn subject(&self) -> Uuid {
        self.header.subject
    }
}

#[derive(Debug)]
pub struct ReadDatabase {
    pub checkpoints: [Ownership; PARTITIONS as usize],
    /// Transactions that hold a checkpoint's row.
    locks: [Option<u64>; PARTITIONS as usize],
    pub rows: Rows,
    /// By partition and position.
    pub parked: BTreeMap<(i32, i64), SealedEvent>,
    begun: u64,
    off: Option<Safeguard>,
    /// How often a gap was filled, a partition taken again, an event parked.
    pub gaps_filled: usize,
    pub retaken: usize,
    pub ever_parked: usize,
}

/// What a transaction will change when it is committed.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub id: u64,
    pub partition: i32,
    /// Where the checkpoint goes, and the epoch of whoever moves it.
    pub checkpoint: Option<Ownership>,
    pub rows: Vec<(Uuid, i64)>,
    pub parked: Vec<SealedEvent>,
    pub removed: Vec<i64>,
}

/// What came of a statement that needs a checkpoint's row.
#[derive(Debug)]
pub enum Locked<T> {
    Done(T),
    /// Another transaction holds it.
    Waiting,
}

fn at(partition: i32) -> usize {
    usize::try_from(partition).unwrap()
}

impl ReadDatabase {
    pub fn new(off: Option<Safeguard>) -> Self {
        Self {
            checkpoints: [Ownership { epoch: 0, position: 0, anchor: None }; PARTITIONS as usize],
            locks: Default::default(),
            rows: Rows::new(),
            parked: BTreeMap::new(),
            begun: 0,
            off,
            gaps_filled: 0,
            retaken: 0,
            ever_parked: 0,
        }
    }

    /// Raises the epoch.
    pub fn take(&mut self, partition: i32) -> Locked<Ownership> {
        if self.locks[at(partition)].is_some() {
            return Locked::Waiting;
        }
        self.checkpoints[at(partition)].epoch += 1;
        Locked::Done(self.checkpoints[at(partition)])
    }

    /// Begins a transaction by locking a checkpoint.
    pub fn begin(&mut self, partition: i32) -> Locked<Transaction> {
        if self.locks[at(partition)].is_some() {
            return Locked::Waiting;
        }
        self.begun += 1;
        self.locks[at(partition)] = Some(self.begun);
        let (rows, parked, removed) = (Vec::new(), Vec::new(), Vec::new());
        Locked::Done(Transaction { id: self.begun, partition, checkpoint: None, rows, parked, removed })
    }

    /// Begins a transaction by moving a checkpoint; nothing, if it is not where the caller left it.
    pub fn advance(&mut self, partition: i32, from: &Ownership, to: Ownership) -> Locked<Option<Transaction>> {
        if self.locks[at(partition)].is_some() {
            return Locked::Waiting;
        }
        let now = self.checkpoints[at(partition)];
        let is_own = now.epoch == from.epoch || self.off == Some(Safeguard::EpochFence);
        if !is_own || now.position != from.position {
            return Locked::Done(None);
        }
        let Locked::Done(mut transaction) = self.begin(partition) else { return Locked::Waiting };
        transaction.checkpoint = Some(Ownership { epoch: from.epoch, ..to });
        if self.off == Some(Safeguard::OneTransaction) {
            self.checkpoints[at(partition)] = Ownership { epoch: now.epoch, ..to };
            transaction.checkpoint = None;
        }
        Locked::Done(Some(transaction))
    }

    pub fn parked_subjects(&self, partition: i32) -> HashSet<Uuid> {
        self.parked_in(partition).map(|event| event.header.subject).collect()
    }

    pub fn parked_in(&self, partition: i32) -> impl Iterator<Item = &SealedEvent> {
        self.parked.range((partition, 0)..=(partition, i64::MAX)).map(|(_, event)| event)
    }

    /// Whether a transaction is still there: a server ends what is idle for long, or whose client is gone.
    pub fn is_open(&self, transaction: &Transaction) -> bool {
        self.locks[at(transaction.partition)] == Some(transaction.id)
    }

    pub fn roll_back(&mut self, partition: i32) {
        self.locks[at(partition)] = None;
    }

    /// Everything at once; an owner of yesterday changes nothing.
    pub fn commit(&mut self, transaction: Transaction) -> Result<(), String> {
        let partition = transaction.partition;
        if let Some(checkpoint) = transaction.checkpoint {
            let now = &mut self.checkpoints[at(partition)];
            if checkpoint.epoch != now.epoch {
                return Err(format!("epoch {} moved the checkpoint of epoch {}", checkpoint.epoch, now.epoch));
            }
            *now = checkpoint;
        }
        self.ever_parked += transaction.parked.len();
        for (subject, position) in transaction.rows {
            self.rows.entry(subject).or_default().push(position);
        }
        for position in transaction.removed {
            self.parked.remove(&(partition, position));
        }
        self.parked.extend(transaction.parked.into_iter().map(|event| ((partition, event.position), event)));
        self.locks[at(partition)] = None;
        Ok(())
    }

    /// Rows are the fold of exactly the log up to the checkpoint, but for the queues; and each queue is the end of its
    /// subject's events up to there, in order and complete.
    pub fn check(&self, store: &Store) -> Result<(), String> {
        for partition in 0..PARTITIONS {
            let checkpoint = self.checkpoints[at(partition)].position;
            if checkpoint > store.head(partition) {
                return Err(format!("the checkpoint of partition {partition} is beyond the log"));
            }
            let mut expected = Rows::new();
            for event in &store.of(partition)[..usize::try_from(checkpoint).unwrap()] {
                expected.entry(event.header.subject).or_default().push(event.position);
            }
            for (subject, expected) in expected {
                let applied = self.rows.get(&subject).map_or(&[] as &[i64], Vec::as_slice);
                let queue = self.parked_in(partition).filter(|event| event.header.subject == subject);
                let found: Vec<i64> = applied.iter().copied().chain(queue.map(|event| event.position)).collect();
                if found != expected {
                    return Err(format!(
                        "partition {partition} at {checkpoint}: expected {expected:?}, found {found:?} ({} applied)",
                        applied.len()
                    ));
                }
            }
        }
        let applied: usize = self.rows.values().map(Vec::len).sum();
        let upto: i64 = self.checkpoints.iter().map(|checkpoint| checkpoint.position).sum();
        if i64::try_from(applied + self.parked.len()).unwrap() != upto {
            return Err("rows or queues hold what is beyond the checkpoints".to_owned());
        }
        Ok(())
    }
}
