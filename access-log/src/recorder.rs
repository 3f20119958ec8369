//! The recorder of a door: opens records durably, completes them, and never holds more than it may.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_event_store::kafka::KafkaArgs;
use nexus_event_store::{ACCESS_SCHEMA, ClaimRules, Error, EventLog, Keyring, LogConfig, in_schema};
use nexus_web::access::{AccessRecorder, Completion, NotRecorded, Noted, OpenAccess, Opening, Outcome};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::batch::{Completed, Opened};
use crate::queue::{self, Item};

/// Accesses between their opening and the storing of their completion. A door has at most 1,024 requests in flight; the
/// rest is room for completions while the store is away.
const ACCESSES_MAX: usize = 8_192;
/// How long an opening may take; then there is no access.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a stopping process waits until its completions are stored.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The writer has a connection of its own; what remains is looking up where the log stands.
const CONNECTIONS_MAX: u32 = 1;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Records accesses. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    log: EventLog,
    queue: mpsc::UnboundedSender<Item>,
    places: Arc<Semaphore>,
    _task: AbortOnDropHandle<()>,
}

impl Recorder {
    /// Connects to the access log in the log's database. A store or broker that is away is waited for while requests are
    /// refused.
    ///
    /// # Errors
    /// If the database can't be reached at all, or has no access log.
    pub async fn connect(
        log: PgConnectOptions,
        kafka: impl Into<KafkaArgs>,
        topic: String,
        keyring: Keyring,
    ) -> Result<Self, Error> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
        let log_pool = pool.connect_lazy_with(in_schema(log, ACCESS_SCHEMA));
        let config =
            LogConfig { log_pool, keyring, kafka: kafka.into(), topic, partitions: None, claims: ClaimRules::NONE };
        Ok(Self::new(EventLog::connect_quietly(config).await?))
    }

    /// The same with a log that is connected already.
    pub fn new(log: EventLog) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let task = AbortOnDropHandle::new(tokio::spawn(queue::run(log.clone(), receiver)));
        let places = Arc::new(Semaphore::new(ACCESSES_MAX));
        Self(Arc::new(Shared { log, queue: sender, places, _task: task }))
    }

    /// Whether records can be opened.
    pub async fn ready(&self) -> bool {
        self.0.log.ready().await
    }

    /// Waits, for a while, until everything recorded so far is stored.
    pub async fn flush(&self) {
        let (told, stored) = oneshot::channel();
        let sent = self.0.queue.send(Item::Flush(told)).is_ok();
        if !sent || !matches!(timeout(FLUSH_TIMEOUT, stored).await, Ok(Ok(()))) {
            tracing::error!("the outcomes of some accesses will stay unknown");
        }
    }

    async fn open_record(&self, opening: Opening) -> Result<Box<dyn OpenAccess>, NotRecorded> {
        let place = self.0.places.clone().try_acquire_owned().map_err(|_| NotRecorded)?;
        let (told, stored) = oneshot::channel();
        let id = opening.id;
        self.0.queue.send(Item::Opened(Opened::of(opening), told)).map_err(|_| NotRecorded)?;
        // From here on there is, or will be, a record: whatever becomes of this request, it is completed.
        let mut record = Open { id, place: Some(place), queue: self.0.queue.clone() };
        match timeout(OPEN_TIMEOUT, stored).await {
            Ok(Ok(())) => Ok(Box::new(record)),
            Ok(Err(_)) | Err(_) => {
                metrics::counter!("access_openings_refused_total").increment(1);
                record.end(unanswered(Outcome::Failed));
                Err(NotRecorded)
            }
        }
    }
}

impl AccessRecorder for Recorder {
    fn open(&self, opening: Opening) -> BoxFuture<'_, Result<Box<dyn OpenAccess>, NotRecorded>> {
        self.open_record(opening).boxed()
    }

    fn record(&self, opening: Opening, completion: Completion) {
        let completed = Completed::of(opening.id, completion);
        let recorded = self
            .0
            .places
            .clone()
            .try_acquire_owned()
            .is_ok_and(|place| self.0.queue.send(Item::Happened(Opened::of(opening), completed, place)).is_ok());
        if !recorded {
            metrics::counter!("access_records_lost_total").increment(1);
            tracing::error!("a refused access could not be recorded: too many wait already");
        }
    }
}

/// An open record with its place.
struct Open {
    id: Uuid,
    place: Option<OwnedSemaphorePermit>,
    queue: mpsc::UnboundedSender<Item>,
}

impl Open {
    fn end(&mut self, completion: Completion) {
        if let Some(place) = self.place.take()
            && self.queue.send(Item::Completed(Completed::of(self.id, completion), place)).is_err()
        {
            tracing::error!("the outcome of an access will stay unknown");
        }
    }
}

impl OpenAccess for Open {
    fn complete(mut self: Box<Self>, completion: Completion) {
        self.end(completion);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end(unanswered(Outcome::Interrupted));
    }
}

fn unanswered(outcome: Outcome) -> Completion {
    Completion { outcome, status: None, noted: Noted::default(), target_type: None, parameters: Vec::new() }
}
