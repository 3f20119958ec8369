//! What a file becomes: requests, one bundle each.
//!
//! A bundle is sent as it is. Resources of an NDJSON file are wrapped into batches, in which each stands for itself. What
//! was refused of a batch can be taken out of its file and sent again, under another key: the server remembers its
//! answer to the first one, refusals included.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, channel};
use uuid::Uuid;

use super::minify::minify;
use super::source::{Kind, Meter, Source};

/// Resources of an NDJSON file that share a request.
const LINES_PER_REQUEST: usize = 200;
/// A batch that has grown this large is sent: far below what the server takes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Requests of one file that wait for being sent.
const REQUESTS_AHEAD: usize = 1;
const CUT_OFF: &str = "the file can't be read to its end";
/// The namespace of idempotency keys and ids made from content.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_1d7e_0c54_4c8e_9a57_6b4e_2c1f_7d21);

/// One request: a bundle and its idempotency key.
#[derive(Debug)]
pub struct Request {
    pub body: Vec<u8>,
    pub key: Uuid,
    /// Index in the file of each resource it carries: of the bundle's entry, or of the line.
    pub entries: Vec<usize>,
    /// Bytes of the file that were read for it.
    pub weight: u64,
}

/// A part of a file that can't be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Index in the file; `None` if it is all of the rest.
    pub entry: Option<usize>,
    pub problem: String,
}

/// Which part of a file is sent.
#[derive(Clone, Debug)]
pub enum Selection {
    Everything,
    /// What was refused of it.
    Again(BTreeMap<usize, Company>),
}

/// With whom a resource is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    Shared,
    /// Its request was refused as a whole; whose fault it was shows when each is sent by itself.
    Alone,
}

impl Selection {
    fn company(&self, index: usize) -> Option<Company> {
        match self {
            Self::Everything => Some(Company::Shared),
            Self::Again(refused) => refused.get(&index).copied(),
        }
    }

    /// The same content has the same key, so that nothing is done twice; what is sent again wants another answer.
    fn key(&self, body: &[u8]) -> Uuid {
        match self {
            Self::Everything => Uuid::new_v5(&NAMESPACE, &Sha256::digest(body)),
            Self::Again(_) => Uuid::new_v4(),
        }
    }
}

/// The requests of a file, read as they are taken. An unreadable part comes as an error in its place.
pub fn requests(source: Source, selection: Selection) -> Receiver<Result<Request, Unreadable>> {
    let (sender, receiver) = channel(REQUESTS_AHEAD);
    tokio::task::spawn_blocking(move || {
        // A receiver that is gone was interrupted.
        let mut hand_over = |item| sender.blocking_send(item).is_ok();
        let outcome = match (source.kind, &selection) {
            (Kind::Lines, _) => lines(&source, &selection, &mut hand_over),
            (Kind::Bundle, Selection::Everything) => bundle(&source, &mut hand_over),
            (Kind::Bundle, Selection::Again(refused)) => bundle_again(&source, refused, &mut hand_over),
        };
        if let Err(error) = outcome {
            hand_over(Err(Unreadable { entry: None, problem: format!("{error:#}") }));
        }
    });
    receiver
}

fn bundle(source: &Source, hand_over: &mut impl HandOver) -> Result<()> {
    let meter = Meter::default();
    let text = read_to_end(source, &meter)?;
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&text) {
        bail!("not JSON: it breaks at line {}, column {}", error.line(), error.column());
    }
    let body = minify(&text);
    // What is no bundle has no entries; the server says what is wrong with it.
    let count = serde_json::from_slice::<Entries<IgnoredAny>>(&body).map_or(0, |bundle| bundle.entry.len());
    let (key, weight) = (Selection::Everything.key(&body), meter.take());
    hand_over(Ok(Request { body, key, entries: (0..count).collect(), weight }));
    Ok(())
}

