//! The writer: one task per process, one connection, one batch in flight.
//!
//! While a batch is in flight the next one collects; there is no timer. The connection is accepted only once the store
//! behind it is known to be level with Kafka.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::Outcome;
use super::batch::{self, BATCH_COMMANDS_MAX, Footprint, Touches};
use super::identity::{Known, Verdict};
use super::prepare::Prepared;
use super::restored::{self, ClaimRules};
use super::statement::{self, Answer};
use crate::error::{Error, KeyError};
use crate::kafka::KafkaArgs;
use crate::keyring::Keyring;

/// How many commands may wait for the writer, and how many of their bytes.
const QUEUE_COMMANDS_MAX: usize = 4_096;
const QUEUE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How long one call may take; a server that does not answer by then is treated as lost.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a call is repeated that lost a race against another process before its commands go one by one.
const REPEATS_MAX: usize = 3;
/// How long a lone command is repeated. Each repeat is lost to somebody else's success.
const LONE_REPEATS_MAX: usize = 50;
/// An idle connection is tried this often, so that readiness means something.
const IDLE_PING: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Whether the writer takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Accepting,
    /// Kafka holds events that the store does not.
    Recovering,
    /// Postgres does not answer, or Kafka does not when it has to be compared with.
    Away,
}

/// What the writer needs to connect.
pub(crate) struct Target {
    pub options: PgConnectOptions,
    pub kafka: KafkaArgs,
    pub topic: String,
    /// For the claims of restored events.
    pub keyring: Keyring,
    pub claims: ClaimRules,
    /// Told after each commit that there is something to publish.
    pub appended: Arc<Notify>,
}

type Forget = Box<dyn Fn() + Send + Sync>;

/// What to forget when the store may have lost events: states in memory that hold them.
#[derive(Clone, Default)]
pub(crate) struct Memories(Arc<Mutex<Vec<Forget>>>);

impl Memories {
    pub(crate) fn add(&self, forget: impl Fn() + Send + Sync + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(forget));
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|forget| forget());
    }
}

/// The way to the writer task.
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
    state: watch::Receiver<State>,
}

struct Waiting {
    prepared: Prepared,
    answer: oneshot::Sender<Result<Outcome, Error>>,
    /// Held until answered: bounds the bytes in the queue.
    _bytes: OwnedSemaphorePermit,
}

impl Touches for Waiting {
    fn footprint(&self) -> &Footprint {
        &self.prepared.footprint
    }
}

