//! What the write door said about a bundle, entry by entry.

use serde::Deserialize;
use serde_json::Value;

use super::source::Request;

/// How each resource of a request fared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub accepted: u64,
    pub already_there: u64,
    pub refused: u64,
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
    let mut outcome = Outcome::default();
    for (index, entry) in bundle.entry.into_iter().enumerate() {
        let response = entry.response;
        match response.status.get(..3) {
            Some("201" | "202") if freshness == Freshness::First => outcome.accepted += 1,
            Some("200" | "201" | "202" | "204") => outcome.already_there += 1,
            _ => {
                outcome.refused += 1;
                outcome.problems.push((Some(index), of_operation_outcome(&response)));
            }
        }
    }
    Ok(outcome)
}

/// Reads the problem that refuses a request as a whole: nothing of it was stored.
pub fn of_problem(status: u16, body: &[u8], request: &Request) -> Outcome {
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
    Outcome { refused: request.entries as u64, problems, ..Outcome::default() }
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
            let place = issue["expression"][0].as_str().map(|place| format!(" ({place})")).unwrap_or_default();
            format!("{}{place}", text.or(issue["code"].as_str()).unwrap_or("no reason given"))
        })
        .collect();
    format!("{} {}", response.status, texts.join("; ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"resourceType":"Bundle","entry":[{"response":{"status":"201 Created"}},
        {"response":{"status":"200 OK"}},
        {"response":{"status":"422 Unprocessable Content","outcome":{"resourceType":"OperationOutcome",
            "issue":[{"code":"invalid","diagnostics":"not a date","expression":["Observation.issued"]}]}}}]}"#;

    #[test]
    fn each_entry_counts_once() {
        let outcome = of_bundle(BUNDLE.as_bytes(), Freshness::First).unwrap();
        assert_eq!((outcome.accepted, outcome.already_there, outcome.refused), (1, 1, 1));
        let reason = "422 Unprocessable Content not a date (Observation.issued)";
        assert_eq!(outcome.problems, [(Some(2), reason.to_owned())]);
    }

    #[test]
    fn a_replayed_answer_tells_of_what_is_there() {
        let outcome = of_bundle(BUNDLE.as_bytes(), Freshness::Replayed).unwrap();
        assert_eq!((outcome.accepted, outcome.already_there, outcome.refused), (0, 2, 1));
    }

    #[test]
    fn a_refused_transaction_counts_every_entry_and_names_the_one_at_fault() {
        let request = Request { body: vec![], key: uuid::Uuid::nil(), entries: 30, offset: 0, weight: 0 };
        let body = br#"{"type":"/problems/invalid-resource","title":"Invalid",
            "errors":[{"pointer":"/entry/17/resource/birthDate","detail":"not a date"}]}"#;
        let outcome = of_problem(422, body, &request);
        assert_eq!((outcome.accepted, outcome.refused), (0, 30));
        let reason = "422 invalid-resource: not a date (/entry/17/resource/birthDate)";
        assert_eq!(outcome.problems, [(Some(17), reason.to_owned())]);
        assert_eq!(of_problem(413, b"", &request).problems, [(None, "413 unknown: no reason given".to_owned())]);
    }
}
