//! cqrs-es on this log: `CqrsFramework` decides, this store loads and commits.
//!
//! Cold aggregates are read by a stock `PostgresEventRepository` through the view `event_streams`; hot ones come from a
//! cache that the append validates. An event is applied once: by the sink while the command is handled. (The snapshot
//! and aggregate stores of cqrs-es 0.5.0 apply it again when they commit.)

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use cqrs_es::persist::{PersistedEventRepository, SerializedEvent};
use cqrs_es::{Aggregate, AggregateContext, AggregateError, DomainEvent, EventEnvelope, EventStore};
use postgres_es::PostgresEventRepository;
use serde::Deserialize;
use uuid::Uuid;

use crate::append::{Append, Expectation, Outcome};
use crate::cache::AggregateCache;
use crate::error::Error;
use crate::event::{Header, Metadata, NewEvent, SealedEvent, StoredEvent};
use crate::load;
use crate::log::EventLog;

/// The metadata that a command's caller may give, by name. Anything else is refused rather than lost.
const ACTOR: &str = "actor";
const ROLES: &str = "roles";
const REQUEST_ID: &str = "request_id";
const TRACEPARENT: &str = "traceparent";

const CACHE_ENTRIES_MAX: u64 = 10_000;

type SubjectOf<A> = dyn Fn(Uuid, &A) -> Uuid + Send + Sync;

/// An [`EventStore`] of one aggregate type.
pub struct AggregateStore<A: Aggregate + Clone + 'static> {
    log: EventLog,
    repository: PostgresEventRepository,
    subject_of: Arc<SubjectOf<A>>,
    cache: AggregateCache<A>,
}

/// An aggregate as loaded, and the place its next event goes to.
pub struct LoadedAggregate<A> {
    id: Uuid,
    sequence: i64,
    aggregate: A,
}

impl<A: Aggregate> AggregateContext<A> for LoadedAggregate<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

impl<A: Aggregate + Clone + 'static> AggregateStore<A> {
    /// A store over the log. `subject_of` says whose data an aggregate is, from its id and its state after the command.
    pub fn new(log: EventLog, subject_of: impl Fn(Uuid, &A) -> Uuid + Send + Sync + 'static) -> Self {
        let cache = AggregateCache::new(CACHE_ENTRIES_MAX);
        log.on_rollback({
            let cache = cache.clone();
            move || cache.clear()
        });
        let repository = repository(&log);
        Self { log, repository, subject_of: Arc::new(subject_of), cache }
    }

    async fn stored(&self, id: Uuid) -> Result<Vec<StoredEvent>, AggregateError<A::Error>> {
        let rows = self.repository.get_events::<A>(&id.to_string()).await?;
        let sealed = rows.into_iter().map(sealed_event).collect::<Result<_, _>>();
        // An aggregate's error need not be Send, so none may be alive across an await.
        let sealed = sealed.map_err(AggregateError::DeserializationError)?;
        load::open_all(self.log.keyring(), sealed).await.map_err(store_error)
    }

    async fn read(&self, id: Uuid) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        self.stored(id).await?.into_iter().map(envelope).collect()
    }

    fn append_of(
        &self,
        events: &[A::Event],
        context: &LoadedAggregate<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Append, AggregateError<A::Error>> {
        let subject = (self.subject_of)(context.id, &context.aggregate);
        let new = |(sequence, event): (i64, &A::Event)| {
            Ok(NewEvent {
                aggregate_type: A::TYPE.to_owned(),
                aggregate_id: context.id,
                sequence,
                subject,
                event_type: event.event_type(),
                event_version: event.event_version(),
                source: None,
                payload: serde_json::value::to_raw_value(event)?,
            })
        };
        let (metadata, traceparent) = read_metadata(metadata)?;
        Ok(Append {
            idempotency: None,
            response: serde_json::Value::Null,
            expect: vec![Expectation::Stream {
                aggregate_type: A::TYPE.to_owned(),
                aggregate_id: context.id,
                sequence: context.sequence,
            }],
            take: Vec::new(),
            release: Vec::new(),
            events: (context.sequence + 1..).zip(events).map(new).collect::<Result<_, AggregateError<A::Error>>>()?,
            metadata,
            traceparent,
        })
    }
}

