//! Which of the waiting appends go into the next call together.
//!
//! The append function checks every command against the tables alone, so two commands of one call must not touch the
//! same thing, unless both only look at it. What does not fit waits for the next call, ahead of everything later.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use super::prepare::Prepared;
use crate::event::ERASED;

/// How many commands, events and bytes one call carries at most. A command that is larger alone still goes, alone.
pub(crate) const BATCH_COMMANDS_MAX: usize = 512;
const BATCH_EVENTS_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a command touches, as hashes: a collision makes a command wait for one batch, and nothing worse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Footprint {
    /// What it must have for itself: streams it continues, claims, its idempotency key.
    writes: Vec<u64>,
    /// Subject tails and subjects that it moves. Two commands may both move one, as long as none of them looks at it.
    moves: Vec<u64>,
    reads: Vec<u64>,
    events: usize,
    bytes: usize,
}

/// The things that two commands can collide on.
#[derive(Hash)]
enum Place<'a> {
    Stream(&'a str, &'a str),
    Tail(&'a str, uuid::Uuid),
    Subject(uuid::Uuid),
    Key(&'a [u8; 32]),
    Claim(&'a [u8; 32]),
}

impl Footprint {
    pub(crate) fn of(prepared: &Prepared) -> Self {
        let hash = |place: Place| HASHER.hash_one(place);
        let mut footprint = Self { events: prepared.events.len(), bytes: prepared.bytes(), ..Self::default() };
        footprint.writes.extend(prepared.key.iter().map(|key| hash(Place::Key(key))));
        footprint.writes.extend(prepared.takes.iter().map(|take| hash(Place::Claim(&take.claim))));
        footprint.writes.extend(prepared.releases.iter().map(|release| hash(Place::Claim(&release.claim))));
        for event in &prepared.events {
            let aggregate_type = event.header.aggregate_type.as_str();
            footprint.writes.push(hash(Place::Stream(aggregate_type, &event.aggregate_id)));
            footprint.moves.push(hash(Place::Tail(aggregate_type, event.header.subject)));
            footprint.moves.push(hash(Place::Subject(event.header.subject)));
            if event.header.event_type == ERASED {
                // Nothing else of the subject may go with it: it could come to stand behind.
                footprint.reads.push(hash(Place::Subject(event.header.subject)));
            }
        }
        footprint.reads.extend(prepared.streams.iter().map(|(kind, id, _)| hash(Place::Stream(kind, id))));
        footprint.reads.extend(prepared.tails.iter().map(|(kind, subject, _)| hash(Place::Tail(kind, *subject))));
        footprint
    }
}

/// Has a footprint.
pub(crate) trait Touches {
    fn footprint(&self) -> &Footprint;
}

/// Takes the next batch out of the queue: in order, skipping what collides with a command already taken or skipped.
///
/// A skipped command counts as taken for those behind it, so that of two commands on one stream the earlier always goes
/// first. The first of the queue always goes, so nothing waits for ever.
pub(crate) fn pick<T: Touches>(waiting: &mut VecDeque<T>) -> Vec<T> {
    let mut taken = Taken::default();
    let (mut picked, mut left) = (Vec::new(), VecDeque::new());
    let (mut events, mut bytes) = (0, 0);
    while let Some(command) = waiting.pop_front() {
        let footprint = command.footprint();
        let collides = taken.collides(footprint);
        taken.add(footprint);
        let full = picked.len() == BATCH_COMMANDS_MAX
            || events + footprint.events > BATCH_EVENTS_MAX
            || bytes + footprint.bytes > BATCH_BYTES_MAX;
        if full && !picked.is_empty() {
            left.push_back(command);
            break;
        }
        if collides {
            left.push_back(command);
            continue;
        }
        events += footprint.events;
        bytes += footprint.bytes;
        picked.push(command);
    }
    left.append(waiting);
    *waiting = left;
    picked
}

/// The places that the commands looked at so far touch.
#[derive(Default)]
struct Taken {
    written: HashSet<u64>,
    moved: HashSet<u64>,
    read: HashSet<u64>,
}

impl Taken {
    fn collides(&self, footprint: &Footprint) -> bool {
        footprint.writes.iter().any(|place| self.written.contains(place) || self.read.contains(place))
            || footprint.moves.iter().any(|place| self.read.contains(place))
            || footprint.reads.iter().any(|place| self.written.contains(place) || self.moved.contains(place))
    }

    fn add(&mut self, footprint: &Footprint) {
        self.written.extend(&footprint.writes);
        self.moved.extend(&footprint.moves);
        self.read.extend(&footprint.reads);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Numbered(usize, Footprint);

    impl Touches for Numbered {
        fn footprint(&self) -> &Footprint {
            &self.1
        }
    }

    fn commands() -> impl Strategy<Value = Vec<Numbered>> {
        let places = || vec(0_u64..30, 0..3);
        // Tails are numbered apart from streams, as their hashes are.
        let moves = vec(30_u64..40, 0..3);
        let reads = vec(0_u64..40, 0..3);
        let footprint = (places(), moves, reads, 0_usize..3_000, 0_usize..6_000_000)
            .prop_map(|(writes, moves, reads, events, bytes)| Footprint { writes, moves, reads, events, bytes });
        vec(footprint, 1..40).prop_map(|all| all.into_iter().enumerate().map(|(at, it)| Numbered(at, it)).collect())
    }

    fn collide(left: &Footprint, right: &Footprint) -> bool {
        let meet = |left: &[u64], right: &[u64]| left.iter().any(|place| right.contains(place));
        let look =
            |left: &Footprint, right: &Footprint| meet(&left.reads, &right.writes) || meet(&left.reads, &right.moves);
        meet(&left.writes, &right.writes) || look(left, right) || look(right, left)
    }

    fn numbers<'a>(commands: impl IntoIterator<Item = &'a Numbered>) -> Vec<usize> {
        commands.into_iter().map(|command| command.0).collect()
    }

    proptest! {
        #[test]
        fn a_batch_is_disjoint_in_order_and_within_its_limits(all in commands()) {
            let mut waiting = VecDeque::from(all.clone());
            let picked = pick(&mut waiting);

            prop_assert_eq!(picked.first().map(|first| first.0), Some(0));
            for (at, left) in picked.iter().enumerate() {
                for right in &picked[at + 1..] {
                    prop_assert!(!collide(&left.1, &right.1));
                }
            }
            prop_assert!(numbers(&picked).is_sorted() && numbers(&waiting).is_sorted());
            let mut together = numbers(picked.iter().chain(&waiting));
            together.sort_unstable();
            prop_assert_eq!(together, numbers(&all));
            if picked.len() > 1 {
                prop_assert!(picked.iter().map(|command| command.1.events).sum::<usize>() <= BATCH_EVENTS_MAX);
                prop_assert!(picked.iter().map(|command| command.1.bytes).sum::<usize>() <= BATCH_BYTES_MAX);
            }
        }

        #[test]
        fn of_two_that_collide_the_earlier_goes_first(all in commands()) {
            let mut waiting = VecDeque::from(all.clone());
            let mut batch_of = vec![0; all.len()];
            for batch in 0.. {
                if waiting.is_empty() {
                    break;
                }
                for command in pick(&mut waiting) {
                    batch_of[command.0] = batch;
                }
            }
            for (at, left) in all.iter().enumerate() {
                for right in &all[at + 1..] {
                    prop_assert!(!collide(&left.1, &right.1) || batch_of[left.0] < batch_of[right.0]);
                }
            }
        }
    }
}
