//! Counting while it runs, and the report at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::answer::{Fate, Outcome, Refused};
use super::request::{Company, Request, Selection, Unreadable};
use super::source::{Kind, Source};
use crate::output;

/// Refusals that are printed; the rest is in the report file.
const REFUSALS_SHOWN: usize = 20;

/// What became of the resources. The names are those of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// New or changed.
    pub accepted: u64,
    /// How many of the accepted ones were there before, and have changed.
    pub updated: u64,
    pub refused: u64,
    pub already_there: u64,
    pub seconds: f64,
    pub resources_per_s: f64,
    pub refusals: Vec<Refusal>,
    /// Files of the folders that are no resources by their names.
    pub skipped: Vec<String>,
}

/// An entry that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    pub file: String,
    /// Index in the file, from 0: of the bundle's entry, or of the line. `None` if the problem is the file itself.
    pub entry: Option<usize>,
    /// The line of an NDJSON file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    pub problem: String,
}

/// Each resource counts once: as accepted, as already there, as refused for good, or as left to be sent again.
pub struct Tally {
    started: Instant,
    accepted: u64,
    updated: u64,
    already_there: u64,
    refused: u64,
    refusals: Vec<Refusal>,
    left: BTreeMap<PathBuf, Left>,
}

/// What was refused of a file and may be taken later: perhaps it refers to what has come since.
struct Left {
    source: Source,
    entries: BTreeMap<usize, (String, Company)>,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            accepted: 0,
            updated: 0,
            already_there: 0,
            refused: 0,
            refusals: Vec::new(),
            left: BTreeMap::new(),
        }
    }

    /// The outcome of a request.
    pub fn add(&mut self, source: &Source, request: &Request, outcome: Outcome) {
        match outcome {
            Outcome::Entries(fates) => {
                for (entry, fates) in by_entry(request, fates) {
                    self.add_entry(source, entry, fates, Company::Shared);
                }
            }
            Outcome::Refused(refused) if source.kind == Kind::Lines => {
                let company = if refused.is_about_content { Company::Alone } else { Company::Shared };
                for (index, entry) in request.entries.iter().enumerate() {
                    let fates = vec![Fate::Refused(refused.problem_of(index).to_owned())];
                    self.add_entry(source, *entry, fates, company);
                }
            }
            Outcome::Refused(refused) => self.add_refused_bundle(source, request, refused),
        }
    }

    /// The outcome of a request that repeats what is left of a file; it may carry other resources beside.
    pub fn add_again(&mut self, source: &Source, request: &Request, outcome: Outcome) {
        match outcome {
            Outcome::Entries(fates) => {
                let Some(left) = self.left.get_mut(&source.path) else { return };
                let of_left: Vec<_> = by_entry(request, fates)
                    .into_iter()
                    .filter(|(entry, _)| left.entries.remove(entry).is_some())
                    .collect();
                for (entry, fates) in of_left {
                    self.add_entry(source, entry, fates, Company::Shared);
                }
            }
            Outcome::Refused(_) if source.kind == Kind::Json => {}
            Outcome::Refused(_) => self.add(source, request, outcome),
        }
    }

    /// A line may be several: the deletions of an export. All of it is sent again if one of it was refused.
    fn add_entry(&mut self, source: &Source, entry: usize, fates: Vec<Fate>, company: Company) {
        let refused = fates.iter().find_map(|fate| match fate {
            Fate::Refused(problem) => Some(problem.clone()),
            _ => None,
        });
        if let Some(problem) = refused {
            let left = self.left.entry(source.path.clone());
            let left = left.or_insert_with(|| Left { source: source.clone(), entries: BTreeMap::new() });
            left.entries.insert(entry, (problem, company));
            return;
        }
        for fate in fates {
            match fate {
                Fate::Accepted => self.accepted += 1,
                Fate::Updated => (self.accepted, self.updated) = (self.accepted + 1, self.updated + 1),
                Fate::AlreadyThere | Fate::Refused(_) => self.already_there += 1,
            }
        }
    }

    /// All of it counts, and those at fault are named.
    fn add_refused_bundle(&mut self, source: &Source, request: &Request, refused: Refused) {
        self.refused += request.entries.len().max(1) as u64;
        // A bundle is not always sent in the order of its file.
        let in_file = |entry: usize| request.entries.get(entry).copied().unwrap_or(entry);
        let refusals =
            refused.problems.into_iter().map(|(entry, problem)| refusal(source, entry.map(in_file), problem));
        self.refusals.extend(refusals);
    }

    /// What can't be read counts as one refusal: nobody knows what is in it.
    pub fn add_unreadable(&mut self, source: &Source, unreadable: Unreadable) {
        let Unreadable { entry, problem } = unreadable;
        self.refused += 1;
        self.refusals.push(refusal(source, entry, problem));
    }

    /// What is left of each file.
    pub fn left(&self) -> Vec<(Source, Selection)> {
        let left = self.left.values().filter(|left| !left.entries.is_empty());
        left.map(|left| {
            let entries = left.entries.iter().map(|(entry, (_, company))| (*entry, *company));
            (left.source.clone(), Selection::Again(entries.collect()))
        })
        .collect()
    }

    pub fn left_count(&self) -> u64 {
        self.left.values().map(|left| left.entries.len() as u64).sum()
    }

    pub fn rate(&self) -> String {
        let (done, rate) = self.done();
        format!("{done} resources, {rate:.0}/s")
    }

    /// As it stands: what is left counts as refused.
    pub fn report(&self) -> Report {
        let left = self.left.values().flat_map(|left| {
            left.entries.iter().map(|(entry, (problem, _))| refusal(&left.source, Some(*entry), problem.clone()))
        });
        let mut refusals: Vec<Refusal> = self.refusals.iter().cloned().chain(left).collect();
        refusals.sort();
        let (_, rate) = self.done();
        Report {
            accepted: self.accepted,
            updated: self.updated,
            refused: self.refused + self.left_count(),
            already_there: self.already_there,
            seconds: (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            resources_per_s: (rate * 10.0).round() / 10.0,
            refusals,
            skipped: Vec::new(),
        }
    }

    fn done(&self) -> (u64, f64) {
        let done = self.accepted + self.already_there + self.refused + self.left_count();
        (done, done as f64 / self.started.elapsed().as_secs_f64().max(0.001))
    }
}