impl<A: Aggregate + Clone + 'static> EventStore<A> for AggregateStore<A> {
    type AC = LoadedAggregate<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let id = parse_id(aggregate_id)?;
        self.read(id).await
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<LoadedAggregate<A>, AggregateError<A::Error>> {
        let id = parse_id(aggregate_id)?;
        if let Some((sequence, aggregate)) = self.cache.get(id) {
            return Ok(LoadedAggregate { id, sequence, aggregate });
        }
        let mut loaded = LoadedAggregate { id, sequence: 0, aggregate: A::default() };
        for event in self.read(id).await? {
            loaded.aggregate.apply(event.payload);
            loaded.sequence += 1;
        }
        Ok(loaded)
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: LoadedAggregate<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let append = self.append_of(&events, &context, metadata.clone())?;
        let outcome = self.log.append(append).await;
        let LoadedAggregate { id, mut sequence, aggregate } = context;
        let Ok(Outcome::Appended(_)) = outcome else {
            self.cache.invalidate(id);
            return Err(outcome.map_or_else(store_error, |_| AggregateError::AggregateConflict));
        };
        let mut committed = Vec::with_capacity(events.len());
        for payload in events {
            sequence += 1;
            let number = usize::try_from(sequence).unwrap_or(usize::MAX);
            committed.push(EventEnvelope {
                aggregate_id: id.to_string(),
                sequence: number,
                payload,
                metadata: metadata.clone(),
            });
        }
        self.cache.put(id, sequence, aggregate);
        Ok(committed)
    }
}

/// A stock repository that reads the log through its views.
pub(crate) fn repository(log: &EventLog) -> PostgresEventRepository {
    PostgresEventRepository::new(log.pool().clone()).with_tables("event_streams", "event_snapshots")
}

fn parse_id<E: std::error::Error>(text: &str) -> Result<Uuid, AggregateError<E>> {
    text.parse().map_err(|error: uuid::Error| AggregateError::UnexpectedError(Box::new(error)))
}

fn store_error<E: std::error::Error>(error: Error) -> AggregateError<E> {
    match error {
        Error::Unavailable(_) | Error::Unknown | Error::Recovering | Error::Overloaded => {
            AggregateError::DatabaseConnectionError(Box::new(error))
        }
        other => AggregateError::UnexpectedError(Box::new(other)),
    }
}

fn read_metadata<E: std::error::Error>(
    mut given: HashMap<String, String>,
) -> Result<(Metadata, Option<String>), AggregateError<E>> {
    let roles = given.remove(ROLES).unwrap_or_default();
    let metadata = Metadata {
        actor: given.remove(ACTOR).unwrap_or_default(),
        roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        request_id: given.remove(REQUEST_ID).unwrap_or_default(),
    };
    let traceparent = given.remove(TRACEPARENT);
    if given.is_empty() {
        return Ok((metadata, traceparent));
    }
    Err(AggregateError::UnexpectedError(Box::new(Error::Invalid("metadata that the log does not keep"))))
}

fn envelope<A: Aggregate>(event: StoredEvent) -> Result<EventEnvelope<A>, AggregateError<A::Error>> {
    let mut metadata = HashMap::from([
        (ACTOR.to_owned(), event.metadata.actor),
        (ROLES.to_owned(), event.metadata.roles.join(",")),
        (REQUEST_ID.to_owned(), event.metadata.request_id),
    ]);
    metadata.extend(event.header.traceparent.map(|traceparent| (TRACEPARENT.to_owned(), traceparent)));
    Ok(EventEnvelope {
        aggregate_id: event.header.aggregate_id.to_string(),
        sequence: usize::try_from(event.header.sequence).unwrap_or(usize::MAX),
        // As text: a value that is read as a value prints some numbers otherwise than they were written.
        payload: serde_json::from_str(&event.payload.to_string())?,
        metadata,
    })
}

/// A row of the view `event_streams`, as postgres-es hands it over.
pub(crate) fn sealed_event(row: SerializedEvent) -> Result<SealedEvent, Box<dyn std::error::Error + Send + Sync>> {
    #[derive(Deserialize)]
    struct Payload {
        sealed: String,
    }
    #[derive(Deserialize)]
    struct Place {
        partition: i32,
        position: i64,
        subject: Uuid,
        key_id: Uuid,
        recorded_at: DateTime<Utc>,
        traceparent: Option<String>,
    }
    let place: Place = serde_json::from_value(row.metadata)?;
    let header = Header {
        aggregate_type: row.aggregate_type,
        aggregate_id: row.aggregate_id.parse()?,
        sequence: row.sequence.try_into()?,
        subject: place.subject,
        event_type: row.event_type,
        event_version: row.event_version,
        key_id: place.key_id,
        recorded_at: place.recorded_at,
        traceparent: place.traceparent,
    };
    let sealed = STANDARD.decode(serde_json::from_value::<Payload>(row.payload)?.sealed)?;
    Ok(SealedEvent { header, partition: place.partition, position: place.position, sealed })
}
