//! Log files of the services: shown, followed, and kept from growing without bound.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Service, Stack};
use crate::{args, output};

/// A file this large is set aside; one older generation is kept.
const SIZE_MAX: u64 = 32 * 1024 * 1024;
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// How much of a file is shown at first.
const TAIL_BYTES: u64 = 64 * 1024;

/// `nexus logs [service] [-f]`.
pub fn logs(stack: &Stack, options: &args::Logs) -> Result<ExitCode> {
    let mut files = chosen(stack, options.service.as_deref())?;
    let several = files.len() > 1;
    loop {
        for file in &mut files {
            let text = file.read_new()?;
            if show(&file.name, &text, several).is_err() {
                // Nobody reads any more.
                return Ok(ExitCode::SUCCESS);
            }
        }
        if !options.follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(FOLLOW_INTERVAL);
    }
}

/// Sets aside the files that have grown too large. The writers append, so they go on at the start of the emptied file;
/// a line written in between is the price for services that need not know about rotation.
pub fn rotate_all(stack: &Stack) -> Result<()> {
    for name in log_names() {
        let path = stack.log_file(name);
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > SIZE_MAX) {
            std::fs::copy(&path, path.with_extension("log.1"))?;
            OpenOptions::new().write(true).truncate(true).open(&path)?;
        }
    }
    Ok(())
}

/// The last lines of a service's log, for an error message.
pub fn tail(path: &Path, lines: usize) -> String {
    let mut text = String::new();
    if let Ok(mut followed) = Followed::open("", path) {
        text = followed.read_new().unwrap_or_default();
    }
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whose logs there are.
pub fn log_names() -> impl Iterator<Item = &'static str> {
    Service::ALL.into_iter().map(Service::name).chain(["supervisor"])
}

fn chosen(stack: &Stack, service: Option<&str>) -> Result<Vec<Followed>> {
    let chosen: Vec<&str> = match service {
        None => log_names().filter(|name| stack.log_file(name).exists()).collect(),
        Some(wanted) => vec![wanted],
    };
    chosen.into_iter().map(|name| Followed::open(name, &stack.log_file(name))).collect()
}

fn show(name: &str, text: &str, with_name: bool) -> std::io::Result<()> {
    for line in text.lines() {
        if with_name {
            output::try_line(format_args!("{name:<11} │ {line}"))?;
        } else {
            output::try_line(line)?;
        }
    }
    Ok(())
}

struct Followed {
    name: String,
    path: PathBuf,
    position: u64,
}

impl Followed {
    fn open(name: &str, path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).with_context(|| format!("there is no log {}", path.display()))?.len();
        Ok(Self { name: name.to_owned(), path: path.to_owned(), position: length.saturating_sub(TAIL_BYTES) })
    }

    /// Complete lines that were written since the last call.
    fn read_new(&mut self) -> Result<String> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.position {
            // It was set aside.
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.position += complete as u64;
        Ok(String::from_utf8_lossy(&bytes[..complete]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_shows_each_line_once_and_survives_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.log");
        std::fs::write(&path, "one\ntwo\nunfin").unwrap();
        let mut followed = Followed::open("relay", &path).unwrap();
        assert_eq!(followed.read_new().unwrap(), "one\ntwo\n");
        std::fs::write(&path, "one\ntwo\nunfinished\n").unwrap();
        assert_eq!(followed.read_new().unwrap(), "unfinished\n");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(followed.read_new().unwrap(), "new\n");
        assert_eq!(tail(&path, 3), "new");
    }
}
