//! What a run was: numbers as JSON, and a page that needs nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Options;
use super::checks::{Breach, Evidence};
use super::clients::refusals;
use super::history::{Action, Operation};
use super::inject::Injected;
use crate::output;

/// The page, with places for what a run fills in.
const PAGE: &str = include_str!("report.html");
const WIDTH: u64 = 1_100;
const HEIGHT: u64 = 160;
const ROW: u64 = 14;

/// The numbers of a run.
#[derive(Serialize)]
pub struct Summary {
    pub seed: u64,
    pub minutes: u64,
    pub held: bool,
    pub operations: Counts,
    pub ok_per_second: f64,
    pub by_action: BTreeMap<Action, Counts>,
    /// How often each problem was the end of an operation.
    pub refusals: BTreeMap<String, usize>,
    pub faults: BTreeMap<String, usize>,
    /// Faults that found nothing to hit.
    pub faults_missed: usize,
    pub left_out: Vec<String>,
    pub ready_after_seconds: f64,
    pub restarts: BTreeMap<String, u64>,
    pub events: usize,
    pub records: usize,
    pub breaches: Vec<Breach>,
}

/// How operations ended.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Counts {
    pub ok: usize,
    pub failed: usize,
    /// Of which a try was unknown; each was repeated until it was known.
    pub unknown: usize,
    pub retried: usize,
}

/// One second of a run.
#[derive(Clone, Copy, Default, Serialize)]
struct Second {
    ok: usize,
    failed: usize,
    p50_ms: u64,
    p99_ms: u64,
}

pub struct Report {
    pub summary: Summary,
    pub breaches: Vec<Breach>,
    faults: Vec<Injected>,
    seconds: Vec<Second>,
    /// Kept where something did not hold, to look into it.
    history: Option<Vec<Operation>>,
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    schedule: &'a [Injected],
    seconds: &'a [Second],
}

/// What a run leaves for its report besides its history.
pub struct Ending {
    pub injected: Vec<Injected>,
    pub left_out: Vec<String>,
    pub breaches: Vec<Breach>,
    pub ready_after: Duration,
    pub lasted: Duration,
    pub restarts: Vec<(String, u64)>,
}

impl Report {
    pub fn new(options: &Options, history: Vec<Operation>, ending: Ending, evidence: &Evidence) -> Self {
        let mut faults: BTreeMap<String, usize> = BTreeMap::new();
        for injected in ending.injected.iter().filter(|injected| injected.missed.is_none()) {
            *faults.entry(injected.fault.kind.to_string()).or_default() += 1;
        }
        let mut by_action: BTreeMap<Action, Counts> = BTreeMap::new();
        let mut operations = Counts::default();
        for operation in &history {
            by_action.entry(operation.action).or_default().add(operation);
            operations.add(operation);
        }
        let summary = Summary {
            seed: options.seed,
            minutes: options.minutes,
            held: ending.breaches.is_empty(),
            operations,
            ok_per_second: per_second(operations.ok, ending.lasted),
            by_action,
            refusals: refusals(&history),
            faults,
            faults_missed: ending.injected.iter().filter(|injected| injected.missed.is_some()).count(),
            left_out: ending.left_out,
            ready_after_seconds: ending.ready_after.as_secs_f64(),
            restarts: ending.restarts.into_iter().collect(),
            events: evidence.log.len(),
            records: evidence.topic.len(),
            breaches: ending.breaches.clone(),
        };
        let seconds = seconds(&history, ending.lasted);
        let history = (!ending.breaches.is_empty()).then_some(history);
        Self { summary, breaches: ending.breaches, faults: ending.injected, seconds, history }
    }

