//! The loop of one partition: receive, place, fill gaps, open, apply, and only then take the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use nexus_event_store::SealedEvent;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::apply::{self, Prepared, Refused};
use super::backoff::Backoff;
use super::batch::{self, Batch, Placed, Record};
use super::checkpoint::{self, Ownership, Purpose};
use super::config::GAP_CHUNK;
use super::fault::Fault;
use super::host::{Host, Target};
use super::metrics::{Gauges, Progress, trace_events};
use super::open;

/// A partition of a read model, owned by this process.
pub(crate) struct Partition {
    host: Arc<Host>,
    target: Arc<Target>,
    number: i32,
    owned: Ownership,
    gauges: Gauges,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

/// Why a step did not get through. Everything else is retried inside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Told to stop.
    Stopped,
    /// The checkpoint is further back than the records at hand: reading has to start over.
    Lost,
    /// Not this process's business any more: a version of another fold is served, or another process fills this one.
    Retired,
}

impl Halt {
    /// Why the consumer begins anew.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Lost => "a checkpoint went back",
            Self::Retired => "another version is served",
        }
    }
}

impl Partition {
    pub(crate) fn new(
        host: Arc<Host>,
        target: Arc<Target>,
        number: i32,
        owned: Ownership,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Self {
        let gauges = Gauges::new(host.name(), number);
        Self { host, target, number, owned, gauges, progress, stop }
    }

    /// The last position applied.
    pub(crate) fn position(&self) -> i64 {
        self.owned.position
    }

    /// Applies events that were read from the event store; those that don't follow the checkpoint are left out.
    pub(crate) async fn apply_stored(&mut self, events: Vec<SealedEvent>) -> Result<(), Halt> {
        let mut batch = Batch::after(self.owned.position);
        batch.fill(events);
        if batch.events.is_empty() {
            return Ok(());
        }
        self.settle(batch).await?;
        self.progress.applied(self.owned.position, None);
        Ok(())
    }

    /// Applies records until none are left.
    pub(crate) async fn apply_all(&mut self, records: &mut VecDeque<Record>) -> Result<(), Halt> {
        while !records.is_empty() {
            self.apply_some(records).await?;
        }
        Ok(())
    }

    /// One batch.
    async fn apply_some(&mut self, records: &mut VecDeque<Record>) -> Result<(), Halt> {
        let started = Instant::now();
        let batch = self.gather(records).await?;
        self.gauges.duplicates(batch.duplicates);
        if batch.events.is_empty() { Ok(()) } else { self.apply_batch(batch, started).await }
    }

    /// Applies what the event store has after the checkpoint. Needed once, when the topic has lost records: what is missing
    /// would otherwise show only by the next record that comes, if one ever does.
    pub(crate) async fn apply_from_store(&mut self) -> Result<(), Halt> {
        let mut backoff = Backoff::new(&self.host.limits);
        loop {
            let started = Instant::now();
            let mut batch = Batch::after(self.owned.position);
            match self.host.log.range(self.number, self.owned.position, GAP_CHUNK).await {
                Ok(events) => match batch.fill(events) {
                    0 => return Ok(()),
                    filled => {
                        self.gauges.gaps_filled(filled);
                        self.apply_batch(batch, started).await?;
                    }
                },
                Err(_) => {
                    self.stand_still(batch.position() + 1, "the event store does not answer");
                    self.pause(&mut backoff).await?;
                }
            }
        }
    }

    async fn apply_batch(&mut self, batch: Batch, started: Instant) -> Result<(), Halt> {
        let count = batch.events.len();
        let last_recorded_at = batch.events.last().map(|event| event.header.recorded_at);
        let span = tracing::info_span!(
            "apply_batch",
            read_model = self.host.name(),
            partition = self.number,
            position = batch.position(),
            events = count
        );
        let traced = trace_events(self.host.name(), &batch.events);
        self.settle(batch).instrument(span).await?;
        drop(traced);
        self.gauges.applied(count, started.elapsed());
        self.progress.applied(self.owned.position, last_recorded_at);
        self.host.notifier.moved();
        Ok(())
    }

    /// The next batch: records in a row, and from the event store what is missing before them.
    async fn gather(&mut self, records: &mut VecDeque<Record>) -> Result<Batch, Halt> {
        let mut batch = Batch::after(self.owned.position);
        loop {
            match batch.place(records, &self.host.limits) {
                Placed::Drained | Placed::Full => return Ok(batch),
                Placed::Gap { .. } | Placed::Unreadable { .. } if !batch.events.is_empty() => return Ok(batch),
                Placed::Gap { first, last } => {
                    let missing = self.fetch(first, last).await?;
                    self.gauges.gaps_filled(batch.fill(missing));
                }
                Placed::Unreadable { position } => {
                    let instead = self.fetch_one(position).await?;
                    self.gauges.unreadable_record();
                    self.gauges.gaps_filled(batch.fill(Vec::from_iter(instead)));
                    records.pop_front();
                }
            }
        }
    }

    /// Reads missing events from the store, at least the first of them. Until the store has it, this partition
    /// stands still and says so.
    async fn fetch(&mut self, first: i64, last: i64) -> Result<Vec<SealedEvent>, Halt> {
        let mut backoff = Backoff::new(&self.host.limits);
        loop {
            let limit = (last - first + 1).min(GAP_CHUNK);
            match self.host.log.range(self.number, first - 1, limit).await {
                Ok(events) if events.first().is_some_and(|event| event.position == first) => {
                    tracing::warn!(
                        read_model = self.host.name(),
                        partition = self.number,
                        first,
                        last,
                        found = events.len(),
                        "Kafka skipped positions; they are filled from the event store"
                    );
                    return Ok(events);
                }
                Ok(_) => self.stand_still(first, "neither Kafka nor the event store has it"),
                Err(_) => self.stand_still(first, "the event store does not answer"),
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// Reads the event that an unreadable record most probably stands for; nothing if the store has no more events,
    /// in which case the record is not one of ours.
    async fn fetch_one(&mut self, position: i64) -> Result<Option<SealedEvent>, Halt> {
        let mut backoff = Backoff::new(&self.host.limits);
        loop {
            match self.host.log.range(self.number, position - 1, 1).await {
                Ok(mut events) => return Ok(events.pop().filter(|event| event.position == position)),
                Err(_) => self.stand_still(position, "the event store does not answer"),
            }
            self.pause(&mut backoff).await?;
        }
    }

    fn stand_still(&self, position: i64, why: &str) {
        self.gauges.standing_still();
        tracing::error!(
            read_model = self.host.name(),
            partition = self.number,
            position,
            "the partition stands still: a position is missing and {why}"
        );
    }

    /// Applies a batch, however long it takes. First as a whole; if an event is at fault, again; then apart.
    async fn settle(&mut self, batch: Batch) -> Result<(), Halt> {
        let (last, anchor) = (batch.position(), batch.anchor.or(self.owned.anchor));
        let mut sealed: Arc<[SealedEvent]> = batch.events.into();
        let mut backoff = Backoff::new(&self.host.limits);
        let mut attempts = 0;
        loop {
            let to = Ownership { epoch: self.owned.epoch, position: last, anchor };
            // Held until the outcome is known, and not while waiting for a better time.
            let turn = self.turn().await?;
            let outcome = self.attempt(&sealed, &to, attempts).await;
            drop(turn);
            match outcome {
                Ok(parked) => {
                    self.gauges.parked(parked);
                    self.owned = to;
                    return Ok(());
                }
                Err(Refused::Moved) => {
                    if !self.settled_already(&to, &mut backoff).await? {
                        self.retake().await?;
                        sealed = self.still_to_do(&sealed)?;
                    } else {
                        self.owned = to;
                    }
                    if self.owned.position >= last {
                        return Ok(());
                    }
                }
                Err(Refused::Fault(fault)) => {
                    if let Fault::Lasting(_) = fault {
                        attempts += 1;
                        self.forget_keys(&sealed);
                    }
                    self.say_retrying(&fault, attempts);
                    self.pause(&mut backoff).await?;
                }
            }
        }
    }

    /// What of a batch is left after another owner had the partition for a while. A checkpoint that went back (its
    /// database was restored) needs records from further back than there are at hand.
    fn still_to_do(&self, sealed: &[SealedEvent]) -> Result<Arc<[SealedEvent]>, Halt> {
        batch::still_to_do(sealed, self.owned.position).map(Arc::from).ok_or(Halt::Lost)
    }

    /// Waits for a connection to be had. Only then is a batch opened: behind the few that are being applied the others
    /// wait sealed, whatever the number of partitions.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Halt> {
        match self.stop.run_until_cancelled(self.host.turns.acquire()).await {
            Some(Ok(turn)) => Ok(turn),
            Some(Err(_)) | None => Err(Halt::Stopped),
        }
    }

    async fn attempt(&self, sealed: &Arc<[SealedEvent]>, to: &Ownership, attempts: u32) -> Result<i64, Refused> {
        let opened = open::open(&self.host.fold, sealed).await.map_err(Refused::Fault)?;
        let partition = self.number;
        let (fold, target) = (&self.host.fold, self.target.as_ref());
        let batch = Prepared { fold, target, partition, from: self.owned, to: *to, sealed, opened: &opened, attempts };
        if attempts < self.host.limits.apply_attempts {
            apply::together(&batch).await
        } else {
            apply::apart(&batch).await
        }
    }

    /// After an update that changed no row: whether it was this owner's own commit, whose answer got lost.
    async fn settled_already(&mut self, to: &Ownership, backoff: &mut Backoff) -> Result<bool, Halt> {
        loop {
            match checkpoint::read(&self.target.pool, self.target.name, self.number).await {
                Ok(now) => return Ok(now.is_some_and(|now| now.epoch == to.epoch && now.position == to.position)),
                Err(error) => self.say_retrying(&Fault::of_database(&error), 0),
            }
            self.pause(backoff).await?;
        }
    }

    /// Takes the partition again: at once if another version is served by now, which begins where the last one ended. Else
    /// after a while, unless the group has told this process to stop by then: losing it without being told means that a
    /// straggler was late. Positions decide what is still to be done.
    async fn retake(&mut self) -> Result<(), Halt> {
        if self.target.purpose == Purpose::Fill {
            return Err(Halt::Retired);
        }
        if !self.follow().await? {
            self.gauges.lost();
            tracing::warn!(
                read_model = self.host.name(),
                partition = self.number,
                epoch = self.owned.epoch,
                "another process has taken the partition"
            );
            let waited = self.stop.run_until_cancelled(tokio::time::sleep(self.host.limits.retake_after)).await;
            waited.ok_or(Halt::Stopped)?;
        }
        let mut backoff = Backoff::new(&self.host.limits);
        loop {
            let Target { name, purpose, pool } = self.target.as_ref();
            match checkpoint::take(pool, *name, *purpose, &[self.number], &self.host.owner).await {
                Ok(taken) => {
                    if let Some((_, owned)) = taken.first() {
                        self.owned = *owned;
                        return Ok(());
                    }
                    self.follow().await?;
                }
                Err(error) => self.say_retrying(&Fault::of_database(&error), 0),
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// Turns to the version that is served now; true if it is another one than before.
    async fn follow(&mut self) -> Result<bool, Halt> {
        let mut backoff = Backoff::new(&self.host.limits);
        loop {
            match self.host.look_again().await {
                Ok(None) => return Err(Halt::Retired),
                Ok(Some(target)) => {
                    let is_another = target.name.version != self.target.name.version;
                    self.target = target;
                    return Ok(is_another);
                }
                Err(error) => self.say_retrying(&Fault::of_database(&error), 0),
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// A key that does not open an event may be an old copy.
    fn forget_keys(&self, sealed: &[SealedEvent]) {
        for event in sealed {
            self.host.fold.keyring.forget(event.header.subject);
        }
    }

    fn say_retrying(&self, fault: &Fault, attempts: u32) {
        self.gauges.retried();
        tracing::warn!(
            read_model = self.host.name(),
            partition = self.number,
            position = self.owned.position,
            reason = fault.code(),
            attempts,
            "a batch was not applied; trying again"
        );
    }

    async fn pause(&self, backoff: &mut Backoff) -> Result<(), Halt> {
        if backoff.wait(&self.stop).await { Ok(()) } else { Err(Halt::Stopped) }
    }
}
