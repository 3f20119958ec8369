//! What waits to be stored, and the task that stores it: while one batch is on its way, the next one collects.

use std::time::Duration;

use chrono::Utc;
use nexus_event_store::{Append, Error, EventLog, Expectation, Metadata, NewEvent, Outcome};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::batch::{AGGREGATE_TYPE, Batch, Completed, EVENT_TYPE, EVENT_VERSION, Opened};
use crate::lane::lane_of;

/// Openings and completions that one event takes. Five hundred patients of each would still fit the largest event; and a
/// batch of ordinary ones is some 200 kB.
const RECORDS_MAX: usize = 128;
/// How long completions wait for an opening to ride along with: nobody waits for them, and an append of their own would
/// keep the next openings waiting.
const COMPLETIONS_WAIT: Duration = Duration::from_millis(100);
/// At load, an append begins no sooner than this after the last one: openings gather for it rather than each paying for a
/// commit that it shares with few.
const APPENDS_APART: Duration = Duration::from_millis(10);
/// It is load if an append had so many openings. With fewer, nobody waits for the sake of others.
const OPENINGS_AT_LOAD: usize = 8;
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Something to be stored.
pub(crate) enum Item {
    /// Whoever waits for it is told.
    Opened(Opened, oneshot::Sender<()>),
    /// Gives its access's place back once it is stored.
    Completed(Completed, OwnedSemaphorePermit),
    /// Both at once.
    Happened(Opened, Completed, OwnedSemaphorePermit),
    /// Whoever waits is told when all that came before is stored.
    Flush(oneshot::Sender<()>),
}

/// A batch, and who is to be told of it.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    told: Vec<oneshot::Sender<()>>,
    places: Vec<OwnedSemaphorePermit>,
}

/// Stores what comes until nobody can send any more.
pub(crate) async fn run(log: EventLog, mut queue: mpsc::UnboundedReceiver<Item>) {
    let (recorder, mut due) = (Uuid::new_v4(), Instant::now());
    while let Some(first) = queue.recv().await {
        let mut gathered = Gathered::default();
        gathered.add(first);
        gathered.wait_for_an_opening(&mut queue).await;
        sleep_until(due).await;
        while gathered.len() < RECORDS_MAX
            && let Ok(next) = queue.try_recv()
        {
            gathered.add(next);
        }
        let at_load = gathered.batch.opened.len() >= OPENINGS_AT_LOAD;
        due = Instant::now() + if at_load { APPENDS_APART } else { Duration::ZERO };
        gathered.store(&log, lane_of(recorder, Utc::now())).await;
    }
}

impl Gathered {
    fn len(&self) -> usize {
        self.batch.opened.len() + self.batch.completed.len()
    }

    fn add(&mut self, item: Item) {
        match item {
            Item::Opened(opened, told) => {
                self.batch.opened.push(opened);
                self.told.push(told);
            }
            Item::Completed(completed, place) => {
                self.batch.completed.push(completed);
                self.places.push(place);
            }
            Item::Happened(opened, completed, place) => {
                self.batch.opened.push(opened);
                self.batch.completed.push(completed);
                self.places.push(place);
            }
            Item::Flush(told) => self.told.push(told),
        }
    }

    async fn wait_for_an_opening(&mut self, queue: &mut mpsc::UnboundedReceiver<Item>) {
        let deadline = Instant::now() + COMPLETIONS_WAIT;
        while self.told.is_empty()
            && self.len() < RECORDS_MAX
            && let Ok(Some(next)) = timeout_at(deadline, queue.recv()).await
        {
            self.add(next);
        }
    }

    /// Tries until it is stored. Meanwhile the places of the accesses stay taken, so that no more are begun than fit.
    async fn store(self, log: &EventLog, lane: Uuid) {
        let records = self.len();
        if records > 0 && !append_surely(log, self.batch, lane).await {
            metrics::counter!("access_records_lost_total").increment(records as u64);
            // Nobody is told, so whoever waits is refused.
            return;
        }
        metrics::histogram!("access_batch_records").record(records as f64);
        for told in self.told {
            if told.send(()).is_err() {
                tracing::trace!(
                    "a caller went away while the access was recorded; it will be completed as interrupted"
                );
            }
        }
    }
}

/// False if it can never be stored. The id of the batch makes a repetition harmless: its stream exists then.
async fn append_surely(log: &EventLog, batch: Batch, lane: Uuid) -> bool {
    let Ok(payload) = to_raw_value(&batch) else { return false };
    let (id, mut pause) = (Uuid::new_v4(), RETRY_MIN);
    loop {
        match log.append(append(id, lane, payload.clone())).await {
            Ok(Outcome::Appended(_) | Outcome::Conflict { .. }) => return true,
            Ok(Outcome::ClaimTaken { .. } | Outcome::Duplicate { .. }) => {
                tracing::error!("the access log was given another answer than it can have");
                return false;
            }
            Err(error @ (Error::Invalid(_) | Error::TooLarge { .. })) => {
                tracing::error!(error = &error as &dyn std::error::Error, "access records can't be stored");
                return false;
            }
            Err(error) => {
                metrics::counter!("access_batches_retried_total").increment(1);
                tracing::warn!(error = &error as &dyn std::error::Error, "access records are not stored yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

fn append(id: Uuid, subject: Uuid, payload: Box<RawValue>) -> Append {
    let aggregate_type = AGGREGATE_TYPE.to_owned();
    Append {
        idempotency: None,
        response: serde_json::Value::Null,
        expect: vec![Expectation::Stream { aggregate_type: aggregate_type.clone(), aggregate_id: id, sequence: 0 }],
        take: Vec::new(),
        release: Vec::new(),
        events: vec![NewEvent {
            aggregate_type,
            aggregate_id: id,
            sequence: 1,
            subject,
            event_type: EVENT_TYPE.to_owned(),
            event_version: EVENT_VERSION.to_owned(),
            source: None,
            payload,
        }],
        // Who did what stands in each record.
        metadata: Metadata::default(),
        traceparent: None,
    }
}
