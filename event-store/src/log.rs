//! The log as the write door sees it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Row};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::append::writer::{Memories, State, Target, Writer};
use crate::append::{self, Append, Claim, ClaimRules, IdempotencyKey, Outcome};
use crate::error::{Error, KeyError};
use crate::event::StoredEvent;
use crate::kafka::KafkaArgs;
use crate::keyring::{Keyring, SubjectKey};
use crate::partition::partition_of;
use crate::position::Receipt;
use crate::published::Published;
use crate::{channel, load, migrate, snapshot};

/// The relay is told on this channel that there is something to publish. (A log in a schema of its own has channels of
/// its own: see [`crate::channel`].)
pub(crate) const APPENDED_CHANNEL: &str = "nexus_appended";
/// How long [`EventLog::connect`] waits for the writer to know where it stands.
const START_TIMEOUT: Duration = Duration::from_secs(15);
const NOTIFY_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What an [`EventLog`] is made of.
pub struct LogConfig {
    /// For reads; the writer and the listeners make connections of their own with its options.
    pub log_pool: PgPool,
    pub keyring: Keyring,
    /// For the comparison of heads.
    pub kafka: KafkaArgs,
    pub topic: String,
    /// The number of partitions that this process expects; `None` takes the log's.
    pub partitions: Option<i32>,
    /// What its streams claim, for events that come back from Kafka.
    pub claims: ClaimRules,
}

/// The event log. Cheap to clone; its tasks end with the last clone.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

struct Shared {
    pool: PgPool,
    keyring: Keyring,
    partitions: i32,
    writer: Writer,
    memories: Memories,
    published: Published,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl EventLog {
    /// Starts the writer. A log with another number of partitions is refused, and so is one whose newest events were sealed
    /// with keys that the keyring's store has never had; a log that can't accept appends yet
    /// (see [`Self::ready`]) is not.
    pub async fn connect(config: LogConfig) -> Result<Self, Error> {
        let appended = Arc::new(Notify::new());
        let announcing =
            announce(single(notifier_options((*config.log_pool.connect_options()).clone())), appended.clone());
        let announcing = AbortOnDropHandle::new(tokio::spawn(announcing));
        Self::start(config, appended, vec![announcing]).await
    }

    /// The same for a log whose relay comes by unasked ([`Pace::Gathering`](crate::relay::Pace)): no commit wakes it.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_quietly(config: LogConfig) -> Result<Self, Error> {
        Self::start(config, Arc::default(), Vec::new()).await
    }

    async fn start(
        config: LogConfig,
        appended: Arc<Notify>,
        mut tasks: Vec<AbortOnDropHandle<()>>,
    ) -> Result<Self, Error> {
        let LogConfig { log_pool: pool, keyring, kafka, topic, partitions, claims } = config;
        let found = migrate::partitions(&pool).await?;
        if let Some(expected) = partitions.filter(|expected| *expected != found) {
            return Err(Error::Partitions { expected, found });
        }
        keyring.check_log(&pool).await?;
        let options = (*pool.connect_options()).clone();
        let target = Target {
            options: writer_options(options.clone()),
            kafka,
            topic,
            keyring: keyring.clone(),
            claims,
            appended,
        };
        let memories = Memories::default();
        let (writer, writing) = Writer::new(target, memories.clone());
        let (published, listening) = Published::new(pool.clone(), single(options));
        tasks.push(AbortOnDropHandle::new(tokio::spawn(writing)));
        tasks.push(AbortOnDropHandle::new(tokio::spawn(listening)));
        writer.started(START_TIMEOUT).await;
        Ok(Self(Arc::new(Shared { pool, keyring, partitions: found, writer, memories, published, _tasks: tasks })))
    }

    /// Stores one command's events, or says why not. Durable when it returns.
    pub async fn append(&self, append: Append) -> Result<Outcome, Error> {
        self.0.writer.check()?;
        let prepared = append::prepare(append, &self.0.keyring, self.0.partitions).await?;
        self.0.writer.append(prepared).await
    }

