//! The files to send: found, put in order, opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;

use super::sniff::{self, Look};

/// Lines of an NDJSON file that are looked at to tell what is in it.
const LINES_LOOKED_AT: usize = 200;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZIP: &[u8] = b"PK\x03\x04";
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];
const UTF_16: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// A file to send.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub size: u64,
    pub kind: Kind,
    /// What the absolute references of the export that it is part of begin with: the address of the server that it is
    /// from.
    pub base: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bundle, or a resource by itself.
    Json,
    /// NDJSON: one resource a line.
    Lines,
}

/// What was found below the paths.
#[derive(Debug, Default)]
pub struct Found {
    /// The files to send; what is in a phase may refer to what is in those before it.
    pub phases: Vec<Vec<Source>>,
    /// Files of folders that are no resources by their names.
    pub skipped: Vec<PathBuf>,
}

/// All files below the paths. A path that is not there is an error.
pub fn find(paths: &[PathBuf]) -> Result<Found> {
    let (mut files, mut skipped) = (BTreeSet::new(), Vec::new());
    for path in paths {
        let metadata = std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
        if metadata.is_dir() {
            collect(path, &mut files, &mut skipped)?;
        } else if kind_of(path).is_some() {
            files.insert(path.clone());
        } else if has_ending(path, ".zip") {
            bail!("{}: zip archives are not read; unpack it and import the folder", path.display());
        } else {
            bail!("{}: the name must end in .json or .ndjson, with or without .gz", path.display());
        }
    }
    skipped.sort();
    Ok(Found { phases: in_phases(files)?, skipped })
}

fn in_phases(files: BTreeSet<PathBuf>) -> Result<Vec<Vec<Source>>> {
    let mut looked_at = Vec::with_capacity(files.len());
    for path in files {
        let Some(kind) = kind_of(&path) else { continue };
        let source = Source { size: std::fs::metadata(&path)?.len(), path, kind, base: None };
        let look = source.look();
        looked_at.push((source, look));
    }
    let bases = Bases::of(&looked_at);
    let mut phases: BTreeMap<_, Vec<Source>> = BTreeMap::new();
    for (source, look) in looked_at {
        let base = bases.of_file(&source.path);
        phases.entry(sniff::phase(&look.types)).or_default().push(Source { base, ..source });
    }
    Ok(phases.into_values().collect())
}

/// The addresses that references to patients begin with, by folder: the files of one export lie together.
#[derive(Default)]
struct Bases {
    by_folder: BTreeMap<PathBuf, BTreeSet<String>>,
    all: BTreeSet<String>,
}

impl Bases {
    fn of(looked_at: &[(Source, Look)]) -> Self {
        let mut bases = Self::default();
        for (source, look) in looked_at {
            let folder = source.path.parent().unwrap_or(Path::new("")).to_owned();
            bases.by_folder.entry(folder).or_default().extend(look.bases.iter().cloned());
            bases.all.extend(look.bases.iter().cloned());
        }
        bases
    }

    /// The base of the export that a file is part of, as far as there is no doubt.
    fn of_file(&self, path: &Path) -> Option<Arc<str>> {
        let only = |bases: &BTreeSet<String>| bases.first().filter(|_| bases.len() == 1).map(|base| Arc::from(&**base));
        self.by_folder.get(path.parent()?).and_then(only).or_else(|| only(&self.all))
    }
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>, skipped: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files, skipped)?;
        } else if kind_of(&path).is_some() {
            files.insert(path);
        } else {
            skipped.push(path);
        }
    }
    Ok(())
}

/// Endings have no case: they come from all kinds of systems.
fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name {
        _ if name.ends_with(".json") => Some(Kind::Json),
        _ if name.ends_with(".ndjson") || name.ends_with(".jsonl") => Some(Kind::Lines),
        _ => None,
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.to_ascii_lowercase().ends_with(ending))
}

impl Source {
    /// What is in it, as far as a short look tells. A file that can't be read shows itself when it is sent.
    fn look(&self) -> Look {
        let Ok(reader) = self.open(&Meter::default()) else { return Look::default() };
        match self.kind {
            Kind::Lines => look_at_lines(reader),
            Kind::Json => {
                let look = sniff::look_at_json(reader);
                if look.is_single { self.look_at_references(look) } else { look }
            }
        }
    }

    fn look_at_references(&self, mut look: Look) -> Look {
        let mut text = Vec::new();
        if self.open(&Meter::default()).is_ok_and(|mut reader| reader.read_to_end(&mut text).is_ok()) {
            look.bases.extend(sniff::bases_in(&text));
        }
        look
    }

