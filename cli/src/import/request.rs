//! What a file becomes: requests, one bundle each.
//!
//! A transaction or a batch is sent as it is. The resources of an NDJSON file, of other bundles, and those that are a file
//! by themselves are wrapped into batches, in which each stands for itself. What
//! was refused of a batch can be taken out of its file and sent again, under another key: the server remembers its
//! answer to the first one, refusals included.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, Read as _};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, channel};
use uuid::Uuid;

use super::content::{Identified, Item, NAMESPACE, Shape, Top, wrap};
use super::minify::minify;
use super::source::{Kind, Meter, Source};

/// Resources of an NDJSON file that share a request.
const LINES_PER_REQUEST: usize = 200;
/// A batch that has grown this large is sent: far below what the server takes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Requests of one file that wait for being sent.
const REQUESTS_AHEAD: usize = 1;
/// The entries of a bundle that share a request, at most: what the server takes.
const BUNDLE_ENTRIES: usize = 20_000;
/// A batch of a bundle's entries that has grown this large is sent: the server takes a little more.
const BUNDLE_BYTES: usize = 60 * 1024 * 1024;
const CUT_OFF: &str = "the file can't be read to its end";

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
        let outcome = match source.kind {
            Kind::Lines => {
                let meter = Meter::default();
                let reader = source.open(&meter);
                reader.and_then(|reader| lines(reader, &source, &selection, &meter, &mut hand_over))
            }
            Kind::Json => json(&source, &selection, &mut hand_over),
        };
        if let Err(error) = outcome {
            hand_over(Err(Unreadable { entry: None, problem: format!("{error:#}") }));
        }
    });
    receiver
}

/// A JSON file: a bundle, a resource by itself, or resources one after the other under a name that says otherwise.
fn json(source: &Source, selection: &Selection, hand_over: &mut impl HandOver) -> Result<()> {
    let meter = Meter::default();
    let (text, cut_off) = read_to_end(source, &meter)?;
    let text = trimmed(&text);
    let (top, outcome) = Top::read(text);
    match (top.shape(), outcome) {
        _ if text.is_empty() => bail!("the file is empty"),
        (Shape::Single, Ok(())) => single(source, text, selection, &meter, hand_over),
        (Shape::Transaction, Ok(())) => as_it_is(text, &top, selection, &meter, hand_over),
        (Shape::Batch, Ok(())) if matches!(selection, Selection::Everything) => {
            as_it_is(text, &top, selection, &meter, hand_over)
        }
        (Shape::Batch | Shape::Holding | Shape::History, outcome) => {
            one_by_one(&top, selection, &meter, hand_over);
            let cut_off = cut_off.filter(|_| outcome.is_err());
            let Err(error) = outcome else { return Ok(()) };
            let (count, broken) = (top.entries.len(), broken(&error, cut_off.as_ref()));
            bail!("{broken}; what comes before it ({count} entries) was sent: send the whole file again later")
        }
        (_, Err(error)) if has_lines(text, &error) => lines(text, source, selection, &meter, hand_over),
        (_, Err(error)) => bail!("{}; nothing of it was sent", broken(&error, cut_off.as_ref())),
    }
}

/// Where the file is not what it should be.
fn broken(error: &serde_json::Error, cut_off: Option<&std::io::Error>) -> String {
    let (line, column) = (error.line(), error.column());
    match cut_off {
        Some(reason) => format!("{CUT_OFF} ({reason}): it breaks off at line {line}, column {column}"),
        None => format!("not JSON: it breaks at line {line}, column {column}"),
    }
}

/// Whether the first line is a whole by itself, and others come after it.
fn has_lines(text: &[u8], error: &serde_json::Error) -> bool {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    error.is_syntax() && first.len() < text.len() && serde_json::from_slice::<Identified>(first).is_ok()
}

/// Without what old systems put at the end of a file.
fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !byte.is_ascii_whitespace() && ![0, 0x1a].contains(byte));
    text[..end.map_or(0, |end| end + 1)].trim_ascii_start()
}

/// A resource by itself.
fn single(
    source: &Source,
    text: &[u8],
    selection: &Selection,
    meter: &Meter,
    hand_over: &mut impl HandOver,
) -> Result<()> {
    if selection.company(0).is_none() {
        return Ok(());
    }
    let text = String::from_utf8(minify(text)).context("it is not UTF-8")?;
    let mut batch = Batch::default();
    for item in wrap(0, &text, source.base.as_deref()).context("it is no resource")? {
        batch.add(0, item);
    }
    batch.hand_over(selection, meter, hand_over);
    Ok(())
}

/// A bundle that says itself what is to be done. A transaction was refused as a whole, for what it is: it is not sent again.
fn as_it_is(
    text: &[u8],
    top: &Top<'_>,
    selection: &Selection,
    meter: &Meter,
    hand_over: &mut impl HandOver,
) -> Result<()> {
    if matches!(selection, Selection::Everything) {
        let body = minify(text);
        let (key, weight) = (selection.key(&body), meter.take());
        hand_over(Ok(Request { body, key, entries: (0..top.entries.len()).collect(), weight }));
    }
    Ok(())
}

