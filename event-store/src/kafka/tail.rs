//! Reading the end of a partition, and everything from a place on. Blocking calls, on threads made for that.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::KafkaArgs;
use super::close::close_aside;
use super::look::{Look, RECORDS_FACTOR, RECORDS_FIRST};
use super::record::{self, RecordError, parse_record};
use crate::error::Error;
use crate::event::SealedEvent;

const POLL: Duration = Duration::from_millis(100);

/// A partition's highest position, or why its end can't be read.
type Tail = Result<Option<i64>, Error>;

/// The highest position of each of these partitions, in their order. Gives up when Kafka says nothing for `patience`.
pub(crate) async fn tails(
    kafka: &KafkaArgs,
    topic: &str,
    partitions: Vec<i32>,
    patience: Duration,
) -> Result<Vec<(i32, Tail)>, Error> {
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    blocking(move || {
        let reader = Reader::connect(&kafka, &topic, patience)?;
        reader.check_exists(&partitions)?;
        reader.tails(&partitions)
    })
    .await
}

/// Sends a partition's events to `events`, from a record offset up to the end as it is at the start of the call. Leaves
/// out what is no event: if one of ours is among that, the receiver sees it by the gap.
pub async fn read_partition(
    kafka: impl Into<KafkaArgs>,
    topic: &str,
    partition: i32,
    from_offset: i64,
    patience: Duration,
    events: mpsc::Sender<SealedEvent>,
) -> Result<(), Error> {
    let (kafka, topic) = (kafka.into(), topic.to_owned());
    blocking(move || {
        let mut reader = Reader::connect(&kafka, &topic, patience)?;
        let (low, high) = reader.ends(partition)?;
        let wanted = HashMap::from([(partition, (from_offset.max(low), high))]);
        reader.read(wanted, |record| match parse_record(record) {
            Ok(event) => events.blocking_send(event).map_err(|_| Error::Unavailable(None)),
            Err(error) => {
                warn_of_stranger(record, &error);
                Ok(())
            }
        })
    })
    .await
}

