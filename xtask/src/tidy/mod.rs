//! Rules that matter, checked by a program. Each file of this folder is one kind of rule.

mod aggregates;
mod crates;
mod documents;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// A broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub place: String,
    pub rule: String,
}

impl Finding {
    pub fn new(place: impl fmt::Display, rule: impl Into<String>) -> Self {
        Self { place: place.to_string(), rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.rule)
    }
}

/// A file of the checkout.
pub struct SourceFile {
    /// Relative to the root, with slashes.
    pub path: String,
    pub text: String,
}

/// Everything that is not as it should be in the checkout at `root`.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = read_files(root)?;
    let metadata = crates::metadata(root)?;
    let mut findings = crates::check(&crates::dependencies(&metadata));
    findings.extend(crates::check_sabotage(&metadata));
    findings.extend(files.iter().flat_map(sources::check));
    findings.extend(aggregates::check(&files));
    findings.extend(documents::check(root, &files));
    Ok(findings)
}

const FOLDERS_SKIPPED: [&str; 4] = ["target", ".git", ".nexus", "node_modules"];
const TEXT_EXTENSIONS: [&str; 5] = ["rs", "sql", "md", "toml", "json"];

fn read_files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let is_skipped = entry.file_name().to_str().is_some_and(|name| FOLDERS_SKIPPED.contains(&name));
            if entry.file_type()?.is_dir() && !is_skipped {
                folders.push(path);
            } else if path.extension().and_then(|it| it.to_str()).is_some_and(|it| TEXT_EXTENSIONS.contains(&it)) {
                let text = std::fs::read_to_string(root.join(&path))?;
                files.push(SourceFile { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