/// What was refused of a batch bundle, with those beside it that it may refer to by their `fullUrl`.
fn bundle_again(source: &Source, refused: &BTreeMap<usize, Company>, hand_over: &mut impl HandOver) -> Result<()> {
    let text = read_to_end(source, &Meter::default())?;
    let bundle: Entries<&RawValue> = serde_json::from_slice(&text).context("not the bundle that it was")?;
    let mut batch = Batch::default();
    let mut some_were_refused = false;
    for (index, entry) in bundle.entry.iter().enumerate() {
        let is_refused = refused.contains_key(&index);
        if serde_json::from_str::<Entry>(entry.get()).is_ok_and(|entry| entry.is_sent_again(is_refused)) {
            some_were_refused |= is_refused;
            batch.add(index, &String::from_utf8_lossy(&minify(entry.get().as_bytes())));
        }
    }
    if some_were_refused {
        hand_over(Ok(batch.take(&Selection::Again(BTreeMap::new()), 0)));
    }
    Ok(())
}

fn read_to_end(source: &Source, meter: &Meter) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    source.open(meter)?.read_to_end(&mut text).context(CUT_OFF)?;
    Ok(text)
}

/// Hands over one request per batch of lines, until told that nobody wants more.
fn lines(source: &Source, selection: &Selection, hand_over: &mut impl HandOver) -> Result<()> {
    let meter = Meter::default();
    let mut reader = source.open(&meter)?;
    let (mut batch, mut line) = (Batch::default(), Vec::new());
    for index in 0.. {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                batch.hand_over(selection, &meter, hand_over);
                return Err(error).context(CUT_OFF);
            }
        }
        let Some(company) = selection.company(index) else { continue };
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if (company == Company::Alone || batch.is_full()) && !batch.hand_over(selection, &meter, hand_over) {
            return Ok(());
        }
        let is_wanted = match wrap(index, line) {
            Ok(entry) => {
                batch.add(index, &entry);
                company == Company::Shared || batch.hand_over(selection, &meter, hand_over)
            }
            Err(problem) => hand_over(Err(Unreadable { entry: Some(index), problem })),
        };
        if !is_wanted {
            return Ok(());
        }
    }
    batch.hand_over(selection, &meter, hand_over);
    Ok(())
}

/// Takes what is ready to be sent, and answers whether more is wanted.
trait HandOver: FnMut(Result<Request, Unreadable>) -> bool {}

impl<F: FnMut(Result<Request, Unreadable>) -> bool> HandOver for F {}

/// A batch bundle in the making.
#[derive(Default)]
struct Batch {
    entries: Vec<usize>,
    /// The entries as JSON, without the bundle around them.
    text: String,
}

