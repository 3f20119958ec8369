//! The data keys of one subject, as the code that seals and opens sees them.

use std::sync::Arc;

use uuid::Uuid;

use super::uses::Uses;
use super::wrap::{self, KeyBytes};

/// The data keys of one subject: the current one seals, it and the ones before it open. Wiped from memory with the
/// last copy.
#[derive(Clone)]
pub struct SubjectKey(Arc<Inner>);

struct Inner {
    subject: Uuid,
    current: DataKey,
    earlier: Vec<DataKey>,
    /// Where seals are counted, for keys that are in a store.
    uses: Option<Uses>,
}

/// One data key.
pub(crate) struct DataKey {
    pub(crate) id: Uuid,
    pub(crate) bytes: KeyBytes,
}

impl SubjectKey {
    pub(super) fn new(subject: Uuid, current: DataKey, earlier: Vec<DataKey>, uses: Uses) -> Self {
        Self(Arc::new(Inner { subject, current, earlier, uses: Some(uses) }))
    }

    /// A key that is in no store, for tests and examples of the envelope.
    pub fn generate(subject: Uuid) -> Self {
        let current = DataKey { id: Uuid::new_v4(), bytes: wrap::random_key() };
        Self(Arc::new(Inner { subject, current, earlier: Vec::new(), uses: None }))
    }

    /// The id of the key that seals now; envelopes name it.
    pub fn id(&self) -> Uuid {
        self.0.current.id
    }

    /// Whose key it is.
    pub fn subject(&self) -> Uuid {
        self.0.subject
    }

    /// Whether what was sealed under this key id can be opened: the current key, or one before it.
    pub fn opens(&self, key_id: Uuid) -> bool {
        self.named(key_id).is_some()
    }

    /// Whether the key that a sealed row names is among these. True of what is no envelope: opening it says so.
    pub fn opens_row(&self, sealed: &[u8]) -> bool {
        crate::envelope::key_id(sealed).is_none_or(|key_id| self.opens(key_id))
    }

    pub(crate) fn current(&self) -> &DataKey {
        &self.0.current
    }

    pub(crate) fn named(&self, key_id: Uuid) -> Option<&DataKey> {
        std::iter::once(&self.0.current).chain(&self.0.earlier).find(|key| key.id == key_id)
    }

    /// Counts a seal with the current key, which used this nonce.
    pub(crate) fn count_seal(&self, nonce: &[u8]) {
        if let Some(uses) = &self.0.uses {
            uses.count(self.0.current.id, nonce);
        }
    }
}

impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SubjectKey").field("id", &self.id()).field("bytes", &"[redacted]").finish()
    }
}