/// The entries of a bundle, each for itself; of what is sent again, those beside it that it may refer to by their
/// `fullUrl`.
fn one_by_one(top: &Top<'_>, selection: &Selection, meter: &Meter, hand_over: &mut impl HandOver) {
    let mut batch = Batch::default();
    let mut refused_in_batch = false;
    for (index, item) in top.items() {
        let is_refused = matches!(selection, Selection::Again(refused) if refused.contains_key(&index));
        let item = match item {
            Ok(item) => item,
            Err(problem) => {
                hand_over(Err(Unreadable { entry: Some(index), problem }));
                continue;
            }
        };
        let again = || serde_json::from_str::<Entry>(&item.entry).is_ok_and(|entry| entry.is_sent_again(is_refused));
        if matches!(selection, Selection::Again(_)) && !again() {
            continue;
        }
        if batch.has(&item) || batch.is_full_bundle() {
            flush(&mut batch, &mut refused_in_batch, selection, meter, hand_over);
        }
        refused_in_batch |= is_refused;
        batch.add(index, item);
    }
    flush(&mut batch, &mut refused_in_batch, selection, meter, hand_over);
}

/// What keeps others company only is not sent by itself.
fn flush(
    batch: &mut Batch,
    refused_in_batch: &mut bool,
    selection: &Selection,
    meter: &Meter,
    hand_over: &mut impl HandOver,
) {
    if matches!(selection, Selection::Everything) || *refused_in_batch {
        batch.hand_over(selection, meter, hand_over);
    }
    (*batch, *refused_in_batch) = (Batch::default(), false);
}

/// What can be read, and why the rest can't.
fn read_to_end(source: &Source, meter: &Meter) -> Result<(Vec<u8>, Option<std::io::Error>)> {
    let mut text = Vec::new();
    let cut_off = source.open(meter)?.read_to_end(&mut text).err();
    Ok((text, cut_off))
}

/// Hands over one request per batch of lines, until told that nobody wants more.
fn lines(
    mut reader: impl BufRead,
    source: &Source,
    selection: &Selection,
    meter: &Meter,
    hand_over: &mut impl HandOver,
) -> Result<()> {
    let (mut batch, mut line) = (Batch::default(), Vec::new());
    for index in 0.. {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                batch.hand_over(selection, meter, hand_over);
                bail!("{CUT_OFF} ({error}): it breaks off in line {}; the lines before it were sent", index + 1);
            }
        }
        let Some(company) = selection.company(index) else { continue };
        let line = trimmed(&line);
        if line.is_empty() {
            continue;
        }
        let is_wanted = match read_line(index, line, source.base.as_deref()) {
            Ok(items) => {
                add_line(&mut batch, (index, company), items, |batch| batch.hand_over(selection, meter, hand_over))
            }
            Err(problem) => hand_over(Err(Unreadable { entry: Some(index), problem })),
        };
        if !is_wanted {
            return Ok(());
        }
    }
    batch.hand_over(selection, meter, hand_over);
    Ok(())
}

/// Adds what a line is to a batch, which is sent before it if it has no room for it, and after it if the line is to be
/// alone. False if nobody wants more.
fn add_line(
    batch: &mut Batch,
    (index, company): (usize, Company),
    items: Vec<Item>,
    mut send: impl FnMut(&mut Batch) -> bool,
) -> bool {
    if (company == Company::Alone || batch.is_full()) && !send(batch) {
        return false;
    }
    for item in items {
        // Two versions of a resource go one after the other.
        if batch.has(&item) && !send(batch) {
            return false;
        }
        batch.add(index, item);
    }
    company == Company::Shared || send(batch)
}

/// What a line is, or what is wrong with it.
fn read_line(index: usize, line: &[u8], base: Option<&str>) -> Result<Vec<Item>, String> {
    // What is wrong is said without what is there: the report may be shown to others than the patient's data.
    let number = index + 1;
    let text = std::str::from_utf8(line).map_err(|_| format!("line {number} is not UTF-8"))?;
    wrap(index, text, base).map_err(|error| {
        if error.is_data() {
            return format!("line {number} is no resource");
        }
        format!("line {number} is not JSON: it breaks at column {}", error.column())
    })
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
    /// Type and id of its resources.
    names: HashSet<String>,
}

impl Batch {
    fn add(&mut self, index: usize, item: Item) {
        if !self.entries.is_empty() {
            self.text.push(',');
        }
        self.entries.push(index);
        self.text.push_str(&item.entry);
        self.names.extend(item.name);
    }

    /// Whether it has a version of this resource already.
    fn has(&self, item: &Item) -> bool {
        item.name.as_ref().is_some_and(|name| self.names.contains(name))
    }

    /// Whether it is as large as a bundle may be. The entries of a bundle may refer to each other by names that only
    /// hold within it, so they go together as far as they can.
    fn is_full_bundle(&self) -> bool {
        self.entries.len() >= BUNDLE_ENTRIES || self.text.len() >= BUNDLE_BYTES
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= LINES_PER_REQUEST || self.text.len() >= BATCH_BYTES
    }

