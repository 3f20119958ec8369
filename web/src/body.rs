//! Reading the body of a request: as it comes, at a least rate, and within limits that hold for what it decodes to.
//!
//! What was announced is never believed: memory and [`Room`] are taken for bytes that are there. A body that is compressed
//! counts as it is without, byte by byte while it is inflated, so one that would burst the limits is never inflated whole.

use std::{
    io::{self, Write},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    http::{HeaderMap, header},
};
use flate2::write::MultiGzDecoder;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::{
    problem::Problem,
    room::{Held, Room},
};

/// The content codings that are taken, as `Accept-Encoding` lists them.
pub const CODINGS: &str = "gzip, identity";
/// How much of a compressed body is inflated at once, in bytes: at a thousandfold, the most there is, some 2 ms of work.
const SLICE_BYTES: usize = 1024;

/// How fast a body must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a sender may take to get going; later pauses come out of it, too.
    pub grace: Duration,
    /// The least rate after that, in bytes a second.
    pub bytes_per_second_min: u32,
    /// The time for all of it, however large.
    pub whole: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), bytes_per_second_min: 16 * 1024, whole: Duration::from_secs(45) }
    }
}

impl Pace {
    /// When something more must have come, for a body of which so many bytes are there.
    fn allowance(&self, received: usize) -> Duration {
        let earned = received as f64 / f64::from(self.bytes_per_second_min.max(1));
        self.whole.min(self.grace + Duration::from_secs_f64(earned))
    }
}

/// A body that has been read, and the room that it takes for as long as this lives.
#[derive(Debug)]
pub struct Read {
    pub bytes: Bytes,
    pub room: Option<Held>,
}

/// Reads a body to its end, decoded.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    pace: Pace,
    room: Option<&Room>,
) -> Result<Read, Problem> {
    let coding = Coding::of(headers)?;
    let announced = announced(headers);
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Problem::body_too_large(bytes_max));
    }
    let room = room.map(|room| room.expect(announced)).transpose()?;
    let gathered = Gathered { bytes: Vec::new(), bytes_max, room };
    let arriving = Arriving { stream: body.into_data_stream(), began: Instant::now(), pace, received: 0 };
    match coding {
        Coding::Identity => gather(arriving, gathered).await,
        Coding::Gzip => inflate(arriving, gathered).await,
    }
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// The names of codings have no case, and `x-gzip` is `gzip` (RFC 9110, section 8.4.1).
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut coding = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let names = value.to_str().map_err(|_| Problem::unsupported_encoding())?;
            for name in names.split(',').map(str::trim) {
                let is = |known: &str| name.eq_ignore_ascii_case(known);
                match coding {
                    _ if name.is_empty() || is("identity") => {}
                    Self::Identity if is("gzip") || is("x-gzip") => coding = Self::Gzip,
                    _ => return Err(Problem::unsupported_encoding()),
                }
            }
        }
        Ok(coding)
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Most bodies come in one piece; those are not copied.
async fn gather(mut arriving: Arriving, mut gathered: Gathered) -> Result<Read, Problem> {
    let Some(first) = arriving.next().await? else { return Ok(gathered.whole(Bytes::new())) };
    gathered.admit(first.len())?;
    let Some(second) = arriving.next().await? else { return Ok(gathered.whole(first)) };
    gathered.bytes.extend_from_slice(&first);
    drop(first);
    gathered.add(&second)?;
    while let Some(more) = arriving.next().await? {
        gathered.add(&more)?;
    }
    let bytes = std::mem::take(&mut gathered.bytes);
    Ok(gathered.whole(bytes.into()))
}

async fn inflate(mut arriving: Arriving, gathered: Gathered) -> Result<Read, Problem> {
    let bytes_max = gathered.bytes_max;
    let mut decoder = MultiGzDecoder::new(gathered);
    while let Some(coded) = arriving.next().await? {
        if arriving.received > bytes_max {
            return Err(Problem::body_too_large(bytes_max));
        }
        for slice in coded.chunks(SLICE_BYTES) {
            decoder.write_all(slice).map_err(why)?;
            tokio::task::consume_budget().await;
        }
    }
    let mut gathered = decoder.finish().map_err(why)?;
    let bytes = std::mem::take(&mut gathered.bytes);
    Ok(gathered.whole(bytes.into()))
}