impl Writer {
    /// The handle, and the task that has to be run.
    pub(crate) fn new(target: Target, memories: Memories) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let (told, state) = watch::channel(State::Starting);
        let known = Known::default();
        let task = Task { target, memories, known, queue: waiting, waiting: VecDeque::new(), state: told };
        (Self { queue, bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)), state }, task.run())
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Waits until the writer has heard from the store and from Kafka, at most this long.
    pub(crate) async fn started(&self, at_most: Duration) {
        let mut state = self.state.clone();
        let started = state.wait_for(|state| matches!(state, State::Accepting | State::Recovering));
        // Too slow or gone: the first append says so.
        drop(timeout(at_most, started).await);
    }

    /// Refuses at once what would not be taken.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.state() {
            State::Accepting => Ok(()),
            State::Recovering => Err(Error::Recovering),
            State::Starting | State::Away => Err(Error::Unavailable(None)),
        }
    }

    pub(crate) async fn append(&self, prepared: Prepared) -> Result<Outcome, Error> {
        let bytes = u32::try_from(prepared.bytes().min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = self.bytes.clone().try_acquire_many_owned(bytes).map_err(|_| Error::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { prepared, answer, _bytes: permit };
        self.queue.try_send(waiting).map_err(|_| Error::Overloaded)?;
        answered.await.map_err(|_| Error::Unknown)?
    }
}

struct Task {
    target: Target,
    memories: Memories,
    known: Known,
    queue: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
    state: watch::Sender<State>,
}

/// The connection is of no more use.
struct Lost;

/// What became of one call.
enum Call {
    Answered(Vec<Answer>),
    /// Nothing was stored: another process was first somewhere.
    LostRace,
    /// Nothing was stored: the database refused a value in it.
    Refused,
    /// Nothing was stored: the database can't do it now, and perhaps this is not the one to ask.
    Unable,
    /// Nobody knows.
    Lost,
}

impl Task {
    async fn run(mut self) {
        loop {
            let connection = self.connect().await;
            self.state.send_replace(State::Accepting);
            if let Ok(()) = self.serve(connection).await {
                return;
            }
            self.state.send_replace(State::Away);
        }
    }

    /// Tries until there is a connection to a store that is level with Kafka.
    async fn connect(&mut self) -> PgConnection {
        loop {
            let (state, error) = match self.try_connect().await {
                Ok((connection, Verdict::Same | Verdict::Level)) => return connection,
                Ok((_, Verdict::KafkaIsAhead)) => (State::Recovering, None),
                Err(error) => (State::Away, Some(error)),
            };
            if let Some(error) = error {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the writer can't reach the store and its topic"
                );
            }
            self.state.send_replace(state);
            self.refuse_waiting(state);
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn try_connect(&mut self) -> Result<(PgConnection, Verdict), Error> {
        let connecting = timeout(CALL_TIMEOUT, self.target.options.connect());
        let mut connection = connecting.await.map_err(Error::unavailable)??;
        let verdict = self.known.compare(&mut connection, &self.target.kafka, &self.target.topic).await?;
        if verdict == Verdict::Level {
            self.memories.forget();
        }
        if verdict != Verdict::KafkaIsAhead {
            // Nobody accepts anything while there is something to settle, whichever process finds it.
            restored::settle_claims(&mut connection, &self.target.keyring, &self.target.claims).await?;
        }
        Ok((connection, verdict))
    }

    fn refuse_waiting(&mut self, state: State) {
        while let Ok(late) = self.queue.try_recv() {
            self.waiting.push_back(late);
        }
        for waiting in self.waiting.drain(..) {
            let error = if state == State::Recovering { Error::Recovering } else { Error::Unavailable(None) };
            answer(waiting, Err(error));
        }
    }

    /// Serves one connection until it is lost, or until nobody can ask any more.
    async fn serve(&mut self, mut connection: PgConnection) -> Result<(), Lost> {
        loop {
            if self.waiting.is_empty() {
                match timeout(IDLE_PING, self.queue.recv()).await {
                    Ok(Some(first)) => self.waiting.push_back(first),
                    Ok(None) => return Ok(()),
                    Err(_) if alive(&mut connection).await => continue,
                    Err(_) => return Err(Lost),
                }
            }
            self.gather();
            let batch = batch::pick(&mut self.waiting);
            self.settle(&mut connection, batch).await?;
        }
    }

    /// Takes what has come in meanwhile, up to what one batch can use; the rest keeps the queue's bound honest.
    fn gather(&mut self) {
        while self.waiting.len() < BATCH_COMMANDS_MAX {
            let Ok(next) = self.queue.try_recv() else { return };
            self.waiting.push_back(next);
        }
    }

    /// Sends a batch until every command in it has its answer or is back in the queue.
    async fn settle(&mut self, connection: &mut PgConnection, batch: Vec<Waiting>) -> Result<(), Lost> {
        let started = Instant::now();
        metrics::histogram!("append_batch_commands").record(batch.len() as f64);
        let mut rounds = VecDeque::from([batch]);
        while let Some(batch) = rounds.pop_front() {
            match call_repeatedly(connection, &batch).await {
                Call::Answered(answers) => self.tell(batch, answers),
                call @ (Call::Lost | Call::Unable) => {
                    // What is left was not sent, or was refused as a whole before.
                    self.waiting.extend(rounds.into_iter().flatten());
                    let error = || if matches!(call, Call::Lost) { Error::Unknown } else { Error::Unavailable(None) };
                    batch.into_iter().for_each(|waiting| answer(waiting, Err(error())));
                    return Err(Lost);
                }
                Call::LostRace | Call::Refused if batch.len() > 1 => {
                    rounds.extend(batch.into_iter().map(|waiting| vec![waiting]));
                }
                Call::LostRace => batch.into_iter().for_each(|waiting| answer(waiting, Err(Error::Unavailable(None)))),
                Call::Refused => {
                    let error = || Error::Invalid("the database does not take one of its values");
                    batch.into_iter().for_each(|waiting| answer(waiting, Err(error())));
                }
            }
        }
        metrics::histogram!("append_batch_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn tell(&mut self, batch: Vec<Waiting>, answers: Vec<Answer>) {
        let mut again = Vec::new();
        for (mut waiting, said) in batch.into_iter().zip(answers) {
            match said {
                Answer::Settled(outcome) => {
                    if let Outcome::Appended(receipt) = &outcome {
                        self.known.saw(&receipt.positions);
                        self.target.appended.notify_one();
                    }
                    answer(waiting, Ok(outcome));
                }
                Answer::Erased { subject } => {
                    self.target.keyring.forget(subject);
                    answer(waiting, Err(Error::Key { subject, source: KeyError::Erased }));
                }
                Answer::Unlocked { partition } => {
                    waiting.prepared.lock.insert(partition);
                    again.push(waiting);
                }
            }
        }
        again.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
    }
}

async fn call_repeatedly(connection: &mut PgConnection, batch: &[Waiting]) -> Call {
    let repeats = if batch.len() == 1 { LONE_REPEATS_MAX } else { REPEATS_MAX };
    for _ in 0..repeats {
        match call(connection, batch).await {
            Call::LostRace => metrics::counter!("append_races_lost_total").increment(1),
            other => return other,
        }
    }
    Call::LostRace
}

async fn call(connection: &mut PgConnection, batch: &[Waiting]) -> Call {
    let prepared: Vec<_> = batch.iter().map(|waiting| &waiting.prepared).collect();
    match timeout(CALL_TIMEOUT, statement::send(connection, &prepared)).await {
        Ok(Ok(answers)) => Call::Answered(answers),
        Ok(Err(error)) => {
            let call = classify(&error);
            if !matches!(call, Call::LostRace) {
                tracing::error!(error = &error as &dyn std::error::Error, commands = batch.len(), "an append failed");
            }
            call
        }
        Err(_) => {
            tracing::error!(commands = batch.len(), "an append was not answered in time");
            Call::Lost
        }
    }
}

/// A server that says what is wrong has rolled back, unless it says so while it goes away.
fn classify(error: &sqlx::Error) -> Call {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("23505" | "40001" | "40P01") => Call::LostRace,
        Some(code) if code.starts_with("22") || code.starts_with("23") => Call::Refused,
        Some(code) if code.starts_with("57P") || code.starts_with("08") || code.starts_with("XX") => Call::Lost,
        Some(_) => Call::Unable,
        None => Call::Lost,
    }
}

async fn alive(connection: &mut PgConnection) -> bool {
    matches!(timeout(CALL_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}

fn answer(waiting: Waiting, outcome: Result<Outcome, Error>) {
    // The caller may have gone away; its events are stored all the same, and its key tells a retry.
    drop(waiting.answer.send(outcome));
}
