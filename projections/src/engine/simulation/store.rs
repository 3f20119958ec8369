//! The event store: what is committed, and the calls of the append function that are under way in the server.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use nexus_event_store::sabotage::Safeguard;
use nexus_event_store::{Header, SealedEvent, partition_of};
use uuid::Uuid;

use super::PARTITIONS;

/// What a client wants done; it is decided anew with every try.
#[derive(Clone, Debug)]
pub struct Intent {
    pub key: u32,
    pub writes: Vec<(Uuid, &'static str)>,
    /// Subjects whose allergies must be known to whoever decides.
    pub leans: Vec<Uuid>,
    pub claim: Option<u32>,
}

/// A decision, with what it was made from.
#[derive(Clone, Debug)]
pub struct Command {
    pub intent: Intent,
    /// Of each stream written, where it stood.
    pub sequences: Vec<i64>,
    /// Of each subject leaned on, the end of its partition.
    pub tails: Vec<i64>,
}

/// Where the events of a command are: partition and last position.
pub type Receipt = Vec<(i32, i64)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Appended(Receipt),
    Duplicate(Receipt),
    Conflict,
    Taken,
}

impl Command {
    pub fn locks(&self) -> BTreeSet<i32> {
        let subjects = self.intent.writes.iter().map(|(subject, _)| *subject).chain(self.intent.leans.iter().copied());
        subjects.map(|subject| partition_of(subject, PARTITIONS)).collect()
    }

    /// Whether both may go into one call: they touch nothing in common.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        let subjects = |command: &Self| -> BTreeSet<Uuid> {
            let writes = command.intent.writes.iter().map(|(subject, _)| *subject);
            writes.chain(command.intent.leans.iter().copied()).collect()
        };
        let claims_meet = self.intent.claim.is_some() && self.intent.claim == other.intent.claim;
        subjects(self).is_disjoint(&subjects(other)) && self.intent.key != other.intent.key && !claims_meet
    }
}

/// A call of the append function. It goes on in the server whether or not its caller is alive.
#[derive(Clone, Debug)]
pub struct Call {
    commands: Vec<Command>,
    locked: BTreeSet<i32>,
    stage: Stage,
    answers: Vec<Option<Answer>>,
    placed: Vec<SealedEvent>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Locking,
    Checking,
    Inserting,
    Committing,
}

/// What a call came to: an answer for each command, or a unique index that was broken, and nothing done.
pub type Ended = Result<Vec<Answer>, ()>;

#[derive(Debug, Default)]
pub struct Store {
    pub events: [Vec<SealedEvent>; PARTITIONS as usize],
    pub remembered: BTreeMap<u32, Receipt>,
    pub claims: BTreeMap<u32, u32>,
    pub calls: BTreeMap<u64, Call>,
    calls_made: u64,
    /// The safeguard that is switched off.
    pub off: Option<Safeguard>,
    /// How many calls broke a unique index, and how many commands had been answered before.
    pub broken: usize,
    pub duplicates: usize,
}

impl Store {
    pub fn new(off: Option<Safeguard>) -> Self {
        Self { off, ..Self::default() }
    }

    pub fn of(&self, partition: i32) -> &Vec<SealedEvent> {
        &self.events[usize::try_from(partition).unwrap()]
    }

    pub fn head(&self, partition: i32) -> i64 {
        i64::try_from(self.of(partition).len()).unwrap()
    }

    pub fn heads(&self) -> Vec<(i32, i64)> {
        (0..PARTITIONS).map(|partition| (partition, self.head(partition))).collect()
    }

    pub fn range(&self, partition: i32, after: i64, limit: usize) -> Vec<SealedEvent> {
        self.of(partition).iter().skip(usize::try_from(after).unwrap()).take(limit).cloned().collect()
    }

    fn sequence(&self, (subject, kind): (Uuid, &str)) -> i64 {
        let stream = |event: &&SealedEvent| event.header.subject == subject && event.header.aggregate_type == kind;
        i64::try_from(self.of(partition_of(subject, PARTITIONS)).iter().filter(stream).count()).unwrap()
    }

    fn has_allergy_after(&self, subject: Uuid, position: i64) -> bool {
        self.of(partition_of(subject, PARTITIONS)).iter().any(|event| {
            event.position > position && event.header.subject == subject && event.header.aggregate_type == ALLERGY
        })
    }

    /// Decides: reads where everything stands now.
    pub fn decide(&self, intent: &Intent) -> Command {
        let sequences = intent.writes.iter().map(|stream| self.sequence(*stream)).collect();
        let tails = intent.leans.iter().map(|subject| self.head(partition_of(*subject, PARTITIONS))).collect();
        Command { intent: intent.clone(), sequences, tails }
    }

    pub fn call(&mut self, commands: Vec<Command>) -> u64 {
        self.calls_made += 1;
        let answers = commands.iter().map(|_| None).collect();
        let call = Call { commands, locked: BTreeSet::new(), stage: Stage::Locking, answers, placed: Vec::new() };
        self.calls.insert(self.calls_made, call);
        self.calls_made
    }

    /// The server notices that the caller is gone, or crashes: nothing is done, and the locks are free.
    pub fn roll_back(&mut self, call: u64) {
        self.calls.remove(&call);
    }

