//! The whole as a model: clients, appending processes, the store, relays, Kafka, projectors with their read database, and
//! parking, taken apart into steps between which anyone may crash, fall asleep past every lease, or go on as a zombie.
//!
//! What is concluded is the product's own code ([`Batch`](super::batch::Batch), [`Start`](super::start::Start),
//! [`Continuity`](super::start::Continuity), [`Search`](super::parked::Search), [`Stall`](super::watchdog::Stall),
//! [`Holdings`](nexus_event_store::relay::holdings::Holdings), [`partition_of`]); what it asks of Postgres and Kafka is
//! modelled here: the append function statement by statement, row locks, leases, idempotent producers, transactions.
//!
//! A case is a list of numbers that decide what happens next. After each step the invariants of `check` hold; at the end
//! the faults stop and everyone reaches the head. A case that fails is made smaller and printed with the seed that makes
//! it again: docs/how-to/simulate.md.

mod command;
mod projectors;
mod read_database;
mod relays;
mod store;

mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nexus_event_store::partition_of;
use nexus_event_store::sabotage::Safeguard;
use uuid::Uuid;

use command::{Client, Writer};
use projectors::{Operator, Projector};
use read_database::ReadDatabase;
use relays::{LEASE, Leases, Relay, Topics, Wires};
use store::{ALLERGY, Intent, PRESCRIPTION, Store, key_of};

const PARTITIONS: i32 = 2;
/// What the clients want done, all together.
const COMMANDS: u32 = 36;
/// Rounds within which everyone has to reach the head once the faults have stopped.
const ROUNDS_TO_HEAL: u32 = 3_000;
/// Rounds after which nobody wakes up any more with something old.
const ROUNDS_OF_REST: u32 = 40;
/// Steps that whoever is put to sleep misses at most.
const SLEEP_STEPS_MAX: u32 = 128;

/// Events that can't be applied, and such that can't be read: partition and position.
#[derive(Default)]
struct Trouble {
    poison: BTreeSet<(i32, i64)>,
    unreadable: BTreeSet<(i32, i64)>,
}

struct World {
    store: Store,
    writers: Vec<Writer>,
    intents: Vec<Intent>,
    clients: Vec<Client>,
    leases: Leases,
    topics: Topics,
    wires: Wires,
    relays: Vec<Relay>,
    relays_started: u64,
    read: ReadDatabase,
    assigned: [usize; PARTITIONS as usize],
    projectors: Vec<Projector>,
    operator: Operator,
    trouble: Trouble,
    now: u64,
    epoch_start: Instant,
    /// Steps made, and up to which of them each relay and each projector sleeps.
    steps: u32,
    asleep: [[u32; 2]; 2],
    /// Whether topics lose records in this case. Afterwards less can be said about them.
    may_tear: bool,
    /// Progress as it was after the step before.
    progress: [i64; PARTITIONS as usize],
}

impl World {
    fn new(off: Option<Safeguard>, may_tear: bool) -> Self {
        let intents = intents();
        Self {
            store: Store::new(off),
            writers: (0..2).map(|_| Writer::default()).collect(),
            clients: clients(&intents),
            intents,
            leases: Leases::default(),
            topics: Topics::default(),
            wires: Wires::default(),
            relays: vec![Relay::new(1), Relay::new(2)],
            relays_started: 2,
            read: ReadDatabase::new(off),
            assigned: [0, 1],
            projectors: (0..2).map(Projector::new).collect(),
            operator: Operator::default(),
            trouble: Trouble::default(),
            now: 0,
            epoch_start: Instant::now(),
            steps: 0,
            asleep: [[0; 2]; 2],
            may_tear,
            progress: [0; PARTITIONS as usize],
        }
    }

    fn clock(&self) -> Instant {
        self.epoch_start + Duration::from_secs(self.now)
    }