    /// What was answered under this key, and whether to the same request.
    pub async fn recall(&self, key: &IdempotencyKey) -> Result<Option<(bool, Receipt, Value)>, Error> {
        let row = sqlx::query(
            "select fingerprint, response, partitions, positions, recorded_at from idempotency where key = $1",
        )
        .bind(append::idempotency_hash(&self.0.keyring, key).as_slice())
        .fetch_optional(&self.0.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let fingerprint = append::fingerprint_hash(&self.0.keyring, key);
        let same_request = row.try_get::<&[u8], _>("fingerprint")? == fingerprint;
        Ok(Some((same_request, append::read_receipt(&row)?, row.try_get("response")?)))
    }

    /// Who holds a claim.
    pub async fn holder(&self, claim: &Claim) -> Result<Option<(String, Uuid)>, Error> {
        Ok(self.holders(std::slice::from_ref(claim)).await?.pop().flatten())
    }

    /// Who holds each of these claims, in one round trip.
    pub async fn holders(&self, claims: &[Claim]) -> Result<Vec<Option<(String, Uuid)>>, Error> {
        let hashes: Vec<_> = claims.iter().map(|claim| append::claim_hash(&self.0.keyring, claim)).collect();
        let rows = sqlx::query(
            "select c.holder_type, c.holder_id
             from unnest($1::bytea[]) with ordinality as asked (claim, number) left join claims c on c.claim = asked.claim
             order by asked.number",
        )
        .bind(hashes.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .fetch_all(&self.0.pool)
        .await?;
        let holder = |row: &sqlx::postgres::PgRow| {
            let holder_type: Option<String> = row.try_get("holder_type")?;
            Ok(holder_type.zip(row.try_get("holder_id")?))
        };
        rows.iter().map(holder).collect()
    }

    /// The events of one stream, opened.
    pub async fn stream(&self, aggregate_type: &str, aggregate_id: Uuid) -> Result<Vec<StoredEvent>, Error> {
        self.stream_after(aggregate_type, aggregate_id, 0).await
    }

    /// The events of one stream after a sequence, such as a snapshot's.
    pub async fn stream_after(
        &self,
        aggregate_type: &str,
        aggregate_id: Uuid,
        after: i64,
    ) -> Result<Vec<StoredEvent>, Error> {
        let events = load::stream(&self.0.pool, aggregate_type, aggregate_id, after).await?;
        load::open_all(&self.0.keyring, events).await
    }

    /// The events of many streams in one query; a stream that does not exist, or whose subject was erased, has no entry.
    pub async fn streams(&self, ids: &[(String, Uuid)]) -> Result<HashMap<(String, Uuid), Vec<StoredEvent>>, Error> {
        let events = load::streams(&self.0.pool, ids).await?;
        let mut streams = HashMap::<_, Vec<_>>::new();
        for event in load::open_what_is_left(&self.0.keyring, events).await? {
            let stream = (event.header.aggregate_type.clone(), event.header.aggregate_id);
            streams.entry(stream).or_default().push(event);
        }
        Ok(streams)
    }

    /// A subject's events of one aggregate type, and the tail to expect if a command leans on there being no more:
    /// [`append::Expectation::SubjectTail`].
    pub async fn subject_streams(&self, subject: Uuid, aggregate_type: &str) -> Result<(Vec<StoredEvent>, i64), Error> {
        let partition = partition_of(subject, self.0.partitions);
        let (events, head) = load::subject_streams(&self.0.pool, partition, subject, aggregate_type).await?;
        Ok((load::open_all(&self.0.keyring, events).await?, head))
    }

    /// Whether a subject has events of any of these types beyond a tail that [`Self::subject_streams`] gave: whether what
    /// was read of them then is no longer all. Whatever was committed before the call counts, whoever wrote it.
    pub async fn has_moved(&self, subject: Uuid, aggregate_types: &[&str], tail: i64) -> Result<bool, Error> {
        load::has_moved(&self.0.pool, subject, aggregate_types, tail).await
    }

    /// Whose data a stream holds.
    pub async fn subject_of(&self, aggregate_type: &str, aggregate_id: Uuid) -> Result<Option<Uuid>, Error> {
        let subject = sqlx::query_scalar(
            "select subject from events where aggregate_type = $1 and aggregate_id = $2 order by sequence limit 1",
        );
        Ok(subject.bind(aggregate_type).bind(aggregate_id.to_string()).fetch_optional(&self.0.pool).await?)
    }

    /// Waits until these positions are in Kafka; false when the deadline comes first.
    pub async fn wait_published(&self, positions: &[(i32, i64)], deadline: Duration) -> Result<bool, Error> {
        Ok(self.0.published.wait(positions, deadline).await)
    }

    /// The last position of each partition.
    pub async fn heads(&self) -> Result<Vec<(i32, i64)>, Error> {
        let heads = sqlx::query_as("select partition, position from heads order by partition");
        Ok(heads.fetch_all(&self.0.pool).await?)
    }

    /// Whether appends are being taken.
    pub async fn ready(&self) -> bool {
        self.0.writer.state() == State::Accepting
    }

    /// Calls this whenever the store may have lost events that were read from it, before anything is accepted again:
    /// states in memory hold what never happened. (It keeps what it captures for the life of the log: not the log.)
    pub fn on_rollback(&self, forget: impl Fn() + Send + Sync + 'static) {
        self.0.memories.add(forget);
    }

    /// The keys that this log seals with.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The number of partitions of this log.
    pub fn partitions(&self) -> i32 {
        self.0.partitions
    }

    /// The pool that this log reads with.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// Keeps a sealed snapshot of a long stream; a later one replaces it. Worth it every
    /// [`SNAPSHOT_EVERY`](crate::SNAPSHOT_EVERY) events.
    pub async fn save_snapshot(
        &self,
        subject: Uuid,
        aggregate_type: &str,
        aggregate_id: Uuid,
        sequence: i64,
        state: &Value,
    ) -> Result<(), Error> {
        let key = self.key(subject).await?;
        let state = serde_json::to_vec(state).map_err(|_| Error::Invalid("the state is not JSON"))?;
        snapshot::save(&self.0.pool, &key, (aggregate_type, aggregate_id), sequence, &state).await
    }

    /// The latest snapshot of a stream: its sequence, and the state then.
    pub async fn load_snapshot(
        &self,
        subject: Uuid,
        aggregate_type: &str,
        aggregate_id: Uuid,
    ) -> Result<Option<(i64, Value)>, Error> {
        let key = self.key(subject).await?;
        let found = snapshot::load(&self.0.pool, &key, (aggregate_type, aggregate_id)).await?;
        // A state that another version of the code wrote and this one can't read is as good as none.
        Ok(found.and_then(|(sequence, state)| Some((sequence, serde_json::from_slice(&state).ok()?))))
    }

    async fn key(&self, subject: Uuid) -> Result<SubjectKey, Error> {
        self.0.keyring.key(subject).await.map_err(|source: KeyError| Error::Key { subject, source })
    }
}

/// Durability is not left to the server's configuration. A call is given up by the server before it is by the client,
/// so that its outcome is known, and a lost client's call does not hold its locks for long.
fn writer_options(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("nexus-append").options([("synchronous_commit", "on"), ("statement_timeout", "12s")])
}

/// A wake-up needs no disk.
fn notifier_options(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("nexus-notify").options([("synchronous_commit", "off")])
}

fn single(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(1).connect_lazy_with(options)
}

/// Wakes the relay after commits. A task and connection of its own: `NOTIFY` inside the append's transaction would take
/// a database-wide lock at commit, and here any number of commits that come meanwhile make one wake-up.
async fn announce(pool: PgPool, appended: Arc<Notify>) {
    loop {
        appended.notified().await;
        if let Err(error) = channel::notify(&pool, APPENDED_CHANNEL).await {
            // The relay polls, too.
            tracing::debug!(error = &error as &dyn std::error::Error, "the relay could not be woken");
            tokio::time::sleep(NOTIFY_RETRY_PAUSE).await;
        }
    }
}