fn refusal(source: &Source, entry: Option<usize>, problem: String) -> Refusal {
    let line = entry.filter(|_| source.kind == Kind::Lines).map(|entry| entry + 1);
    Refusal { file: source.path.display().to_string(), entry, line, problem }
}

/// What became of each entry of the file, in the order of the request.
fn by_entry(request: &Request, fates: Vec<Fate>) -> Vec<(usize, Vec<Fate>)> {
    let mut found: Vec<(usize, Vec<Fate>)> = Vec::with_capacity(fates.len());
    for (entry, fate) in request.entries.iter().zip(fates) {
        match found.last_mut() {
            Some((last, fates)) if last == entry => fates.push(fate),
            _ => found.push((*entry, vec![fate])),
        }
    }
    found
}

impl Report {
    /// The numbers in words.
    pub fn sentence(&self) -> String {
        format!(
            "{} resources accepted ({} of them changed), {} already there, {} refused; {:.0}/s",
            self.accepted, self.updated, self.already_there, self.refused, self.resources_per_s
        )
    }

    pub fn print(&self) {
        output::line(format_args!("{} ({:.1} s)", self.sentence(), self.seconds));
        for refusal in self.refusals.iter().take(REFUSALS_SHOWN) {
            let entry = match (refusal.line, refusal.entry) {
                (Some(line), _) => format!(" line {line}"),
                (None, Some(entry)) => format!(" entry {entry}"),
                (None, None) => String::new(),
            };
            output::line(format_args!("  {}{entry}: {}", refusal.file, refusal.problem));
        }
        if self.refusals.len() > REFUSALS_SHOWN {
            let more = self.refusals.len() - REFUSALS_SHOWN;
            output::line(format_args!("  … and {more} more; --report FILE has them all"));
        }
        if !self.skipped.is_empty() {
            let shown: Vec<&str> = self.skipped.iter().take(REFUSALS_SHOWN).map(String::as_str).collect();
            let count = self.skipped.len();
            output::line(format_args!("  {count} other files in the folders were passed over: {}", shown.join(", ")));
        }
    }
}