    /// What happens next.
    fn step(&mut self, choice: u32) -> Result<(), String> {
        self.steps += 1;
        let dice = choice / 16;
        match choice % 16 {
            0 => self.fault(dice),
            1 => self.now += u64::from(dice % 15),
            _ => self.act(dice % 16, dice / 16, false)?,
        }
        self.check()
    }

    /// One step of one actor.
    fn act(&mut self, actor: u32, dice: u32, is_calm: bool) -> Result<(), String> {
        let which = |count: usize| usize::try_from(dice).unwrap() % count;
        match actor {
            0..=2 => {
                let at = usize::try_from(actor).unwrap();
                self.clients[at].step(&self.store, &mut self.writers, dice);
            }
            3 | 4 => {
                let at = usize::try_from(actor).unwrap() - 3;
                self.writers[at].step(&mut self.store, &mut self.clients)?;
            }
            5 | 6 => self.serve(dice)?,
            7..=9 => {
                let at = which(self.relays.len());
                if self.asleep[0][at] > self.steps {
                    return Ok(());
                }
                let clock = self.clock();
                let (store, leases, topics, wires) = (&self.store, &mut self.leases, &self.topics, &mut self.wires);
                let mut around = relays::Around { store, leases, topics, wires, now: self.now, clock };
                self.relays[at].step(&mut around, dice / 2)?;
            }
            10 | 11 => self.wires.step(&mut self.topics, dice, is_calm),
            12..=14 => {
                let at = which(self.projectors.len());
                if self.asleep[1][at] > self.steps {
                    return Ok(());
                }
                let clock = self.clock();
                let (store, topics, read) = (&self.store, &self.topics, &mut self.read);
                let (assigned, trouble) = (&self.assigned, &self.trouble);
                let mut around = projectors::Around { store, topics, read, assigned, trouble, clock };
                self.projectors[at].step(&mut around, dice / 2)?;
            }
            _ => self.operator.step(&mut self.read, &self.trouble, dice)?,
        }
        Ok(())
    }

    /// One statement of a call in the store; its end is told to whoever still waits for it.
    fn serve(&mut self, dice: u32) -> Result<(), String> {
        let calls: Vec<u64> = self.store.calls.keys().copied().collect();
        let Some(call) = calls.get(usize::try_from(dice).unwrap() % calls.len().max(1)) else { return Ok(()) };
        if let Some(ended) = self.store.step(*call)? {
            self.writers.iter_mut().for_each(|writer| writer.hear(*call, &ended));
        }
        Ok(())
    }

    fn fault(&mut self, dice: u32) {
        let (which, dice) = (dice % 14, dice / 14);
        let at = usize::try_from(dice % 2).unwrap();
        let partition = i32::try_from(at).unwrap();
        match which {
            0 => self.writers[at].crash(&mut self.store, dice.is_multiple_of(4)),
            1 => self.start_relay(at),
            2 => self.projectors[at].crash(&mut self.read),
            3 => self.operator.crash(&mut self.read),
            4 | 5 => self.assigned[at] = usize::try_from(dice / 2 % 2).unwrap(),
            // The server ends the transactions that have been idle for long.
            6 => self.read.roll_back(partition),
            7 => drop(self.trouble.poison.insert(self.some_place(partition, dice))),
            8 => drop(self.trouble.unreadable.insert(self.some_place(partition, dice))),
            9 if dice.is_multiple_of(4) => self.mend(),
            9 => {}
            10 if dice.is_multiple_of(3) => self.projectors[at].silence(),
            10 if self.may_tear => self.topics[at].spoil(dice / 3),
            10 => self.topics[at].land(None),
            11 if self.may_tear => self.tear(at, dice / 2),
            11 => {}
            _ => self.put_to_sleep(at, dice / 2),
        }
    }

