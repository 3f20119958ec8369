//! Which events of a batch are applied and which go to the list of parked ones: plain values, without the database.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use crate::engine::fault::Reason;
use crate::engine::open::Unreadable;
use crate::read_model::Event;

/// Where an event stands.
pub(crate) trait Stands {
    fn position(&self) -> i64;
    fn subject(&self) -> Uuid;
}

impl Stands for Event {
    fn position(&self) -> i64 {
        self.position
    }

    fn subject(&self) -> Uuid {
        self.subject
    }
}

/// The parked subjects of a partition, and what a batch adds to their queues.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Parked before this batch or by it: later events of these go behind.
    subjects: HashSet<Uuid>,
    /// By position, so that holding an event back twice parks it once.
    rows: BTreeMap<i64, Reason>,
}

impl Queues {
    /// With the subjects that are parked already.
    pub(crate) fn new(subjects: HashSet<Uuid>) -> Self {
        Self { subjects, rows: BTreeMap::new() }
    }

    /// Takes out the events whose subject is parked, and puts them behind; answers the others.
    pub(crate) fn hold_back<E: Stands + Clone>(&mut self, events: &[E]) -> Vec<E> {
        let (behind, free): (Vec<&E>, Vec<&E>) =
            events.iter().partition(|event| self.subjects.contains(&event.subject()));
        for event in behind {
            self.rows.entry(event.position()).or_insert_with(Reason::behind);
        }
        free.into_iter().cloned().collect()
    }

    /// Whether anything has to be held back.
    pub(crate) fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// What goes to the list: positions, and why.
    pub(crate) fn rows(&self) -> &BTreeMap<i64, Reason> {
        &self.rows
    }

    /// Undoes [`Self::hold_back`] for events that will be looked at again, in smaller portions.
    fn release<E: Stands>(&mut self, events: &[E]) {
        for event in events {
            self.rows.remove(&event.position());
        }
    }

    fn park(&mut self, position: i64, subject: Uuid, reason: Reason) {
        let reason = if self.subjects.insert(subject) { reason } else { Reason::behind() };
        self.rows.insert(position, reason);
    }
}

/// Looks for the events at fault in halves of halves, until each stands alone and is parked.
pub(crate) struct Search<'a, E> {
    /// A stack, its first on top.
    work: Vec<Work<'a, E>>,
    /// What is being tried, of which the parked subjects' events are held back.
    tried: &'a [E],
}

enum Work<'a, E> {
    Apply(&'a [E]),
    Park(Unreadable),
}

impl<'a, E: Stands + Clone> Search<'a, E> {
    /// Over the readable events of a batch, cut where an unreadable one stands.
    pub(crate) fn new(events: &'a [E], unreadable: &[Unreadable]) -> Self {
        let (mut work, mut rest) = (Vec::new(), events);
        for unreadable in unreadable {
            let (before, after) = rest.split_at(rest.partition_point(|event| event.position() < unreadable.position));
            work.extend([Work::Apply(before), Work::Park(*unreadable)]);
            rest = after;
        }
        work.push(Work::Apply(rest));
        work.retain(|item| !matches!(item, Work::Apply([])));
        work.reverse();
        Self { work, tried: &[] }
    }

    /// The events to be applied next, in a savepoint; nothing when all are applied or parked.
    pub(crate) fn next(&mut self, queues: &mut Queues) -> Option<Vec<E>> {
        loop {
            match self.work.pop()? {
                Work::Park(Unreadable { position, subject, reason }) => {
                    queues.park(position, subject, Reason::unreadable(reason));
                }
                Work::Apply(events) => {
                    self.tried = events;
                    return Some(queues.hold_back(events));
                }
            }
        }
    }

    /// What was answered last has failed for this reason: what stands at one position is parked, several are looked at again
    /// by halves.
    pub(crate) fn failed(&mut self, queues: &mut Queues, free: &[E], reason: Reason) {
        let Some((first, second)) = halves(free).and_then(|_| halves(self.tried)) else {
            if let Some(event) = free.first() {
                queues.park(event.position(), event.subject(), reason);
            }
            return;
        };
        self.work.extend([Work::Apply(second), Work::Apply(first)]);
        queues.release(self.tried);
    }
}

/// Cuts events in two between two positions; nothing if all of them are at one, as those are which are one in the log.
fn halves<E: Stands>(events: &[E]) -> Option<(&[E], &[E])> {
    let middle = events.get(events.len() / 2)?.position();
    let before = events.partition_point(|event| event.position() < middle);
    let cut = if before > 0 { before } else { events.partition_point(|event| event.position() <= middle) };
    (cut < events.len()).then(|| events.split_at(cut))
}
