//! Group commit for new keys: while one round of inserts is under way, the next collects.
//!
//! A burst of registrations then costs one durable write a round, not one each.

use std::collections::{BTreeSet, HashMap};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::store::{KeyStore, Stored};
use crate::error::{Error, KeyError};

/// How many calls may wait; beyond it callers are told to come back.
const QUEUE_CALLS_MAX: usize = 4_096;
/// How many calls one round takes.
const ROUND_CALLS_MAX: usize = 512;

type Rows = Vec<(Uuid, Stored)>;

struct Call {
    subjects: Vec<Uuid>,
    answer: oneshot::Sender<Result<Rows, Error>>,
}

/// The way to the task that makes keys. The task ends when the last handle is dropped.
pub(super) struct Provisioner {
    calls: mpsc::Sender<Call>,
}

impl Provisioner {
    pub(super) fn start(store: KeyStore) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE_CALLS_MAX);
        tokio::spawn(run(store, queue));
        Self { calls }
    }

    pub(super) async fn ensure(&self, subjects: Vec<Uuid>) -> Result<Rows, Error> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(Call { subjects, answer }).map_err(|_| Error::Overloaded)?;
        answered.await.map_err(|_| Error::Unavailable(None))?
    }
}

async fn run(store: KeyStore, mut queue: mpsc::Receiver<Call>) {
    let mut calls = Vec::with_capacity(ROUND_CALLS_MAX);
    while queue.recv_many(&mut calls, ROUND_CALLS_MAX).await > 0 {
        let subjects: BTreeSet<_> = calls.iter().flat_map(|call| call.subjects.iter().copied()).collect();
        let rows = store.provision(&Vec::from_iter(subjects)).await;
        if let Err(error) = &rows {
            tracing::warn!(error = error as &dyn std::error::Error, "subject keys could not be made");
        }
        for call in calls.drain(..) {
            let answer = match &rows {
                Ok(rows) => pick(&call.subjects, rows),
                Err(_) => Err(Error::Unavailable(None)),
            };
            // A caller that went away needs no answer.
            drop(call.answer.send(answer));
        }
    }
}

fn pick(subjects: &[Uuid], rows: &HashMap<Uuid, Stored>) -> Result<Rows, Error> {
    let row = |subject: &Uuid| match rows.get(subject) {
        Some(stored) => Ok((*subject, stored.clone())),
        None => Err(Error::Key { subject: *subject, source: KeyError::NotProvisioned }),
    };
    subjects.iter().map(row).collect()
}
