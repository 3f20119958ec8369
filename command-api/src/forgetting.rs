//! What follows an approved erasure: what stands beside the events is removed, and the key is destroyed.
//!
//! The event in the log is the decision; everything here only follows it, and may be repeated. So a process that dies in
//! between, a log or a key store that comes back from a backup, and an erasure that another process has approved are all the
//! same to it: whatever is found undone is done.

use std::collections::HashSet;
use std::time::Duration;

use nexus_domain::patient::{Patient, PatientEvent};
use nexus_domain::read;
use nexus_event_store::{Erasure, Error, EventLog, KeyError, SealedEvent, envelope, event_id};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::executor::Executor;

/// How often it looks for what is undone.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many erased subjects one query answers.
const PAGE: i64 = 1_000;

/// Finishes erasures. Cheap to clone.
#[derive(Clone)]
pub struct Forgetting {
    log: EventLog,
    executor: Executor,
    /// The longest that a request holds on to what it has read.
    request_timeout: Duration,
}

impl Forgetting {
    pub fn new(executor: Executor, request_timeout: Duration) -> Self {
        Self { log: executor.log.clone(), executor, request_timeout }
    }

    /// Finishes the erasure of one subject at once; if that fails now, [`Self::run`] does it later.
    pub async fn finish_soon(&self, subject: Uuid) {
        if let Err(error) = self.finish(subject).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an erasure is finished later");
        }
    }

    /// Looks for erasures that are not finished, until told to stop.
    pub async fn run(self, mut seen: HashSet<Uuid>, stop: CancellationToken) {
        let mut clear_again = None;
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            match self.look(&mut seen).await {
                Ok(0) => {}
                // A request that had read its states before puts them back into memory until it ends.
                Ok(_) => clear_again = Some(Instant::now() + self.request_timeout),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "erasures could not be looked at");
                }
            }
            if clear_again.is_some_and(|time| time <= Instant::now()) {
                self.forget_states();
                clear_again = None;
            }
        }
    }

    /// Finishes what is not finished, and forgets who was erased since the last look. Answers how many those were.
    ///
    /// # Errors
    /// If log or key store do not answer.
    pub async fn look(&self, seen: &mut HashSet<Uuid>) -> Result<usize, Error> {
        let mut found = HashSet::new();
        let mut after = Uuid::nil();
        loop {
            let page = self.log.erased_subjects(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.subject;
            let subjects: Vec<Uuid> = page.iter().map(|erased| erased.subject).collect();
            let standing: HashSet<Uuid> = self.log.keyring().not_erased(&subjects).await?.into_iter().collect();
            for erased in page {
                if !erased.forgotten || standing.contains(&erased.subject) {
                    self.finish(erased.subject).await?;
                }
                found.insert(erased.subject);
            }
        }
        let new: Vec<Uuid> = found.difference(seen).copied().collect();
        new.iter().for_each(|subject| self.log.keyring().forget(*subject));
        if !new.is_empty() {
            self.forget_states();
        }
        *seen = found;
        Ok(new.len())
    }

    async fn finish(&self, subject: Uuid) -> Result<(), Error> {
        let Some(event) = self.log.erasure_of(subject).await? else { return Ok(()) };
        let said = self.open(&event).await?;
        let removed = self.log.forget_subject(subject).await?;
        let header = event.header;
        let mut erasure = Erasure {
            subject,
            key_id: header.key_id,
            event_id: event_id(&header.aggregate_type, header.aggregate_id, header.sequence),
            partition: event.partition,
            position: event.position,
            requested_by: None,
            requested_at: None,
            approved_by: None,
            approved_at: None,
            snapshots: removed.snapshots,
            claims: removed.claims,
        };
        if let Some(PatientEvent::Erased { request, approved_by, approved_at, .. }) = said {
            (erasure.requested_by, erasure.requested_at) = (Some(request.by), Some(request.at));
            (erasure.approved_by, erasure.approved_at) = (Some(approved_by), Some(approved_at));
        }
        self.log.keyring().erase(&erasure).await?;
        self.forget_states();
        tracing::info!(partition = erasure.partition, position = erasure.position, "a subject is erased");
        Ok(())
    }

    /// What the event says, as long as its key is there. Afterwards it is known already, or will never be.
    async fn open(&self, event: &SealedEvent) -> Result<Option<PatientEvent>, Error> {
        let (subject, header) = (event.header.subject, &event.header);
        // A key in memory may be an older store's.
        self.log.keyring().forget(subject);
        let key = match self.log.keyring().key_of(header).await {
            Ok(key) => key,
            Err(source @ KeyError::Unavailable) => return Err(Error::Key { subject, source }),
            Err(_) => return Ok(None),
        };
        let opened = envelope::open_event(&key, event).ok();
        let events = opened.and_then(|it| read::<Patient>(&header.event_type, &header.event_version, it.payload).ok());
        Ok(events.and_then(|events| events.into_iter().next_back()))
    }

    fn forget_states(&self) {
        self.executor.caches.clear();
        self.executor.existence.forget();
    }
}