    /// Opens it for reading, decompressed and without a byte order mark. The meter runs with what is read of the file
    /// itself.
    pub fn open(&self, meter: &Meter) -> Result<BufReader<Box<dyn Read + Send>>> {
        let file = File::open(&self.path).with_context(|| format!("can't read {}", self.path.display()))?;
        let (start, file) = peek(Metered { file, meter: meter.clone() })?;
        let is_named_gz = has_ending(&self.path, ".gz");
        match &start[..] {
            start if start.starts_with(ZIP) => bail!("it is a zip archive; unpack it first"),
            start if start.starts_with(GZIP) && !is_named_gz => {
                bail!("it is compressed with gzip, and its name does not end in .gz")
            }
            start if !start.is_empty() && is_named_gz && !start.starts_with(GZIP) => {
                bail!("its name ends in .gz, and it is not compressed with gzip")
            }
            _ => {}
        }
        let file = Cursor::new(start).chain(file);
        let reader: Box<dyn Read + Send> =
            if is_named_gz { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        let (start, reader) = peek(reader).context("it can't be decompressed")?;
        if UTF_16.iter().any(|mark| start.starts_with(mark)) {
            bail!("it is UTF-16; JSON is UTF-8");
        }
        let text = start.strip_prefix(BOM).unwrap_or(&start).to_vec();
        Ok(BufReader::new(Box::new(Cursor::new(text).chain(reader))))
    }
}

/// The first bytes, as far as there are any, and the rest.
fn peek<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, R)> {
    let mut start = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut start)?;
    Ok((start, reader))
}

/// Counts the bytes that are read of a file.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// What was read since the last call.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

struct Metered {
    file: File,
    meter: Meter,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.meter.0.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

fn look_at_lines(reader: impl BufRead) -> Look {
    let mut look = Look::default();
    for line in reader.lines().take(LINES_LOOKED_AT).map_while(Result::ok) {
        look.add_resource(line.as_bytes());
    }
    look
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

    fn only(path: &Path) -> Source {
        find(&[path.to_owned()]).unwrap().phases.remove(0).remove(0)
    }

    fn text_of(folder: &Path, name: &str, content: &[u8]) -> Result<String> {
        std::fs::write(folder.join(name), content).unwrap();
        let mut text = String::new();
        only(&folder.join(name)).open(&Meter::default())?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn names_and_marks_of_other_systems_are_read_over() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name, content: &[u8]| text_of(folder.path(), name, content).unwrap();
        assert_eq!(text("A.NDJSON", b"{}"), "{}");
        assert_eq!(text("b.Json", b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(text("C.JSONL.GZ", &packed("\u{feff}{}")), "{}");
        assert_eq!(text("members.json.gz", &[packed("{"), packed("}")].concat()), "{}");
        assert_eq!(text("empty.ndjson", b""), "");
    }

    #[test]
    fn a_file_that_is_not_what_it_is_called_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name, content: &[u8]| text_of(folder.path(), name, content).unwrap_err().to_string();
        assert!(said("a.ndjson.gz", b"{}").contains("not compressed"));
        assert!(said("b.ndjson", &packed("{}")).contains("does not end in .gz"));
        assert!(said("c.json", b"PK\x03\x04").contains("zip"));
        assert!(said("d.json", b"\xff\xfe{\0}\0").contains("UTF-16"));
        std::fs::write(folder.path().join("e.zip"), b"PK\x03\x04").unwrap();
        assert!(find(&[folder.path().join("e.zip")]).unwrap_err().to_string().contains("unpack"));
    }

    #[test]
    fn the_files_of_an_export_have_one_base() {
        let folder = tempfile::tempdir().unwrap();
        let of = |base: &str| format!(r#"{{"resourceType":"Basic","subject": {{"reference" : "{base}/Patient/7"}}}}"#);
        write(folder.path(), "one/Basic.ndjson", &of("https://one.example/r4"));
        write(folder.path(), "one/Patient.ndjson", r#"{"resourceType":"Patient","id":"7"}"#);
        write(folder.path(), "two/basic.json", &of("http://two.example"));
        write(folder.path(), "mixed/a.ndjson", &format!("{}\n{}", of("http://a.example"), of("http://b.example")));
        let base_of = |found: &Found, name: &str| {
            let file = found.phases.iter().flatten().find(|source| source.path.ends_with(name)).unwrap();
            file.base.as_deref().map(str::to_owned)
        };
        let found = find(&[folder.path().to_owned()]).unwrap();
        assert_eq!(base_of(&found, "one/Patient.ndjson").as_deref(), Some("https://one.example/r4"));
        assert_eq!(base_of(&found, "two/basic.json").as_deref(), Some("http://two.example"));
        assert_eq!(base_of(&found, "mixed/a.ndjson"), None);
    }

    #[test]
    fn folders_are_searched_and_the_directory_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.json", r#"{"entry":[{"resource":{"resourceType":"Patient"}}]}"#);
        write(folder.path(), "deep/z.json.gz", r#"{"entry":[{"resource":{"resourceType":"Organization"}}]}"#);
        write(folder.path(), "deep/Observation.ndjson", r#"{"resourceType":"Observation"}"#);
        write(folder.path(), "README.md", "not a resource");
        let Found { phases, skipped } = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<Vec<String>> = phases
            .iter()
            .map(|phase| phase.iter().map(|s| s.path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
            .collect();
        assert_eq!(names, [vec!["z.json.gz"], vec!["a.json"], vec!["Observation.ndjson"]]);
        assert_eq!(skipped, [folder.path().join("README.md")]);
    }

    #[test]
    fn the_meter_runs_with_the_file_and_not_with_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.ndjson.gz", &"{}\n".repeat(10_000));
        let source = only(folder.path());
        let meter = Meter::default();
        assert_eq!(source.open(&meter).unwrap().lines().count(), 10_000);
        assert_eq!((meter.take(), meter.take()), (source.size, 0));
    }
}
