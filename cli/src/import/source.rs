//! The files to send, and the requests they become.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, channel};
use uuid::Uuid;

use super::minify::minify;
use super::sniff::{self, Phase, Typed};

/// Resources of an NDJSON file that share a request.
const LINES_PER_REQUEST: usize = 200;
/// Requests of one file that wait for being sent.
const REQUESTS_AHEAD: usize = 1;
/// The namespace of idempotency keys made from content.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_1d7e_0c54_4c8e_9a57_6b4e_2c1f_7d21);

/// A file to send.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub size: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bundle,
    Lines,
}

/// One request: a bundle and the key that its content gives it.
#[derive(Debug)]
pub struct Request {
    pub body: Vec<u8>,
    pub key: Uuid,
    /// How many resources it carries.
    pub entries: usize,
    /// Index in the file of the request's first resource.
    pub offset: usize,
    /// Its part of the file's size, for the progress bar.
    pub weight: u64,
}

/// All files below the paths, by phase. A path that is not there is an error; a folder's other files are not looked at.
pub fn find(paths: &[PathBuf]) -> Result<Vec<Vec<Source>>> {
    let mut files = BTreeSet::new();
    for path in paths {
        let metadata = std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
        if metadata.is_dir() {
            collect(path, &mut files)?;
        } else if kind_of(path).is_some() {
            files.insert(path.clone());
        } else {
            bail!("{}: the name must end in .json or .ndjson, with or without .gz", path.display());
        }
    }
    let mut phases: BTreeMap<Phase, Vec<Source>> = BTreeMap::new();
    for path in files {
        let Some(kind) = kind_of(&path) else { continue };
        let source = Source { size: std::fs::metadata(&path)?.len(), path, kind };
        phases.entry(source.phase()?).or_default().push(source);
    }
    Ok(phases.into_values().collect())
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if kind_of(&path).is_some() {
            files.insert(path);
        }
    }
    Ok(())
}

fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match name {
        _ if name.starts_with('.') => None,
        _ if name.ends_with(".json") => Some(Kind::Bundle),
        _ if name.ends_with(".ndjson") => Some(Kind::Lines),
        _ => None,
    }
}

impl Source {
    fn phase(&self) -> Result<Phase> {
        let reader = self.open()?;
        let types = match self.kind {
            Kind::Bundle => sniff::types_of_bundle(reader),
            Kind::Lines => first_types(reader),
        };
        Ok(sniff::phase(&types))
    }

    fn open(&self) -> Result<BufReader<Box<dyn Read + Send>>> {
        let file = File::open(&self.path).with_context(|| format!("can't read {}", self.path.display()))?;
        let is_compressed = self.path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read + Send> =
            if is_compressed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        Ok(BufReader::new(reader))
    }

    /// The requests of this file, read as they are taken. An unreadable part comes as an error in its place.
    pub async fn requests(self) -> Result<Receiver<Result<Request>>> {
        let (sender, receiver) = channel(REQUESTS_AHEAD);
        tokio::task::spawn_blocking(move || {
            let outcome = match self.kind {
                Kind::Bundle => self.bundle().map(|request| sender.blocking_send(Ok(request)).is_ok()),
                Kind::Lines => self.lines(|request| sender.blocking_send(Ok(request)).is_ok()),
            };
            if let Err(error) = outcome {
                // A receiver that is gone was interrupted.
                sender.blocking_send(Err(error)).ok();
            }
        });
        Ok(receiver)
    }

    fn bundle(&self) -> Result<Request> {
        let mut text = Vec::new();
        self.open()?.read_to_end(&mut text).context("the file can't be read to its end")?;
        let body = minify(&text);
        let entries = match serde_json::from_slice::<Counted>(&body) {
            Ok(bundle) => bundle.entry.map_or(1, |entries| entries.len()),
            Err(error) => bail!("not JSON: {error}"),
        };
        Ok(Request { key: key_of(&body), body, entries, offset: 0, weight: self.size })
    }

    /// Hands over one request per chunk of lines, until told that nobody wants more.
    fn lines(&self, mut hand_over: impl FnMut(Request) -> bool) -> Result<bool> {
        let mut chunk: Vec<Box<RawValue>> = Vec::with_capacity(LINES_PER_REQUEST);
        let mut offset = 0;
        for (index, line) in self.open()?.lines().enumerate() {
            let line = line.context("the file can't be read to its end")?;
            if !line.trim().is_empty() {
                chunk.push(RawValue::from_string(line).with_context(|| format!("line {} is not JSON", index + 1))?);
            }
            if chunk.len() == LINES_PER_REQUEST {
                if !hand_over(batch(&chunk, offset, 0)?) {
                    return Ok(false);
                }
                offset += chunk.len();
                chunk.clear();
            }
        }
        let last = batch(&chunk, offset, self.size)?;
        Ok(chunk.is_empty() || hand_over(last))
    }
}