    /// One statement of a call.
    pub fn step(&mut self, id: u64) -> Result<Option<Ended>, String> {
        let Some(mut call) = self.calls.remove(&id) else { return Ok(None) };
        match call.stage {
            Stage::Locking => self.lock(&mut call),
            Stage::Checking => {
                for (command, answer) in call.commands.iter().zip(&mut call.answers) {
                    *answer = self.check(command);
                }
                call.stage = Stage::Inserting;
            }
            Stage::Inserting => {
                self.insert(&mut call);
                call.stage = Stage::Committing;
            }
            Stage::Committing => return self.commit(call).map(Some),
        }
        self.calls.insert(id, call);
        Ok(None)
    }

    /// Takes one head, in order; stays where it is while another call has it.
    fn lock(&self, call: &mut Call) {
        let wanted: BTreeSet<i32> = call.commands.iter().flat_map(Command::locks).collect();
        let next = wanted.difference(&call.locked).next().copied();
        match next {
            Some(partition) if self.off != Some(Safeguard::HeadLock) => {
                if !self.calls.values().any(|other| other.locked.contains(&partition)) {
                    call.locked.insert(partition);
                }
            }
            _ => call.stage = Stage::Checking,
        }
    }

    fn check(&self, command: &Command) -> Option<Answer> {
        if self.off != Some(Safeguard::IdempotencyRow)
            && let Some(receipt) = self.remembered.get(&command.intent.key)
        {
            return Some(Answer::Duplicate(receipt.clone()));
        }
        if !self.expectations_hold(command) {
            return Some(Answer::Conflict);
        }
        let held = command.intent.claim.and_then(|claim| self.claims.get(&claim));
        held.is_some_and(|holder| *holder != command.intent.key).then_some(Answer::Taken)
    }

    fn expectations_hold(&self, command: &Command) -> bool {
        let mut streams = command.intent.writes.iter().zip(&command.sequences);
        let mut tails = command.intent.leans.iter().zip(&command.tails);
        streams.all(|(stream, sequence)| self.sequence(*stream) == *sequence)
            && tails.all(|(subject, position)| !self.has_allergy_after(*subject, *position))
    }

    /// The heads are those of this moment, as the statement that inserts sees them.
    fn insert(&self, call: &mut Call) {
        let mut heads: BTreeMap<i32, i64> = self.heads().into_iter().collect();
        for (command, answer) in call.commands.iter().zip(&mut call.answers) {
            if answer.is_some() {
                continue;
            }
            let mut receipt = BTreeMap::new();
            for ((subject, kind), sequence) in command.intent.writes.iter().zip(&command.sequences) {
                let partition = partition_of(*subject, PARTITIONS);
                let head = heads.entry(partition).or_default();
                *head += 1;
                receipt.insert(partition, *head);
                call.placed.push(event(command.intent.key, (*subject, kind), *sequence + 1, (partition, *head)));
            }
            *answer = Some(Answer::Appended(receipt.into_iter().collect()));
        }
    }

    /// Everything at once, unless it breaks a unique index: a position, a stream, a key or a claim.
    fn commit(&mut self, call: Call) -> Result<Ended, String> {
        let appended = |answer: &Option<Answer>| matches!(answer, Some(Answer::Appended(_)));
        let done: Vec<_> = call.commands.iter().zip(&call.answers).filter(|(_, answer)| appended(answer)).collect();
        let is_new = |event: &SealedEvent| {
            let stream = (event.header.subject, event.header.aggregate_type.as_str());
            event.position > self.head(event.partition) && event.header.sequence > self.sequence(stream)
        };
        let keys = done.iter().any(|(command, _)| {
            self.off != Some(Safeguard::IdempotencyRow) && self.remembered.contains_key(&command.intent.key)
        });
        let claims = done.iter().any(|(command, _)| {
            let held = command.intent.claim.and_then(|claim| self.claims.get(&claim));
            held.is_some_and(|holder| *holder != command.intent.key)
        });
        let duplicate = |answer: &&Option<Answer>| matches!(answer, Some(Answer::Duplicate(_)));
        let duplicates = call.answers.iter().filter(duplicate).count();
        if keys || claims || !call.placed.iter().all(is_new) {
            self.broken += 1;
            return Ok(Err(()));
        }
        for (command, answer) in &done {
            if !self.expectations_hold(command) {
                return Err(format!("command {} was accepted on what is no longer so", command.intent.key));
            }
            if let (Some(claim), key) = (command.intent.claim, command.intent.key) {
                self.claims.insert(claim, key);
            }
            if let Some(Answer::Appended(receipt)) = answer {
                self.remembered.insert(command.intent.key, receipt.clone());
            }
        }
        self.duplicates += duplicates;
        for event in call.placed {
            self.events[usize::try_from(event.partition).unwrap()].push(event);
        }
        Ok(Ok(call.answers.into_iter().flatten().collect()))
    }
}

pub const ALLERGY: &str = "Allergy";
pub const PRESCRIPTION: &str = "Prescription";

/// The key of the command that an event came from.
pub fn key_of(event: &SealedEvent) -> u32 {
    u32::from_le_bytes(event.sealed[..4].try_into().unwrap())
}

fn event(key: u32, (subject, kind): (Uuid, &str), sequence: i64, (partition, position): (i32, i64)) -> SealedEvent {
    let header = Header {
        aggregate_type: kind.to_owned(),
        aggregate_id: subject,
        sequence,
        subject,
        event_type: format!("{kind}.Recorded"),
        event_version: "1.0".to_owned(),
        key_id: Uuid::nil(),
        recorded_at: DateTime::UNIX_EPOCH,
        traceparent: None,
    };
    SealedEvent { header, partition, position, sealed: key.to_le_bytes().to_vec() }
}
