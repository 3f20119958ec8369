//! What the write door said about a bundle, entry by entry.

use serde::Deserialize;
use serde_json::Value;

/// How a request fared.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Each of its resources by itself, in the order of the request.
    Entries(Vec<Fate>),
    /// Nothing of it was stored.
    Refused(Refused),
}

/// How one resource fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is new here.
    Accepted,
    /// It was there, and has changed.
    Updated,
    AlreadyThere,
    Refused(String),
}

/// Why a request was refused as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whether what was sent is at fault, or only who sent it and when.
    pub is_about_content: bool,
    /// Index in the request and reason, for the entries at fault.
    pub problems: Vec<(Option<usize>, String)>,
}

/// Whether the answer is to this run's request or repeats what an earlier run was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    First,
    Replayed,
}

#[derive(Deserialize)]
struct ResponseBundle {
    #[serde(default)]
    entry: Vec<ResponseEntry>,
}

#[derive(Deserialize)]
struct ResponseEntry {
    response: EntryResponse,
}

#[derive(Deserialize)]
struct EntryResponse {
    status: String,
    outcome: Option<Value>,
}

/// Reads the bundle that answers an accepted request.
pub fn of_bundle(body: &[u8], freshness: Freshness) -> Result<Outcome, serde_json::Error> {
    let bundle: ResponseBundle = serde_json::from_slice(body)?;
    let fate = |entry: ResponseEntry| match entry.response.status.get(..3) {
        Some("201" | "202") if freshness == Freshness::First => Fate::Accepted,
        Some("200") if freshness == Freshness::First && has_changed(&entry.response) => Fate::Updated,
        Some("200" | "201" | "202" | "204") => Fate::AlreadyThere,
        _ => Fate::Refused(of_operation_outcome(&entry.response)),
    };
    Ok(Outcome::Entries(bundle.entry.into_iter().map(fate).collect()))
}

/// R4 has one status for both; the write door says it beside.
fn has_changed(response: &EntryResponse) -> bool {
    let issues = response.outcome.as_ref().and_then(|outcome| outcome["issue"].as_array());
    issues.into_iter().flatten().any(|issue| issue["details"]["coding"][0]["code"] == "updated")
}

/// Reads the problem that refuses a request as a whole.
pub fn of_problem(status: u16, body: &[u8]) -> Outcome {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let slug = problem["type"].as_str().and_then(|kind| kind.rsplit('/').next()).unwrap_or("unknown");
    let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("no reason given");
    let mut problems: Vec<(Option<usize>, String)> = problem["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            let pointer = error["pointer"].as_str().unwrap_or_default().trim_start_matches('#');
            let text = error["detail"].as_str().unwrap_or(detail);
            (entry_of_pointer(pointer), format!("{status} {slug}: {text} ({pointer})"))
        })
        .collect();
    if problems.is_empty() {
        problems.push((None, format!("{status} {slug}: {detail}")));
    }
    Outcome::Refused(Refused { is_about_content: matches!(status, 400 | 413 | 422), problems })
}

impl Refused {
    /// What is said about one entry, or about all of them.
    pub fn problem_of(&self, index: usize) -> &str {
        let own = self.problems.iter().find(|(entry, _)| *entry == Some(index));
        own.or(self.problems.first()).map_or("no reason given", |(_, problem)| problem)
    }
}

/// `/entry/17/resource/code` is about entry 17.
fn entry_of_pointer(pointer: &str) -> Option<usize> {
    pointer.strip_prefix("/entry/")?.split('/').next()?.parse().ok()
}

fn of_operation_outcome(response: &EntryResponse) -> String {
    let issues = response.outcome.as_ref().and_then(|outcome| outcome["issue"].as_array());
    let texts: Vec<String> = issues
        .into_iter()
        .flatten()
        .map(|issue| {
            let text = issue["diagnostics"].as_str().or(issue["details"]["text"].as_str());
            let rule = issue["details"]["coding"][0]["code"].as_str().map(|rule| format!("{rule}: "));
            let place = issue["expression"][0].as_str().map(|place| format!(" ({})", in_entry(place)));
            let text = text.or(issue["code"].as_str()).unwrap_or("no reason given");
            format!("{}{text}{}", rule.unwrap_or_default(), place.unwrap_or_default())
        })
        .collect();
    format!("{} {}", response.status, texts.join("; ")).trim_end().to_owned()
}

/// Without `Bundle.entry[17].`: the number is that of a request that nobody has seen.
fn in_entry(place: &str) -> &str {
    place.strip_prefix("Bundle.entry[").and_then(|rest| rest.split_once("].")).map_or(place, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"resourceType":"Bundle","entry":[{"response":{"status":"201 Created"}},
        {"response":{"status":"200 OK"}},
        {"response":{"status":"422 Unprocessable Content","outcome":{"resourceType":"OperationOutcome",
            "issue":[{"code":"invalid","details":{"coding":[{"code":"bad-date"}],"text":"not a date"},
                "expression":["Bundle.entry[2].resource.issued"]}]}}}]}"#;

    fn refused() -> Fate {
        Fate::Refused("422 Unprocessable Content bad-date: not a date (resource.issued)".to_owned())
    }

    #[test]
    fn each_entry_has_its_fate() {
        let outcome = of_bundle(BUNDLE.as_bytes(), Freshness::First).unwrap();
        assert_eq!(outcome, Outcome::Entries(vec![Fate::Accepted, Fate::AlreadyThere, refused()]));
    }

    #[test]
    fn what_has_changed_is_told_from_what_was_there() {
        let body = br#"{"entry":[{"response":{"status":"200 OK","outcome":{"resourceType":"OperationOutcome",
            "issue":[{"severity":"information","details":{"coding":[{"code":"updated"}]}}]}}},
            {"response":{"status":"200 OK","outcome":{"issue":[{"details":{"coding":[{"code":"older-than-stored"}]}}]}}}]}"#;
        let fates = |freshness| of_bundle(body, freshness).unwrap();
        assert_eq!(fates(Freshness::First), Outcome::Entries(vec![Fate::Updated, Fate::AlreadyThere]));
        assert_eq!(fates(Freshness::Replayed), Outcome::Entries(vec![Fate::AlreadyThere, Fate::AlreadyThere]));
    }

    #[test]
    fn a_replayed_answer_tells_of_what_is_there() {
        let outcome = of_bundle(BUNDLE.as_bytes(), Freshness::Replayed).unwrap();
        assert_eq!(outcome, Outcome::Entries(vec![Fate::AlreadyThere, Fate::AlreadyThere, refused()]));
    }

    #[test]
    fn a_refused_request_names_the_entry_at_fault() {
        let body = br#"{"type":"/problems/invalid-resource","title":"Invalid",
            "errors":[{"pointer":"/entry/17/resource/birthDate","detail":"not a date"}]}"#;
        let Outcome::Refused(refused) = of_problem(422, body) else { panic!("a problem refuses") };
        let reason = "422 invalid-resource: not a date (/entry/17/resource/birthDate)";
        assert!(refused.is_about_content);
        assert_eq!(refused.problems, [(Some(17), reason.to_owned())]);
        let Outcome::Refused(refused) = of_problem(403, b"") else { panic!("a problem refuses") };
        assert!(!refused.is_about_content);
        assert_eq!(refused.problem_of(3), "403 unknown: no reason given");
    }
}