/// A bundle as far as counting its entries needs.
#[derive(Deserialize)]
struct Counted {
    entry: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct Identified {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: Option<String>,
}

/// Wraps resources into a batch: each stands for itself, and one that is refused holds up no other.
fn batch(resources: &[Box<RawValue>], offset: usize, weight: u64) -> Result<Request> {
    let mut body = br#"{"resourceType":"Bundle","type":"batch","entry":["#.to_vec();
    for (index, resource) in resources.iter().enumerate() {
        let identified: Identified = serde_json::from_str(resource.get())
            .with_context(|| format!("line {} is no resource", offset + index + 1))?;
        let full_url = identified.id.and_then(|id| Uuid::parse_str(&id).ok()).map(|id| format!("urn:uuid:{id}"));
        let request = serde_json::json!({ "method": "POST", "url": identified.resource_type });
        let separator = if index == 0 { "" } else { "," };
        body.extend_from_slice(format!("{separator}{{").as_bytes());
        if let Some(url) = full_url {
            body.extend_from_slice(format!(r#""fullUrl":"{url}","#).as_bytes());
        }
        body.extend_from_slice(format!(r#""resource":{},"request":{request}}}"#, resource.get()).as_bytes());
    }
    body.extend_from_slice(b"]}");
    Ok(Request { key: key_of(&body), body, entries: resources.len(), offset, weight })
}

fn first_types(reader: impl BufRead) -> BTreeSet<String> {
    let lines = reader.lines().take(LINES_PER_REQUEST).map_while(Result::ok);
    lines.filter_map(|line| Some(serde_json::from_str::<Typed>(&line).ok()?.resource_type)).collect()
}

fn key_of(body: &[u8]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &Sha256::digest(body))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(folder: &Path, name: &str, content: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(&path).unwrap();
        if name.ends_with(".gz") {
            flate2::write::GzEncoder::new(file, flate2::Compression::fast()).write_all(content.as_bytes()).unwrap();
        } else {
            (&file).write_all(content.as_bytes()).unwrap();
        }
    }

    #[test]
    fn folders_are_searched_and_the_directory_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.json", r#"{"entry":[{"resource":{"resourceType":"Patient"}}]}"#);
        write(folder.path(), "deep/z.json.gz", r#"{"entry":[{"resource":{"resourceType":"Organization"}}]}"#);
        write(folder.path(), "deep/Observation.ndjson", r#"{"resourceType":"Observation"}"#);
        write(folder.path(), "README.md", "not a resource");
        let phases = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<Vec<String>> = phases
            .iter()
            .map(|phase| phase.iter().map(|s| s.path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
            .collect();
        assert_eq!(names, [vec!["z.json.gz"], vec!["a.json"], vec!["Observation.ndjson"]]);
    }

    #[tokio::test]
    async fn lines_become_batches_that_keep_every_digit() {
        let folder = tempfile::tempdir().unwrap();
        let line = r#"{"resourceType":"Observation","id":"1f84d0f1-976e-1a46-e50e-f5d3d421f41a","v":1.50}"#;
        write(folder.path(), "o.ndjson.gz", &format!("{line}\n").repeat(LINES_PER_REQUEST + 1));
        let source = find(&[folder.path().join("o.ndjson.gz")]).unwrap().remove(0).remove(0);
        let mut requests = source.requests().await.unwrap();
        let first = requests.recv().await.unwrap().unwrap();
        let second = requests.recv().await.unwrap().unwrap();
        assert_eq!((first.entries, first.offset), (LINES_PER_REQUEST, 0));
        assert_eq!((second.entries, second.offset), (1, LINES_PER_REQUEST));
        let expected = format!(
            r#"{{"resourceType":"Bundle","type":"batch","entry":[{{"fullUrl":"urn:uuid:1f84d0f1-976e-1a46-e50e-f5d3d421f41a","resource":{line},"request":{{"method":"POST","url":"Observation"}}}}]}}"#
        );
        assert_eq!(String::from_utf8(second.body).unwrap(), expected);
        assert!(requests.recv().await.is_none());
    }

    #[tokio::test]
    async fn the_key_depends_on_the_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "pretty.json", "{\n  \"entry\": [ { } ]\n}\n");
        write(folder.path(), "compact.json.gz", r#"{"entry":[{}]}"#);
        write(folder.path(), "other.json", r#"{"entry":[{},{}]}"#);
        let key = async |name: &str| {
            let source = find(&[folder.path().join(name)]).unwrap().remove(0).remove(0);
            source.requests().await.unwrap().recv().await.unwrap().unwrap().key
        };
        assert_eq!(key("pretty.json").await, key("compact.json.gz").await);
        assert_ne!(key("pretty.json").await, key("other.json").await);
    }
}