/// Waits until a topic can be read, and refuses one that has another number of partitions.
pub(super) async fn check_partitions(
    kafka: &KafkaArgs,
    topic: &str,
    expected: i32,
    timeout: Duration,
) -> Result<(), Error> {
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    blocking(move || {
        let mut reader = Reader::connect(&kafka, &topic, timeout)?;
        // A topic made a moment ago is not known to every broker yet.
        while !reader.partitions().is_ok_and(|found| found > 0) && !reader.left().is_zero() {
            std::thread::sleep(POLL);
        }
        match reader.partitions()? {
            found if found == expected => (0..expected).try_for_each(|partition| reader.led(partition)),
            found => Err(Error::Partitions { expected, found }),
        }
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::unavailable)?
}

fn warn_of_stranger(record: &OwnedMessage, error: &RecordError) {
    let (partition, offset) = (record.partition(), record.offset());
    tracing::warn!(partition, offset, error = error as &dyn std::error::Error, "a record of the topic is not ours");
}

/// A consumer that nobody waits for when it is dropped.
struct ClosedAside(Option<BaseConsumer>);

impl Deref for ClosedAside {
    type Target = BaseConsumer;

    fn deref(&self) -> &BaseConsumer {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for ClosedAside {
    fn drop(&mut self) {
        drop(close_aside(self.0.take()));
    }
}

/// Reads with patience: each answer of Kafka's renews it, so that a large read takes the time it needs.
struct Reader {
    consumer: ClosedAside,
    topic: String,
    patience: Duration,
    deadline: Instant,
}

impl Reader {
    fn connect(kafka: &KafkaArgs, topic: &str, patience: Duration) -> Result<Self, Error> {
        let mut config = kafka.client();
        config.set("group.id", "nexus-tail").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer = ClosedAside(Some(config.create().map_err(Error::unavailable)?));
        Ok(Self { consumer, topic: topic.to_owned(), patience, deadline: Instant::now() + patience })
    }

    fn renew(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn partitions(&self) -> Result<i32, Error> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.left()).map_err(Error::unavailable)?;
        let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        Ok(i32::try_from(found).unwrap_or(i32::MAX))
    }

    fn check_exists(&self, partitions: &[i32]) -> Result<(), Error> {
        let (found, expected) = (self.partitions()?, partitions.iter().max().map_or(0, |last| last + 1));
        if found < expected { Err(Error::Partitions { expected, found }) } else { Ok(()) }
    }

    fn ends(&self, partition: i32) -> Result<(i64, i64), Error> {
        self.consumer.fetch_watermarks(&self.topic, partition, self.left()).map_err(Error::unavailable)
    }

    /// Waits until a partition has a leader that answers.
    fn led(&mut self, partition: i32) -> Result<(), Error> {
        loop {
            match self.ends(partition) {
                Ok(_) => return Ok(()),
                Err(error) if self.left().is_zero() => return Err(error),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    fn tails(mut self, partitions: &[i32]) -> Result<Vec<(i32, Tail)>, Error> {
        let (mut tails, mut looking) = (BTreeMap::new(), HashMap::new());
        for partition in partitions {
            // A partition without a leader has used up the patience; the next one gets its own.
            self.renew();
            match self.ends(*partition) {
                Ok(ends) => drop(looking.insert(*partition, ends)),
                Err(error) => drop(tails.insert(*partition, Err(error))),
            }
        }
        let mut records = RECORDS_FIRST;
        while !looking.is_empty() {
            for (partition, look) in self.look(&looking, records)? {
                if looking.get(&partition).is_none_or(|(low, _)| look.suffices(*low)) {
                    looking.remove(&partition);
                    tails.insert(partition, Ok(look.highest));
                }
            }
            records *= RECORDS_FACTOR;
        }
        Ok(tails.into_iter().collect())
    }

    /// Looks at the last records of these partitions, given by their first and last offsets.
    fn look(&mut self, ends: &HashMap<i32, (i64, i64)>, records: i64) -> Result<HashMap<i32, Look>, Error> {
        let from = |(low, high): &(i64, i64)| (high - records).max(*low);
        let mut looks: HashMap<_, _> =
            ends.iter().map(|(partition, ends)| (*partition, Look::new(from(ends)))).collect();
        let wanted = ends.iter().map(|(partition, ends)| (*partition, (from(ends), ends.1))).collect();
        self.read(wanted, |record| {
            let position = record::position(record).map_err(|error| warn_of_stranger(record, &error)).ok();
            if let Some(look) = looks.get_mut(&record.partition()) {
                look.add(position, record.payload().map_or(0, <[u8]>::len));
            }
            Ok(())
        })?;
        Ok(looks)
    }

    /// Reads each partition from one offset up to another (not included).
    fn read(
        &mut self,
        mut wanted: HashMap<i32, (i64, i64)>,
        mut each: impl FnMut(&OwnedMessage) -> Result<(), Error>,
    ) -> Result<(), Error> {
        wanted.retain(|_, (from, to)| from < to);
        let mut list = TopicPartitionList::new();
        for (partition, (from, _)) in &wanted {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*from)).map_err(Error::unavailable)?;
        }
        self.consumer.assign(&list).map_err(Error::unavailable)?;
        self.renew();
        while !wanted.is_empty() {
            if self.left().is_zero() {
                return Err(Error::Unavailable(None));
            }
            let Some(polled) = self.consumer.poll(POLL) else { continue };
            let record = polled.map_err(Error::unavailable)?.detach();
            let Some((_, to)) = wanted.get(&record.partition()) else { continue };
            if record.offset() < *to {
                each(&record)?;
            }
            if record.offset() + 1 >= *to {
                wanted.remove(&record.partition());
            }
            self.renew();
        }
        Ok(())
    }
}