/// What an inflater's error means: a limit of ours, or what was sent is no gzip.
fn why(error: io::Error) -> Problem {
    error.downcast::<Problem>().unwrap_or_else(|_| Problem::malformed_encoding())
}

/// A body on its way.
struct Arriving {
    stream: BodyDataStream,
    began: Instant,
    pace: Pace,
    received: usize,
}

impl Arriving {
    /// The next bytes of it. What is there already costs no timer.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let deadline = self.began + self.pace.allowance(self.received);
        match timeout_at(deadline, self.stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => {
                self.received += bytes.len();
                Ok(Some(bytes))
            }
            Ok(Some(Err(_))) => Err(Problem::malformed_json(0, 0).with_detail("The body broke off.")),
            Err(_) => Err(Problem::body_too_slow(self.pace.bytes_per_second_min)),
        }
    }
}

/// What is there of a body.
struct Gathered {
    bytes: Vec<u8>,
    bytes_max: usize,
    room: Option<Held>,
}

impl Gathered {
    /// Whether the body may grow by so much.
    fn admit(&mut self, more: usize) -> Result<(), Problem> {
        let grown = self.bytes.len() + more;
        if grown > self.bytes_max {
            return Err(Problem::body_too_large(self.bytes_max));
        }
        self.room.as_mut().map_or(Ok(()), |room| room.grow(grown))
    }

    fn add(&mut self, more: &[u8]) -> Result<(), Problem> {
        self.admit(more.len())?;
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn whole(self, bytes: Bytes) -> Read {
        Read { bytes, room: self.room }
    }
}

impl Write for Gathered {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.add(more).map_err(io::Error::other)?;
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use flate2::{Compression, write::GzEncoder};
    use futures::stream;

    use super::*;