impl Batch {
    fn add(&mut self, index: usize, entry: &str) {
        if !self.entries.is_empty() {
            self.text.push(',');
        }
        self.entries.push(index);
        self.text.push_str(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= LINES_PER_REQUEST || self.text.len() >= BATCH_BYTES
    }

    fn take(&mut self, selection: &Selection, weight: u64) -> Request {
        let Self { entries, text } = std::mem::take(self);
        let body = format!(r#"{{"resourceType":"Bundle","type":"batch","entry":[{text}]}}"#).into_bytes();
        Request { key: selection.key(&body), body, entries, weight }
    }

    /// False if nobody wants more.
    fn hand_over(&mut self, selection: &Selection, meter: &Meter, hand_over: &mut impl HandOver) -> bool {
        self.entries.is_empty() || hand_over(Ok(self.take(selection, meter.take())))
    }
}

/// A resource as an entry of a batch, or what is wrong with the line.
fn wrap(index: usize, line: &[u8]) -> Result<String, String> {
    // What is wrong is said without what is there: the report may be shown to others than the patient's data.
    let number = index + 1;
    let text = std::str::from_utf8(line).map_err(|_| format!("line {number} is not UTF-8"))?;
    let resource: Identified = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            return format!("line {number} is no resource");
        }
        format!("line {number} is not JSON: it breaks at column {}", error.column())
    })?;
    let full_url = match &resource.id {
        // Its id comes from its content and place, and not from the request's key, which changes when it is sent again.
        None => Some(Uuid::new_v5(&NAMESPACE, format!("{index} {text}").as_bytes())),
        Some(id) => Uuid::parse_str(id).ok(),
    };
    let full_url = full_url.map(|id| format!(r#""fullUrl":"urn:uuid:{id}","#)).unwrap_or_default();
    let request = serde_json::json!({ "method": "POST", "url": resource.resource_type });
    Ok(format!(r#"{{{full_url}"resource":{text},"request":{request}}}"#))
}

/// A bundle as far as its entries.
#[derive(Deserialize)]
struct Entries<T> {
    #[serde(default = "Vec::new")]
    entry: Vec<T>,
}

#[derive(Deserialize)]
struct Identified {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: Option<String>,
}

/// What of an entry tells whether it can be sent twice.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "fullUrl")]
    full_url: Option<String>,
    resource: Option<WithId>,
    request: Option<Method>,
}

#[derive(Deserialize)]
struct WithId {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Method {
    method: String,
}

impl Entry {
    /// A resource that has a name is created once, however often it is sent; one without would be created again. Changes
    /// and deletions that were accepted are not repeated: somebody may have gone on from there.
    fn is_sent_again(&self, is_refused: bool) -> bool {
        if self.request.as_ref().is_some_and(|request| request.method == "POST") {
            self.full_url.is_some() || self.resource.as_ref().is_some_and(|resource| resource.id.is_some())
        } else {
            is_refused
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::super::source::find;
    use super::*;

    const ID: &str = "1f84d0f1-976e-1a46-e50e-f5d3d421f41a";

    async fn taken(path: &Path, selection: Selection) -> Vec<Result<Request, Unreadable>> {
        let source = find(&[path.to_owned()]).unwrap().remove(0).remove(0);
        let (mut receiver, mut taken) = (requests(source, selection), Vec::new());
        while let Some(item) = receiver.recv().await {
            taken.push(item);
        }
        taken
    }

    async fn taken_of(name: &str, content: &str, selection: Selection) -> Vec<Result<Request, Unreadable>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        taken(&folder.path().join(name), selection).await
    }

    fn again(refused: &[(usize, Company)]) -> Selection {
        Selection::Again(refused.iter().copied().collect())
    }

    #[tokio::test]
    async fn lines_become_batches_that_keep_every_digit() {
        let line = format!(r#"{{"resourceType":"Observation","id":"{ID}","v":1.50}}"#);
        let content = format!("{line}\n").repeat(LINES_PER_REQUEST + 1);
        let taken = taken_of("o.ndjson", &content, Selection::Everything).await;
        let [Ok(first), Ok(second)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(first.entries, (0..LINES_PER_REQUEST).collect::<Vec<_>>());
        assert_eq!(second.entries, [LINES_PER_REQUEST]);
        assert_eq!(first.weight + second.weight, content.len() as u64);
        let expected = format!(
            r#"{{"resourceType":"Bundle","type":"batch","entry":[{{"fullUrl":"urn:uuid:{ID}","resource":{line},"request":{{"method":"POST","url":"Observation"}}}}]}}"#
        );
        assert_eq!(String::from_utf8_lossy(&second.body), expected);
    }

    #[tokio::test]
    async fn a_bad_line_is_named_and_holds_up_no_other() {
        let good = r#"{"resourceType":"Basic"}"#;
        let content = format!("{good}\n\n  \n{{\"resourceType\":\n{good}\n[1]\n{good}");
        let taken = taken_of("b.ndjson", &content, Selection::Everything).await;
        let [Err(cut_off), Err(no_resource), Ok(rest)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(cut_off.entry, Some(3));
        assert_eq!(cut_off.problem, "line 4 is not JSON: it breaks at column 16");
        assert_eq!(*no_resource, Unreadable { entry: Some(5), problem: "line 6 is no resource".to_owned() });
        assert_eq!(rest.entries, [0, 4, 6]);
    }

    #[tokio::test]
    async fn of_a_file_that_is_cut_off_the_beginning_is_sent() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        encoder.write_all("{\"resourceType\":\"Basic\"}\n".repeat(3).as_bytes()).unwrap();
        let whole = encoder.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.ndjson.gz");
        std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        let taken = taken(&path, Selection::Everything).await;
        let [Ok(beginning), Err(rest)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(beginning.entries, [0, 1]);
        assert_eq!(rest.entry, None);
    }

    #[tokio::test]
    async fn what_was_refused_is_sent_again_under_another_key_and_the_same_id() {
        let content = "{\"resourceType\":\"Basic\"}\n".repeat(4);
        let first = taken_of("b.ndjson", &content, Selection::Everything).await.remove(0).unwrap();
        let shared = again(&[(1, Company::Shared), (3, Company::Shared)]);
        let second = taken_of("b.ndjson", &content, shared.clone()).await.remove(0).unwrap();
        let third = taken_of("b.ndjson", &content, shared).await.remove(0).unwrap();
        assert_eq!((&second.entries, &second.body), (&vec![1, 3], &third.body));
        assert!(first.key != second.key && second.key != third.key);
        let urls = |request: &Request| -> Vec<String> {
            let bundle: Entries<Entry> = serde_json::from_slice(&request.body).unwrap();
            bundle.entry.into_iter().filter_map(|entry| entry.full_url).collect()
        };
        assert_eq!(urls(&second), [urls(&first)[1].clone(), urls(&first)[3].clone()]);
        assert_ne!(urls(&second)[0], urls(&second)[1]);
    }

    #[tokio::test]
    async fn the_suspects_of_a_refused_request_are_sent_one_by_one() {
        let content = "{\"resourceType\":\"Basic\"}\n".repeat(4);
        let suspects = again(&[(0, Company::Shared), (1, Company::Alone), (2, Company::Alone), (3, Company::Shared)]);
        let taken = taken_of("b.ndjson", &content, suspects).await;
        let entries: Vec<_> = taken.into_iter().map(|request| request.unwrap().entries).collect();
        assert_eq!(entries, [[0], [1], [2], [3]]);
    }

    #[tokio::test]
    async fn of_a_bundle_that_is_sent_again_which_can_be_sent_twice() {
        let post = r#""request":{"method":"POST","url":"Basic"}"#;
        let put = r#""request":{"method":"PUT","url":"Basic/1"}"#;
        let entries = [
            format!(r#"{{"fullUrl":"urn:uuid:{ID}",{post}}}"#),
            format!(r#"{{"resource":{{"id":"1"}},{post}}}"#),
            format!(r#"{{"resource":{{}},{post}}}"#),
            format!(r#"{{"resource":{{"id":"1"}},{put}}}"#),
            format!(r#"{{"resource":{{"id":"2"}},{put}}}"#),
        ];
        let content = format!(r#"{{"type":"batch","entry":[{}]}}"#, entries.join(","));
        let refused = again(&[(1, Company::Shared), (2, Company::Shared), (4, Company::Shared)]);
        let request = taken_of("b.json", &content, refused).await.remove(0).unwrap();
        assert_eq!(request.entries, [0, 1, 4]);
        let nameless = again(&[(2, Company::Shared)]);
        assert!(taken_of("b.json", &content, nameless).await.is_empty());
    }

    #[tokio::test]
    async fn the_key_of_a_bundle_depends_on_its_content_alone() {
        let key = async |content| taken_of("b.json", content, Selection::Everything).await.remove(0).unwrap().key;
        assert_eq!(key("{\n  \"entry\": [ { } ]\n}\n").await, key(r#"{"entry":[{}]}"#).await);
        assert_ne!(key(r#"{"entry":[{}]}"#).await, key(r#"{"entry":[{},{}]}"#).await);
    }
}