    /// A relay or a projector stands still until its leases have run out and its partitions are another's.
    fn put_to_sleep(&mut self, at: usize, dice: u32) {
        let who = usize::try_from(dice % 2).unwrap();
        self.asleep[who][at] = self.steps + dice / 2 % SLEEP_STEPS_MAX;
        match who {
            0 => self.now += LEASE + 1,
            _ => self.assigned = [1 - at; PARTITIONS as usize],
        }
    }

    /// An event that was or will be appended.
    fn some_place(&self, partition: i32, dice: u32) -> (i32, i64) {
        (partition, 1 + i64::from(dice / 2 % COMMANDS / 2))
    }

    fn mend(&mut self) {
        self.trouble = Trouble::default();
    }

    /// A relay dies and another one comes. What it had on the way goes on or does not.
    fn start_relay(&mut self, at: usize) {
        self.relays_started += 1;
        self.relays[at] = Relay::new(self.relays_started);
    }

    /// A topic loses its newest records.
    fn tear(&mut self, at: usize, dice: u32) {
        let topic = &mut self.topics[at];
        let kept = usize::try_from(dice).unwrap() % (topic.records.len() + 1);
        topic.records.truncate(kept);
        topic.is_torn = true;
        self.wires.cut(i32::try_from(at).unwrap());
    }

    /// What holds after every step.
    fn check(&mut self) -> Result<(), String> {
        self.check_log()?;
        self.check_acknowledged()?;
        for partition in 0..PARTITIONS {
            self.check_topic(partition)?;
        }
        self.read.check(&self.store)
    }

    /// Positions and sequences are gapless and unique; a key is applied once, and a claim has one holder.
    fn check_log(&self) -> Result<(), String> {
        let mut sequences = BTreeMap::new();
        let mut commands = BTreeMap::new();
        for (partition, events) in (0..).zip(&self.store.events) {
            for (position, event) in (1..).zip(events) {
                if event.position != position || event.partition != partition {
                    return Err(format!("partition {partition} has a gap at {position}"));
                }
                let stream = (event.header.subject, event.header.aggregate_type.as_str());
                let sequence = sequences.entry(stream).or_insert(0);
                *sequence += 1;
                if event.header.sequence != *sequence {
                    return Err(format!("a stream has a gap at {partition}-{position}"));
                }
                *commands.entry(key_of(event)).or_insert(0_usize) += 1;
            }
        }
        let mut claims = BTreeMap::new();
        for (key, events) in commands {
            let intent = &self.intents[usize::try_from(key).unwrap()];
            if events != intent.writes.len() {
                return Err(format!("command {key} has {events} events instead of {}", intent.writes.len()));
            }
            if let Some(other) = intent.claim.and_then(|claim| claims.insert(claim, key)) {
                return Err(format!("commands {other} and {key} have the same claim"));
            }
        }
        Ok(())
    }

    /// What was acknowledged is there, where it was said to be; what was refused is not.
    fn check_acknowledged(&self) -> Result<(), String> {
        for client in &self.clients {
            for (key, receipt) in &client.acknowledged {
                let is_there = |(partition, position): &(i32, i64)| {
                    let event = self.store.of(*partition).get(usize::try_from(*position - 1).unwrap());
                    event.is_some_and(|event| key_of(event) == *key)
                };
                if !receipt.iter().all(is_there) {
                    return Err(format!("command {key} was acknowledged and is not there"));
                }
            }
            for key in &client.refused {
                if self.store.events.iter().flatten().any(|event| key_of(event) == *key) {
                    return Err(format!("command {key} was refused and is there"));
                }
            }
        }
        Ok(())
    }