    const LIMIT: usize = 100_000;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))])
    }

    /// Sends the bytes in pieces of this size.
    async fn sent(headers: &HeaderMap, bytes: &[u8], piece: usize) -> Result<Vec<u8>, &'static str> {
        let pieces: Vec<_> = bytes.chunks(piece).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let read = read(headers, body, LIMIT, Pace::default(), None).await;
        read.map(|read| read.bytes.to_vec()).map_err(|problem| problem.slug())
    }

    #[tokio::test]
    async fn codings_have_no_case_and_others_are_refused_with_those_there_are() {
        let (plain, coded) = (b"{\"a\": 1}".to_vec(), gzip(b"{\"a\": 1}"));
        for coding in ["gzip", "GZIP", "x-gzip", "X-GZip", "identity, gzip", " gzip , identity"] {
            assert_eq!(sent(&encoded(coding), &coded, 4).await.unwrap(), plain, "{coding}");
        }
        for coding in ["", "identity", "IDENTITY", "identity,Identity"] {
            assert_eq!(sent(&encoded(coding), &plain, 4).await.unwrap(), plain, "{coding}");
        }
        for coding in ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "gzip;q=1", "*"] {
            assert_eq!(sent(&encoded(coding), &coded, 4).await, Err("unsupported-media-type"), "{coding}");
        }
        let several = HeaderMap::from_iter([
            (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            (header::CONTENT_ENCODING, HeaderValue::from_static("br")),
        ]);
        assert_eq!(sent(&several, &coded, 4).await, Err("unsupported-media-type"));
    }

    #[tokio::test]
    async fn every_member_of_a_gzip_is_read_wherever_its_pieces_end() {
        let members = [gzip(b"one "), gzip(b""), gzip(&b"two ".repeat(1_000)), gzip(b"three")].concat();
        let whole = [b"one ".to_vec(), b"two ".repeat(1_000), b"three".to_vec()].concat();
        for piece in [1, 2, 7, 18, 1_000, members.len()] {
            assert_eq!(sent(&encoded("gzip"), &members, piece).await.unwrap(), whole, "{piece}");
        }
    }

    #[tokio::test]
    async fn what_is_no_gzip_is_refused_wherever_it_breaks() {
        let good = gzip(&b"not the same ".repeat(20));
        for end in 0..good.len() {
            assert_eq!(sent(&encoded("gzip"), &good[..end], 5).await, Err("malformed-encoding"), "broken off at {end}");
        }
        for at in [0, 1, 2, good.len() - 1, good.len() - 5] {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            assert_eq!(sent(&encoded("gzip"), &bad, 50).await, Err("malformed-encoding"), "changed at {at}");
        }
        for tail in [&b"{}"[..], b"\0\0\0\0", &good[..12]] {
            let more = [&good, tail].concat();
            assert_eq!(sent(&encoded("gzip"), &more, 50).await, Err("malformed-encoding"), "{tail:?}");
        }
        assert_eq!(sent(&encoded("gzip"), b"{\"plain\": true}", 50).await, Err("malformed-encoding"));
    }

    #[tokio::test]
    async fn limits_hold_for_what_a_body_decodes_to() {
        for (bytes, result) in
            [(LIMIT, Ok(LIMIT)), (LIMIT + 1, Err("body-too-large")), (50_000_000, Err("body-too-large"))]
        {
            let coded = gzip(&vec![b' '; bytes]);
            assert!(coded.len() < LIMIT);
            assert_eq!(sent(&encoded("gzip"), &coded, 700).await.map(|read| read.len()), result, "{bytes}");
        }
        let nothing = gzip(b"").repeat(LIMIT / 20 + 1);
        assert_eq!(sent(&encoded("gzip"), &nothing, 700).await, Err("body-too-large"), "many times nothing");
        assert_eq!(sent(&HeaderMap::new(), &[b' '; LIMIT + 1], 700).await, Err("body-too-large"));
    }

    #[tokio::test]
    async fn room_is_taken_for_what_a_body_decodes_to_and_given_back() {
        let room = Room::of_bytes(64 * 1024);
        let read = |bytes: usize| {
            let (room, body) = (room.clone(), Body::from(gzip(&vec![b'x'; bytes])));
            async move { read(&encoded("gzip"), body, LIMIT, Pace::default(), Some(&room)).await }
        };
        let held = read(60_000).await.unwrap();
        assert_eq!(read(1).await.unwrap_err().slug(), "overloaded");
        drop(held);
        assert_eq!(read(80_000).await.unwrap_err().slug(), "overloaded");
        assert!(read(60_000).await.is_ok(), "what was refused has left nothing behind");
    }

    #[test]
    fn time_is_earned_by_bytes_and_has_an_end() {
        let second = Duration::from_secs(1);
        let pace = Pace { grace: second * 5, bytes_per_second_min: 1_000, whole: second * 30 };
        for (received, seconds) in [(0, 5), (1_000, 6), (20_000, 25), (25_000, 30), (1 << 40, 30)] {
            assert_eq!(pace.allowance(received), second * seconds, "{received}");
        }
    }

    #[tokio::test]
    async fn a_body_that_stops_or_trickles_is_ended_and_a_steady_one_is_not() {
        let send = |piece: usize, every: u64, pieces: usize, pace: Pace| async move {
            let pieces = stream::iter(0..pieces).then(move |_| async move {
                tokio::time::sleep(Duration::from_millis(every)).await;
                Ok::<_, io::Error>(vec![b' '; piece])
            });
            let read = read(&HeaderMap::new(), Body::from_stream(pieces), 1 << 30, pace, None).await;
            read.map(|read| read.bytes.len()).map_err(|problem| problem.slug())
        };
        let pace = |grace, whole| Pace {
            grace: Duration::from_millis(grace),
            bytes_per_second_min: 10_000,
            whole: Duration::from_millis(whole),
        };
        assert_eq!(send(1, 3_600_000, 1, pace(100, 60_000)).await, Err("body-too-slow"), "nothing comes");
        assert_eq!(send(1, 5, 100_000, pace(100, 60_000)).await, Err("body-too-slow"), "a byte at a time");
        assert_eq!(send(50_000, 5, 100_000, pace(100, 300)).await, Err("body-too-slow"), "longer than any may take");
        assert_eq!(send(10_000, 5, 50, pace(5_000, 60_000)).await, Ok(500_000), "a steady one");
    }
}
