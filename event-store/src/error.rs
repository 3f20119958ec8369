//! What can go wrong between a decided event and a durable one. No message holds a value of a patient's.

use uuid::Uuid;

/// Why the store did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was stored: the database or the broker did not take the request. Trying again is safe.
    #[error("the event store is not available")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The connection was lost after the request was sent: it may or may not have been stored.
    /// Asking again under the same idempotency key finds out.
    #[error("the connection was lost after the append was sent; its outcome is unknown")]
    Unknown,
    /// Kafka holds events that the store does not (yet) have; nothing is accepted until they are back.
    #[error("the event store is being brought level with Kafka")]
    Recovering,
    /// The queue in front of the writer is full.
    #[error("too many appends are waiting")]
    Overloaded,
    /// An append or an event is larger than its limit.
    #[error("{what} is {bytes} bytes, the limit is {limit}")]
    TooLarge { what: &'static str, bytes: usize, limit: usize },
    /// The request contradicts itself: an error of the caller, never of its data.
    #[error("not a valid append: {0}")]
    Invalid(&'static str),
    /// The subject's key can't be had.
    #[error("the key of subject {subject} can't be used")]
    Key { subject: Uuid, source: KeyError },
    /// A sealed event could not be opened.
    #[error("event {sequence} of {aggregate_type} {aggregate_id} can't be opened")]
    Envelope { aggregate_type: String, aggregate_id: Uuid, sequence: i64, source: crate::EnvelopeError },
    /// A sealed row could not be opened.
    #[error("a sealed row can't be opened")]
    Row(#[source] crate::EnvelopeError),
    /// The log was created with another number of partitions than this process was told.
    #[error("the log has {found} partitions, not {expected}")]
    Partitions { expected: i32, found: i32 },
    /// The master key does not open this key store.
    #[error("the master key does not fit this key store: its keys are wrapped by {wrapped_by}, and this is {place}")]
    WrongMasterKey { wrapped_by: String, place: String },
    /// The master key did not do what was asked.
    #[error("the master key can't be used")]
    MasterKey(#[source] crate::keyring::MasterKeyError),
    /// A generation key has wrapped as many keys as is safe.
    #[error("generation {0} has wrapped as many keys as it may; make a new one with `nexus keys rotate generation`")]
    GenerationExhausted(i32),
    /// The newest events are sealed with keys that the key store has never had.
    #[error(
        "the key store does not know the keys of the log's newest events: it belongs to another log, or is a copy from \
         before them"
    )]
    OtherKeyStore,
    /// The master key file is missing, readable by others, or not a key.
    #[error("master key file: {0}")]
    MasterKeyFile(String),
    /// A record of the topic does not have the documented form.
    #[error("a record of the topic can't be read")]
    Record(#[source] crate::kafka::RecordError),
    /// The database holds something this version does not understand, or a migration failed.
    #[error("the event store's schema is not as expected")]
    Schema(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a subject's key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The subject has no key and never had one.
    #[error("the subject never had a key")]
    NeverHadOne,
    /// The key was destroyed; what it sealed can't be read again.
    #[error("the subject's key was erased")]
    Erased,
    /// Something was sealed with a key that this key store does not have (yet).
    #[error("the key is not in this key store yet")]
    NotProvisioned,
    /// The key is there and its wrapping does not open.
    #[error("the stored key can't be unwrapped")]
    Unreadable,
    /// The key store did not answer.
    #[error("the key store is not available")]
    Unavailable,
}

impl Error {
    pub(crate) fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Some(Box::new(source)))
    }
}

impl From<crate::keyring::MasterKeyError> for Error {
    fn from(error: crate::keyring::MasterKeyError) -> Self {
        match error {
            crate::keyring::MasterKeyError::File(why) => Self::MasterKeyFile(why),
            other => Self::MasterKey(other),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }
}
