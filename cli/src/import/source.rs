//! The files to send: found, put in order, opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;

use super::sniff::{self, Phase, Typed};

/// Lines of an NDJSON file that are looked at to tell what is in it.
const LINES_LOOKED_AT: usize = 200;

/// A file to send.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub size: u64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bundle,
    /// NDJSON: one resource a line.
    Lines,
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
        let reader = self.open(&Meter::default())?;
        let types = match self.kind {
            Kind::Bundle => sniff::types_of_bundle(reader),
            Kind::Lines => first_types(reader),
        };
        Ok(sniff::phase(&types))
    }

    /// Opens it for reading, decompressed. The meter runs with what is read of the file itself.
    pub fn open(&self, meter: &Meter) -> Result<BufReader<Box<dyn Read + Send>>> {
        let file = File::open(&self.path).with_context(|| format!("can't read {}", self.path.display()))?;
        let file = Metered { file, meter: meter.clone() };
        let is_compressed = self.path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read + Send> =
            if is_compressed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        Ok(BufReader::new(reader))
    }
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

fn first_types(reader: impl BufRead) -> BTreeSet<String> {
    let lines = reader.lines().take(LINES_LOOKED_AT).map_while(Result::ok);
    lines.filter_map(|line| Some(serde_json::from_str::<Typed>(&line).ok()?.resource_type)).collect()
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

    #[test]
    fn the_meter_runs_with_the_file_and_not_with_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.ndjson.gz", &"{}\n".repeat(10_000));
        let source = find(&[folder.path().to_owned()]).unwrap().remove(0).remove(0);
        let meter = Meter::default();
        assert_eq!(source.open(&meter).unwrap().lines().count(), 10_000);
        assert_eq!((meter.take(), meter.take()), (source.size, 0));
    }
}