    /// Writes `report.html` and `report.json`; after a breach also `history.json`, with every operation.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        let whole = Whole { summary: &self.summary, schedule: &self.faults, seconds: &self.seconds };
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&whole)?)?;
        std::fs::write(folder.join("report.html"), self.page()?)?;
        if let Some(history) = &self.history {
            std::fs::write(folder.join("history.json"), serde_json::to_vec(history)?)?;
        }
        Ok(())
    }

    pub fn print(&self, folder: &Path) {
        let summary = &self.summary;
        let Counts { ok, failed, unknown, retried } = summary.operations;
        output::line(format_args!(
            "\nseed {}: {ok} operations ok ({:.0}/s), {failed} failed, {unknown} unknown at first, {retried} retried",
            summary.seed, summary.ok_per_second
        ));
        let faults: Vec<_> = summary.faults.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        output::line(format_args!("faults: {}", faults.join(", ")));
        output::line(format_args!("{} events, {} records in Kafka", summary.events, summary.records));
        for sentence in &summary.left_out {
            output::line(format_args!("NOT done: {sentence}"));
        }
        for breach in &self.breaches {
            output::line(format_args!("✗ {}: {}", breach.check, breach.detail));
        }
        let verdict = if self.breaches.is_empty() { "✓ everything held" } else { "✗ breached" };
        output::line(format_args!("{verdict} (seed {}); report in {}", summary.seed, folder.display()));
    }

    fn page(&self) -> Result<String> {
        let breaches: String =
            self.breaches.iter().map(|it| format!("<li><b>{}</b>: {}</li>", it.check, escape(&it.detail))).collect();
        let verdict = if self.breaches.is_empty() { "Everything held." } else { "Breached." };
        let title = format!("Chaos, seed {}, {} min", self.summary.seed, self.summary.minutes);
        let ok = self.seconds.iter().map(|second| u64::try_from(second.ok).unwrap_or_default()).collect::<Vec<_>>();
        let p99 = self.seconds.iter().map(|second| second.p99_ms).collect::<Vec<_>>();
        let p50 = self.seconds.iter().map(|second| second.p50_ms).collect::<Vec<_>>();
        Ok(PAGE
            .replace("{title}", &title)
            .replace("{verdict}", verdict)
            .replace("{breaches}", &breaches)
            .replace("{throughput}", &chart(&[("ok", &ok)], "operations per second"))
            .replace("{latency}", &chart(&[("p99", &p99), ("p50", &p50)], "milliseconds (p99, p50)"))
            .replace("{faults}", &self.timeline())
            .replace("{summary}", &escape(&serde_json::to_string_pretty(&self.summary)?)))
    }

    /// A row for each target, a bar for each fault.
    fn timeline(&self) -> String {
        let mut targets: Vec<&str> = self.faults.iter().map(|injected| injected.fault.target.as_str()).collect();
        targets.sort_unstable();
        targets.dedup();
        let height = ROW * u64::try_from(targets.len()).unwrap_or_default();
        let mut svg = format!("<svg viewBox=\"-190 0 {} {}\">", WIDTH + 190, height + ROW);
        for (row, target) in (0_u64..).zip(&targets) {
            let y = row * ROW;
            svg.push_str(&format!("<text x=\"-188\" y=\"{}\">{}</text>", y + ROW - 3, escape(target)));
            for injected in self.faults.iter().filter(|injected| injected.fault.target == *target) {
                let fault = &injected.fault;
                let (x, width) = (self.x(fault.at_ms), self.x(fault.duration_ms).max(3));
                let missed = injected.missed.as_ref().map(|why| format!(" (missed: {why})")).unwrap_or_default();
                let class = if injected.missed.is_some() { "missed" } else { "fault" };
                let seconds = fault.at_ms / 1_000;
                svg.push_str(&format!(
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\"><title>{seconds} s: {}, {} ms{}</title></rect>",
                    ROW - 2, fault.kind, fault.duration_ms, escape(&missed)
                ));
            }
        }
        svg + "</svg>"
    }

    fn x(&self, at_ms: u64) -> u64 {
        at_ms * WIDTH / (u64::try_from(self.seconds.len()).unwrap_or(1).max(1) * 1_000)
    }
}

impl Counts {
    fn add(&mut self, operation: &Operation) {
        self.ok += usize::from(operation.is_ok());
        self.failed += usize::from(!operation.is_ok());
        self.unknown += usize::from(operation.unknown > 0);
        self.retried += usize::from(operation.tries > 1);
    }
}

pub fn per_second(count: usize, lasted: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / lasted.as_secs_f64().max(1.0)
}

/// By the second in which each operation ended.
fn seconds(history: &[Operation], lasted: Duration) -> Vec<Second> {
    let length = usize::try_from(lasted.as_secs()).unwrap_or_default().max(1);
    let mut seconds = vec![Second::default(); length];
    let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); length];
    for operation in history {
        let index = usize::try_from(operation.ended_ms / 1_000).unwrap_or(usize::MAX);
        let (Some(second), Some(latencies)) = (seconds.get_mut(index), latencies.get_mut(index)) else { continue };
        second.ok += usize::from(operation.is_ok());
        second.failed += usize::from(!operation.is_ok());
        latencies.push(operation.ended_ms - operation.started_ms);
    }
    for (second, latencies) in seconds.iter_mut().zip(&mut latencies) {
        latencies.sort_unstable();
        let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
        (second.p50_ms, second.p99_ms) = (at(50), at(99));
    }
    seconds
}

/// Lines over the seconds of the run.
fn chart(lines: &[(&str, &[u64])], label: &str) -> String {
    let top = lines.iter().flat_map(|(_, values)| values.iter()).copied().max().unwrap_or_default().max(1);
    let mut svg = format!("<svg viewBox=\"-190 0 {} {}\">", WIDTH + 190, HEIGHT + ROW);
    svg.push_str(&format!("<text x=\"-188\" y=\"12\">{label}</text><text x=\"-188\" y=\"28\">up to {top}</text>"));
    for (class, values) in lines {
        let count = u64::try_from(values.len()).unwrap_or(1).max(1);
        let points = (0_u64..)
            .zip(*values)
            .map(|(second, value)| format!("{},{}", second * WIDTH / count, HEIGHT - value * HEIGHT / top));
        let points = points.collect::<Vec<_>>().join(" ");
        svg.push_str(&format!("<polyline class=\"{class}\" points=\"{points}\"/>"));
    }
    svg + "</svg>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