    /// Without its repeats, a partition of the topic is a prefix of the log's, and progress follows it. One that has lost
    /// records may have a gap, which its consumers fill.
    fn check_topic(&mut self, partition: i32) -> Result<(), String> {
        let at = usize::try_from(partition).unwrap();
        let topic = &self.topics[at];
        let (mut kept, mut highest) = (0, 0);
        for event in topic.records.iter().filter_map(|record| record.event.as_ref()) {
            if event.position > kept + 1 && !topic.is_torn {
                return Err(format!("the topic has a gap after {partition}-{kept}"));
            }
            kept = kept.max(event.position);
            highest = highest.max(event.position);
            if self.store.range(partition, event.position - 1, 1).first() != Some(event) {
                return Err(format!("the topic has what the log has not at {partition}-{}", event.position));
            }
        }
        let progress = self.leases.progress[at];
        if !topic.is_torn && (progress > highest || progress < self.progress[at]) {
            return Err(format!("progress of partition {partition} is {progress}, the topic ends at {highest}"));
        }
        self.progress[at] = progress;
        Ok(())
    }

    /// No more faults: everyone gets turns, and reaches the head.
    fn heal(&mut self, seed: u32) -> Result<(), String> {
        self.mend();
        self.asleep = [[0; 2]; 2];
        (0..self.relays.len()).for_each(|at| self.start_relay(at));
        let mut dice = seed;
        for round in 0..ROUNDS_TO_HEAL {
            for actor in 0..16 {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // The lower bits of such numbers repeat soon.
                self.act(actor, dice >> 8, true)?;
            }
            self.check()?;
            self.now += 1;
            if round > ROUNDS_OF_REST && self.is_level() {
                return Ok(());
            }
        }
        Err(format!("not level after {ROUNDS_TO_HEAL} rounds without faults: {}", self.lag()))
    }

    fn is_level(&self) -> bool {
        let is_level = |(partition, head): (i32, i64)| {
            let at = usize::try_from(partition).unwrap();
            self.leases.progress[at] == head && self.read.checkpoints[at].position == head
        };
        let is_done = |client: &Client| client.wanted.is_empty();
        self.clients.iter().all(is_done)
            && self.read.parked.is_empty()
            && self.store.calls.is_empty()
            && self.store.heads().into_iter().all(is_level)
    }

    fn lag(&self) -> String {
        let wanted: usize = self.clients.iter().map(|client| client.wanted.len()).sum();
        let checkpoints: Vec<i64> = self.read.checkpoints.iter().map(|checkpoint| checkpoint.position).collect();
        let (heads, progress, parked) = (self.store.heads(), self.leases.progress, self.read.parked.len());
        format!(
            "{wanted} commands left, heads {heads:?}, published {progress:?}, applied {checkpoints:?}, {parked} parked"
        )
    }
}

/// Two subjects in each partition.
fn subjects() -> Vec<Uuid> {
    let of =
        |partition| (1..).map(Uuid::from_u128).filter(move |id| partition_of(*id, PARTITIONS) == partition).take(2);
    (0..PARTITIONS).flat_map(of).collect()
}

/// What the clients want: records of one subject, decisions that lean on another record of it or on another partition,
/// bundles over both partitions, and two that want the same number.
fn intents() -> Vec<Intent> {
    let subjects = subjects();
    let intent = |key: u32| {
        let (this, other) = (subjects[key as usize % 4], subjects[(key as usize + 2) % 4]);
        let (writes, leans) = match key % 5 {
            0 => (vec![(this, ALLERGY)], vec![]),
            1 => (vec![(this, PRESCRIPTION)], vec![this]),
            2 => (vec![(this, ALLERGY), (other, ALLERGY)], vec![]),
            3 => (vec![(this, PRESCRIPTION)], vec![other]),
            _ => (vec![(this, ALLERGY), (this, PRESCRIPTION)], vec![]),
        };
        Intent { key, writes, leans, claim: (key % 5 == 1).then_some(key / 10) }
    };
    (0..COMMANDS).map(intent).collect()
}

fn clients(intents: &[Intent]) -> Vec<Client> {
    let of = |number: usize| intents.iter().skip(number).step_by(3).cloned().collect();
    (0..3).map(|number| Client::new(number, of(number))).collect()
}