    fn take(&mut self, selection: &Selection, weight: u64) -> Request {
        let Self { entries, text, .. } = std::mem::take(self);
        let body = format!(r#"{{"resourceType":"Bundle","type":"batch","entry":[{text}]}}"#).into_bytes();
        Request { key: selection.key(&body), body, entries, weight }
    }

    /// False if nobody wants more.
    fn hand_over(&mut self, selection: &Selection, meter: &Meter, hand_over: &mut impl HandOver) -> bool {
        self.entries.is_empty() || hand_over(Ok(self.take(selection, meter.take())))
    }
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
        let source = find(&[path.to_owned()]).unwrap().phases.remove(0).remove(0);
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
        let line_of = |id: &str| format!(r#"{{"resourceType":"Observation","id":"{id}","v":1.50}}"#);
        let line = line_of(ID);
        let before: Vec<String> = (0..LINES_PER_REQUEST).map(|number| line_of(&format!("o{number}"))).collect();
        let content = format!("{}\n{line}\n", before.join("\n"));
        let taken = taken_of("o.ndjson", &content, Selection::Everything).await;
        let [Ok(first), Ok(second)] = &taken[..] else { panic!("{} requests", taken.len()) };
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
        assert!(rest.problem.contains("breaks off in line 3"), "{}", rest.problem);
    }

    fn bodies(taken: &[Result<Request, Unreadable>]) -> Vec<String> {
        taken.iter().flatten().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect()
    }

    #[tokio::test]
    async fn two_versions_of_a_resource_go_one_after_the_other() {
        let version = |rank| format!(r#"{{"resourceType":"Goal","id":"g","rank":{rank}}}"#);
        let content = format!("{}\n{}\n{}", version(1), version(2), version(3));
        let taken = taken_of("g.ndjson", &content, Selection::Everything).await;
        let bodies = bodies(&taken);
        assert_eq!(bodies.len(), 3);
        assert!(bodies[0].contains("\"rank\":1") && bodies[2].contains("\"rank\":3"));
    }

    #[tokio::test]
    async fn a_resource_by_itself_and_resources_under_another_name_are_taken() {
        let goal = "{\n \"resourceType\": \"Goal\",\n \"id\": \"g\"\n}\n\u{1a}";
        let single = taken_of("goal.json", goal, Selection::Everything).await;
        assert!(bodies(&single)[0].contains(r#""resource":{"resourceType":"Goal","id":"g"}"#));
        let line = r#"{"resourceType":"Goal"}"#;
        let many = taken_of("goals.json", &format!("{line}\r\n{line}\r\n"), Selection::Everything).await;
        assert_eq!(many[0].as_ref().unwrap().entries, [0, 1]);
        let [Err(empty)] = &taken_of("none.json", " \n", Selection::Everything).await[..] else { panic!("no request") };
        assert_eq!(empty.problem, "the file is empty");
    }

    #[tokio::test]
    async fn of_a_bundle_that_breaks_off_the_complete_entries_are_sent_unless_they_are_one() {
        let entry = r#"{"resource":{"resourceType":"Goal","id":"g"},"request":{"method":"POST","url":"Goal"}}"#;
        let cut = |kind| format!("{{\"resourceType\":\"Bundle\",\"type\":\"{kind}\",\"entry\":[\n{entry},\n{{\"reso");
        for kind in ["batch", "collection", "searchset"] {
            let taken = taken_of("b.json", &cut(kind), Selection::Everything).await;
            let [Ok(beginning), Err(rest)] = &taken[..] else { panic!("{taken:?}") };
            assert_eq!(beginning.entries, [0]);
            assert!(
                rest.problem.contains("line 3, column 6") && rest.problem.contains("(1 entries)"),
                "{}",
                rest.problem
            );
        }
        let taken = taken_of("b.json", &cut("transaction"), Selection::Everything).await;
        let [Err(whole)] = &taken[..] else { panic!("{taken:?}") };
        assert!(whole.problem.contains("line 3") && whole.problem.contains("nothing of it was sent"));
    }

    #[tokio::test]
    async fn what_was_refused_of_a_collection_is_sent_again_with_its_company() {
        let goal = |id| format!(r#"{{"fullUrl":"urn:uuid:{ID}{id}","resource":{{"resourceType":"Goal"}}}}"#);
        let content = format!(
            r#"{{"resourceType":"Bundle","type":"document","entry":[{},{},{{"resource":{{"resourceType":"Goal"}}}}]}}"#,
            goal(1),
            goal(2)
        );
        let taken = taken_of("d.json", &content, again(&[(1, Company::Shared)])).await;
        assert_eq!(taken[0].as_ref().unwrap().entries, [0, 1, 2]);
        assert!(taken_of("d.json", &content, again(&[])).await.is_empty());
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
            let (top, _) = Top::read(&request.body);
            let entries = top.entries.iter().map(|raw| serde_json::from_str::<Entry>(raw.get()).unwrap());
            entries.filter_map(|entry| entry.full_url).collect()
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
        let content = format!(r#"{{"resourceType":"Bundle","type":"batch","entry":[{}]}}"#, entries.join(","));
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
