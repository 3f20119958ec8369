//! `nexus sample`: invented patients from Synthea, as compressed FHIR bundles.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use indicatif::ProgressStyle;
use nexus_local::jars;

use crate::args::Sample;
use crate::home::Home;
use crate::output;

/// Synthea's clock: the same seed makes the same patients next year.
const REFERENCE_DATE: &str = "20260101";
const STATE: &str = "Massachusetts";

pub fn run(home: &Home, options: &Sample) -> Result<ExitCode> {
    check_is_empty(&options.out)?;
    let jars = jars::fetch(&home.path("infra/synthea/pom.xml"), &home.cache()?, "synthea")?;
    let folder = tempfile::tempdir()?;
    generate(&jars, folder.path(), options)?;
    let bundles = compress(&folder.path().join("fhir"), &options.out)?;
    output::line(format_args!("{bundles} bundles in {}", options.out.display()));
    Ok(ExitCode::SUCCESS)
}

/// Patients of two seeds in one folder would be imported as one population.
fn check_is_empty(folder: &Path) -> Result<()> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; empty it, or choose another folder with --out", folder.display());
    }
    Ok(())
}

fn generate(jars: &Path, folder: &Path, options: &Sample) -> Result<()> {
    let seed = options.seed.to_string();
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{}/*", jars.display())).arg("App");
    command.args(["-s", &seed, "-cs", &seed, "-r", REFERENCE_DATE, "-p", &options.patients.to_string()]);
    command.arg(format!("--exporter.baseDirectory={}", folder.display()));
    command.arg("--exporter.use_uuid_filenames=true");
    command.args(["--exporter.hospital.fhir.export=true", "--exporter.practitioner.fhir.export=true", STATE]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut synthea = command.spawn().context("`java` is not installed")?;
    let words = synthea.stdout.take().context("Synthea has no output")?;
    let last_words = follow(BufReader::new(words), options.patients);
    if !synthea.wait()?.success() {
        bail!("Synthea failed: {last_words}");
    }
    Ok(())
}

/// Counts the patients as Synthea names them, and returns its last line.
fn follow(words: impl std::io::BufRead, patients: u32) -> String {
    let bar = output::progress(patients.into());
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {pos} of {len} patients, {eta} left") {
        bar.set_style(style);
    }
    let mut last = String::new();
    for line in words.lines().map_while(Result::ok) {
        // "17 -- Velvet616 Gaylord332 (45 y/o F) …"
        if line.contains(" -- ") {
            bar.inc(1);
        }
        last = line;
    }
    bar.finish_and_clear();
    last
}

fn compress(from: &Path, to: &Path) -> Result<usize> {
    std::fs::create_dir_all(to).with_context(|| format!("can't make {}", to.display()))?;
    let mut bundles = 0;
    for entry in std::fs::read_dir(from).context("Synthea made no bundles")? {
        let source = entry?.path();
        let target = to.join(target_name(&source)?);
        let mut encoder = GzBuilder::new().write(File::create(&target)?, Compression::best());
        std::io::copy(&mut File::open(&source)?, &mut encoder)?;
        encoder.finish()?;
        bundles += 1;
    }
    Ok(bundles)
}

/// The directory bundles carry the time of their making in their names; ours stay the same.
fn target_name(source: &Path) -> Result<PathBuf> {
    let name = source.file_name().and_then(|name| name.to_str()).context("a bundle has an odd name")?;
    let name = match name {
        _ if name.starts_with("hospitalInformation") => "hospitals.json",
        _ if name.starts_with("practitionerInformation") => "practitioners.json",
        _ => name,
    };
    Ok(PathBuf::from(format!("{name}.gz")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_is_empty(folder.path()).is_ok());
        assert!(check_is_empty(&folder.path().join("new")).is_ok());
        std::fs::write(folder.path().join("0a1b.json.gz"), "").unwrap();
        assert!(check_is_empty(folder.path()).is_err());
    }

    #[test]
    fn names_do_not_depend_on_the_day() {
        let name = |source: &str| target_name(Path::new(source)).unwrap();
        assert_eq!(name("out/hospitalInformation1795490197652.json"), Path::new("hospitals.json.gz"));
        assert_eq!(name("out/0a1b.json"), Path::new("0a1b.json.gz"));
    }
}
