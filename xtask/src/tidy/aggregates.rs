//! Every aggregate has the same few files, so that a reader knows where to look before opening anything.

use std::collections::BTreeSet;

use super::{Finding, SourceFile};

const ROOT: &str = "domain/src/";
const FILES: [&str; 8] =
    ["mod.rs", "command.rs", "event.rs", "state.rs", "decide.rs", "error.rs", "upcast.rs", "tests.rs"];
/// A folder that has one of these is an aggregate and needs the others.
const MARKS: [&str; 2] = ["event.rs", "decide.rs"];

pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let folders: BTreeSet<&str> =
        paths.iter().filter_map(|path| path.strip_prefix(ROOT)?.split_once('/').map(|(folder, _)| folder)).collect();
    let is_aggregate =
        |folder: &&str| MARKS.iter().any(|mark| paths.contains(format!("{ROOT}{folder}/{mark}").as_str()));
    folders.into_iter().filter(is_aggregate).flat_map(|folder| check_folder(folder, &paths)).collect()
}

fn check_folder(folder: &str, paths: &BTreeSet<&str>) -> Vec<Finding> {
    let place = format!("{ROOT}{folder}");
    let is_missing = |file: &&str| !paths.contains(format!("{place}/{file}").as_str());
    let mut findings: Vec<Finding> = FILES
        .into_iter()
        .filter(is_missing)
        .map(|file| Finding::new(&place, format!("every aggregate has a {file}")))
        .collect();
    let has_fixtures =
        paths.iter().any(|path| path.starts_with(&format!("{place}/fixtures/")) && path.ends_with(".json"));
    if !has_fixtures {
        findings.push(Finding::new(&place, "every event has a JSON file in fixtures/"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(names: &[&str]) -> usize {
        let file = |name: &&str| SourceFile { path: format!("{ROOT}{name}"), text: String::new() };
        check(&names.iter().map(file).collect::<Vec<_>>()).len()
    }

    #[test]
    fn a_missing_file_is_found() {
        let names: Vec<String> = FILES.iter().map(|file| format!("patient/{file}")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.push("patient/fixtures/registered-1.0.json");
        assert_eq!(findings(&names), 0);
        assert_eq!(findings(&names[..names.len() - 1]), 1);
        assert_eq!(findings(&names[1..]), 1);
        assert_eq!(findings(&["types/mod.rs", "lib.rs"]), 0);
    }
}
