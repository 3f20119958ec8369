//! Reading the end of a partition, and everything from a place on. Blocking calls, on threads made for that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::record::{self, parse_record};
use crate::error::Error;
use crate::event::SealedEvent;

/// How many of a partition's last records are looked at for its highest position. A relay that was paused and woke up
/// as a zombie may have put repeats of its one batch at the very end; the highest position lies before them.
const TAIL_RECORDS: i64 = 2 * crate::relay::BATCH_EVENTS_MAX;
const POLL: Duration = Duration::from_millis(100);

/// The highest position near the end of each of these partitions, in their order.
pub(crate) async fn tails(
    bootstrap: &str,
    topic: &str,
    partitions: Vec<i32>,
    timeout: Duration,
) -> Result<Vec<(i32, Option<i64>)>, Error> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    blocking(move || {
        let reader = Reader::connect(&bootstrap, &topic, timeout)?;
        reader.check_exists(&partitions)?;
        reader.tails(&partitions)
    })
    .await
}

/// Sends a partition's events to `events`, from a record offset up to the end as it is at the start of the call.
pub(crate) async fn read_partition(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    from_offset: i64,
    timeout: Duration,
    events: mpsc::Sender<SealedEvent>,
) -> Result<(), Error> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    blocking(move || {
        let mut reader = Reader::connect(&bootstrap, &topic, timeout)?;
        let (low, high) = reader.ends(partition)?;
        let wanted = HashMap::from([(partition, (from_offset.max(low), high))]);
        reader.read(wanted, |reader, record| {
            reader.deadline = Instant::now() + timeout;
            let event = parse_record(record).map_err(Error::Record)?;
            events.blocking_send(event).map_err(|_| Error::Unavailable(None))
        })
    })
    .await
}

/// Waits until a topic can be read, and refuses one that has another number of partitions.
pub(super) async fn check_partitions(
    bootstrap: &str,
    topic: &str,
    expected: i32,
    timeout: Duration,
) -> Result<(), Error> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    blocking(move || {
        let reader = Reader::connect(&bootstrap, &topic, timeout)?;
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

struct Reader {
    consumer: BaseConsumer,
    topic: String,
    deadline: Instant,
}

impl Reader {
    fn connect(bootstrap: &str, topic: &str, timeout: Duration) -> Result<Self, Error> {
        let mut config = super::client(bootstrap);
        config.set("group.id", "nexus-tail").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer = config.create().map_err(Error::unavailable)?;
        Ok(Self { consumer, topic: topic.to_owned(), deadline: Instant::now() + timeout })
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
    fn led(&self, partition: i32) -> Result<(), Error> {
        loop {
            match self.ends(partition) {
                Ok(_) => return Ok(()),
                Err(error) if self.left().is_zero() => return Err(error),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    fn tails(mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<i64>)>, Error> {
        let mut wanted = HashMap::new();
        for partition in partitions {
            let (low, high) = self.ends(*partition)?;
            wanted.insert(*partition, (low.max(high - TAIL_RECORDS), high));
        }
        let mut highest = HashMap::<i32, i64>::new();
        self.read(wanted, |_, record| {
            match record::position(record) {
                Ok(position) => {
                    let known = highest.entry(record.partition()).or_default();
                    *known = (*known).max(position);
                }
                Err(error) => tracing::warn!(
                    partition = record.partition(),
                    offset = record.offset(),
                    error = &error as &dyn std::error::Error,
                    "a record at the end of the topic is not ours"
                ),
            }
            Ok(())
        })?;
        Ok(partitions.iter().map(|partition| (*partition, highest.get(partition).copied())).collect())
    }

    /// Reads each partition from one offset up to another (not included).
    fn read(
        &mut self,
        mut wanted: HashMap<i32, (i64, i64)>,
        mut each: impl FnMut(&mut Self, &rdkafka::message::OwnedMessage) -> Result<(), Error>,
    ) -> Result<(), Error> {
        wanted.retain(|_, (from, to)| from < to);
        let mut list = TopicPartitionList::new();
        for (partition, (from, _)) in &wanted {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*from)).map_err(Error::unavailable)?;
        }
        self.consumer.assign(&list).map_err(Error::unavailable)?;
        while !wanted.is_empty() {
            if self.left().is_zero() {
                return Err(Error::Unavailable(None));
            }
            let Some(polled) = self.consumer.poll(POLL) else { continue };
            let record = polled.map_err(Error::unavailable)?.detach();
            let Some((_, to)) = wanted.get(&record.partition()) else { continue };
            if record.offset() < *to {
                each(self, &record)?;
            }
            if record.offset() + 1 >= *to {
                wanted.remove(&record.partition());
            }
        }
        Ok(())
    }
}
