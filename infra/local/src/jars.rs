//! Jars from Maven Central, pinned by a small `pom.xml`, fetched once for all stacks of this checkout.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Fetches the jars a pom names into a folder below `cache` and returns that folder. Its name holds a hash of the
/// pom, so a new version is a new folder, and an interrupted fetch is never taken for a finished one.
pub fn fetch(pom: &Path, cache: &Path, name: &str) -> Result<PathBuf> {
    let folder = folder(pom, cache, name)?;
    if folder.exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(cache)?;
    remove_abandoned_drafts(cache, name)?;
    let draft = cache.join(format!("{name}.draft-{}", std::process::id()));
    copy_dependencies(pom, &draft).with_context(|| format!("can't fetch the jars of {name} with Maven"))?;
    if let Err(error) = std::fs::rename(&draft, &folder) {
        std::fs::remove_dir_all(&draft)?;
        // Somebody else may have been quicker; then theirs is as good.
        if !folder.exists() {
            return Err(error.into());
        }
    }
    Ok(folder)
}

/// Where [`fetch`] puts the jars, whether or not they are there yet.
pub fn folder(pom: &Path, cache: &Path, name: &str) -> Result<PathBuf> {
    let content = std::fs::read(pom).with_context(|| format!("can't read {}", pom.display()))?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    Ok(cache.join(format!("{name}-{:016x}", hasher.finish())))
}

/// A fetch that was interrupted could not clean up after itself. The number at the end says whose draft it is.
fn remove_abandoned_drafts(cache: &Path, name: &str) -> Result<()> {
    let prefix = format!("{name}.draft-");
    for entry in std::fs::read_dir(cache)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let pid = file_name.to_str().and_then(|text| text.strip_prefix(&prefix));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn copy_dependencies(pom: &Path, target: &Path) -> Result<()> {
    let mut command = Command::new("mvn");
    command.args(["--batch-mode", "--quiet", "--file"]).arg(pom);
    command.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    command.arg(format!("-DoutputDirectory={}", target.display()));
    let output = command.stdin(Stdio::null()).output().context("`mvn` is not installed")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stdout).trim());
    }
    Ok(())
}