/// The bar counts bytes of the files: their resources are known only once they have been read.
pub fn bar(size: u64) -> ProgressBar {
    let bar = output::progress(size);
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {percent:>3}% {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: Kind) -> Source {
        Source { path: "a".into(), size: 0, kind, base: None }
    }

    fn request(entries: &[usize]) -> Request {
        Request { body: vec![], key: uuid::Uuid::nil(), entries: entries.to_vec(), weight: 0 }
    }

    fn refused(problem: &str) -> Fate {
        Fate::Refused(problem.to_owned())
    }

    fn whole(is_about_content: bool, problems: &[(Option<usize>, &str)]) -> Outcome {
        let problems = problems.iter().map(|(entry, problem)| (*entry, (*problem).to_owned())).collect();
        Outcome::Refused(Refused { is_about_content, problems })
    }

    #[track_caller]
    fn check(tally: &Tally, counts: (u64, u64, u64), refusals: &[(Option<usize>, &str)]) {
        let report = tally.report();
        assert_eq!((report.accepted, report.already_there, report.refused), counts);
        let found: Vec<_> = report.refusals.iter().map(|it| (it.entry, it.problem.as_str())).collect();
        assert_eq!(found, refusals);
    }

    #[test]
    fn what_is_sent_again_counts_once() {
        let (mut tally, source) = (Tally::new(), source(Kind::Lines));
        let fates = vec![Fate::Accepted, refused("early"), refused("early"), Fate::AlreadyThere];
        tally.add(&source, &request(&[0, 2, 5, 6]), Outcome::Entries(fates));
        check(&tally, (1, 1, 2), &[(Some(2), "early"), (Some(5), "early")]);
        // Line 0 only keeps them company.
        let fates = vec![Fate::AlreadyThere, Fate::Accepted, refused("bad")];
        tally.add_again(&source, &request(&[0, 2, 5]), Outcome::Entries(fates));
        check(&tally, (2, 1, 1), &[(Some(5), "bad")]);
        tally.add_again(&source, &request(&[5]), Outcome::Entries(vec![Fate::AlreadyThere]));
        check(&tally, (2, 2, 0), &[]);
        assert!(tally.left().is_empty());
    }

    #[test]
    fn a_line_of_several_deletions_is_sent_again_as_a_whole() {
        let (mut tally, source) = (Tally::new(), source(Kind::Lines));
        let fates = vec![Fate::Updated, refused("locked"), Fate::Updated];
        tally.add(&source, &request(&[4, 4, 5]), Outcome::Entries(fates));
        check(&tally, (1, 0, 1), &[(Some(4), "locked")]);
        assert_eq!(tally.report().refusals[0].line, Some(5));
        tally.add_again(&source, &request(&[4, 4]), Outcome::Entries(vec![Fate::AlreadyThere, Fate::Updated]));
        check(&tally, (2, 1, 0), &[]);
        assert_eq!(tally.report().updated, 2);
    }

    #[test]
    fn lines_that_were_refused_together_are_sent_alone() {
        let (mut tally, source) = (Tally::new(), source(Kind::Lines));
        tally.add(&source, &request(&[3, 4]), whole(true, &[(Some(1), "too deep")]));
        check(&tally, (0, 0, 2), &[(Some(3), "too deep"), (Some(4), "too deep")]);
        let (_, Selection::Again(left)) = tally.left().remove(0) else { panic!("two lines are left") };
        assert_eq!(left, BTreeMap::from([(3, Company::Alone), (4, Company::Alone)]));
        tally.add_again(&source, &request(&[3]), Outcome::Entries(vec![Fate::Accepted]));
        tally.add_again(&source, &request(&[4]), whole(true, &[(Some(0), "too deep")]));
        check(&tally, (1, 0, 1), &[(Some(4), "too deep")]);
    }

    #[test]
    fn a_bundle_that_was_refused_counts_every_entry_and_names_those_at_fault() {
        let (mut tally, source) = (Tally::new(), source(Kind::Json));
        tally.add(&source, &request(&[0, 1, 2]), whole(true, &[(Some(1), "not a date")]));
        check(&tally, (0, 0, 3), &[(Some(1), "not a date")]);
        assert!(tally.left().is_empty());
        tally.add(&source, &request(&[]), whole(true, &[(None, "no bundle")]));
        check(&tally, (0, 0, 4), &[(None, "no bundle"), (Some(1), "not a date")]);
    }
}
