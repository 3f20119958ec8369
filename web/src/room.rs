//! How many bytes of bodies a process holds at a time.
//!
//! A body takes its room as its bytes arrive, not when they are announced: who sends nothing keeps nobody out.

use std::sync::Arc;

use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// Room is taken in steps of so many bytes: few enough that thousands of beginnings fit, enough that a large body asks rarely.
const STEP_BYTES: usize = 16 * 1024;

/// The room that is left. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// The room that one body has; it is free again when this is dropped.
#[derive(Debug)]
pub struct Held {
    room: Room,
    steps: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for so many bytes.
    pub fn of_bytes(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / STEP_BYTES)))
    }

    /// Room for a body that has not begun to arrive. One that is announced as larger than what is left need not be sent.
    pub fn expect(&self, announced: Option<usize>) -> Result<Held, Problem> {
        if announced.is_some_and(|bytes| steps_of(bytes) > self.0.available_permits()) {
            return Err(full());
        }
        Ok(Held { room: self.clone(), steps: None })
    }
}

impl Held {
    /// Takes what is missing for a body that has grown to so many bytes.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.steps.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(missing) = steps_of(bytes).checked_sub(held).filter(|missing| *missing > 0) else { return Ok(()) };
        let missing = u32::try_from(missing).map_err(|_| full())?;
        let more = self.room.0.clone().try_acquire_many_owned(missing).map_err(|_| full())?;
        match &mut self.steps {
            Some(steps) => steps.merge(more),
            None => self.steps = Some(more),
        }
        Ok(())
    }
}

fn steps_of(bytes: usize) -> usize {
    bytes.div_ceil(STEP_BYTES)
}

fn full() -> Problem {
    counter!("bodies_without_room_total").increment(1);
    Problem::overloaded().with_detail("Too many bytes of large bodies are being worked on.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_takes_nothing_and_what_arrives_is_counted_to_the_step() {
        let room = Room::of_bytes(10 * STEP_BYTES);
        let mut idle: Vec<Held> = (0..1_000).map(|_| room.expect(Some(10 * STEP_BYTES)).unwrap()).collect();
        let mut growing = room.expect(None).unwrap();
        for (bytes, left) in [(1, 9), (STEP_BYTES, 9), (STEP_BYTES + 1, 8), (9 * STEP_BYTES, 1)] {
            growing.grow(bytes).unwrap();
            assert_eq!(room.0.available_permits(), left, "{bytes}");
        }
        assert_eq!(room.expect(Some(STEP_BYTES + 1)).unwrap_err().slug(), "overloaded");
        idle[0].grow(1).unwrap();
        assert_eq!(growing.grow(9 * STEP_BYTES + 1).unwrap_err().slug(), "overloaded");
        assert_eq!(idle[1].grow(1).unwrap_err().slug(), "overloaded");
        drop(growing);
        idle[1].grow(9 * STEP_BYTES).unwrap();
        drop(idle);
        assert_eq!(room.0.available_permits(), 10);
    }
}
