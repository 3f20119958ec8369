//! Plays cases, makes smaller what fails, and holds the model against itself without one of the safeguards.

use std::cell::RefCell;

use nexus_event_store::sabotage::Safeguard;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::World;

/// Steps of a case, at most.
const STEPS_MAX: usize = 5_000;
/// Cases of the suite, and the first of their seeds, unless the environment says otherwise.
const CASES: u64 = 200;
const FIRST_SEED: u64 = 1;
/// Tries to make a case smaller.
const SHRINKS_MAX: u32 = 1_000;
/// Cases within which a safeguard that is off has to show.
const CASES_WITHOUT_SAFEGUARD: u64 = 400;

/// What cases came across: a promise that nothing has tried to break is not shown.
#[derive(Debug, Default)]
struct Tally {
    events: usize,
    duplicate_commands: usize,
    broken_indexes: usize,
    repeated_records: usize,
    gaps_filled: usize,
    retaken: usize,
    parked: usize,
}

impl Tally {
    fn add(&mut self, world: &World) {
        let records: usize = world.topics.iter().map(|topic| topic.records.len()).sum();
        let events: usize = world.store.events.iter().map(Vec::len).sum();
        self.events += events;
        self.duplicate_commands += world.store.duplicates;
        self.broken_indexes += world.store.broken;
        self.repeated_records += records.saturating_sub(events);
        self.gaps_filled += world.read.gaps_filled;
        self.retaken += world.read.retaken;
        self.parked += world.read.ever_parked;
    }
}

/// Plays one case.
fn play(choices: &[u32], off: Option<Safeguard>, tally: &RefCell<Tally>) -> Result<(), String> {
    let may_tear = choices.first().is_some_and(|choice| choice.is_multiple_of(2));
    let mut world = World::new(off, may_tear);
    for choice in choices {
        world.step(*choice)?;
    }
    world.heal(choices.first().copied().unwrap_or(1))?;
    tally.borrow_mut().add(&world);
    Ok(())
}

/// A broken promise, the seed of the case that broke it, and the case.
struct Counterexample {
    seed: u64,
    promise: String,
    choices: Vec<u32>,
}

/// Plays the case of a seed.
fn find(seed: u64, off: Option<Safeguard>, tally: &RefCell<Tally>) -> Option<Counterexample> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome =
        runner.run(&vec(any::<u32>(), 0..STEPS_MAX), |choices| play(&choices, off, tally).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(promise, choices)) => Some(Counterexample { seed, promise: promise.to_string(), choices }),
        Err(TestError::Abort(reason)) => panic!("the case of seed {seed} could not be played: {reason}"),
    }
}

/// Leaves out what is not needed for a case to fail: the largest pieces first.
fn made_smaller(mut choices: Vec<u32>, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let (mut piece, mut tries) = (choices.len() / 2, 0);
    while piece > 0 {
        let mut at = 0;
        while at < choices.len() && tries < SHRINKS_MAX {
            tries += 1;
            let end = (at + piece).min(choices.len());
            let without = [&choices[..at], &choices[end..]].concat();
            if fails(&without) {
                choices = without;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    choices
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_fails_nothing_is_lost_repeated_or_out_of_order() {
    let first = from_environment("NEXUS_SIMULATION_SEED", FIRST_SEED);
    let cases = from_environment("NEXUS_SIMULATION_CASES", CASES);
    let tally = RefCell::default();
    for seed in first..first + cases {
        if let Some(Counterexample { seed, promise, choices }) = find(seed, None, &tally) {
            let choices = made_smaller(choices, |choices| play(choices, None, &RefCell::default()).is_err());
            panic!(
                "{promise}\nThe case again: NEXUS_SIMULATION_SEED={seed} NEXUS_SIMULATION_CASES=1\n\
                 What is left of it, {} steps: {choices:?}",
                choices.len()
            );
        }
    }
    let tally = tally.into_inner();
    println!("{cases} cases from seed {first}: {tally:?}");
    let Tally { events, duplicate_commands, broken_indexes, repeated_records, gaps_filled, retaken, parked } = tally;
    let met = [duplicate_commands, broken_indexes, repeated_records, gaps_filled, retaken, parked];
    assert!(
        cases < CASES || (events > 0 && met.iter().all(|count| *count > 0)),
        "nothing has tried to break a promise"
    );
}

/// The model without one of the safeguards: some case shows why it is there.
#[track_caller]
fn shows_without(safeguard: Safeguard) {
    let tally = RefCell::default();
    let found = (FIRST_SEED..FIRST_SEED + CASES_WITHOUT_SAFEGUARD).find_map(|seed| find(seed, Some(safeguard), &tally));
    let Some(Counterexample { seed, promise, choices }) = found else {
        panic!("{CASES_WITHOUT_SAFEGUARD} cases without it, and nothing is missed: {safeguard:?}");
    };
    println!("without the {safeguard:?}, seed {seed} in {} steps: {promise}", choices.len());
}

#[test]
fn without_the_epoch_fence_a_promise_breaks() {
    shows_without(Safeguard::EpochFence);
}

#[test]
fn without_the_position_check_a_promise_breaks() {
    shows_without(Safeguard::PositionCheck);
}

#[test]
fn without_the_idempotency_row_a_promise_breaks() {
    shows_without(Safeguard::IdempotencyRow);
}

#[test]
fn without_the_head_lock_a_promise_breaks() {
    shows_without(Safeguard::HeadLock);
}

#[test]
fn without_the_one_transaction_a_promise_breaks() {
    shows_without(Safeguard::OneTransaction);
}
