//! Which faults happen when: decided by the seed alone, before anything runs.
//!
//! A fault has one target, and no target has two faults at a time, so that each ends as it began. What this machine can't
//! do (mount a file system, step a clock) is taken out of the finished plan: the rest of it stays as it was.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::random::Random;

/// The first fault comes when the clients have something to lose, and after the last there is time to see it.
const QUIET_START_MS: u64 = 4_000;
const QUIET_END_MS: u64 = 4_000;
/// Longer than a relay's lease (10 s) and a consumer's session (6 s).
const PAUSE_MS: (u64, u64) = (11_000, 16_000);

/// What is done to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL; the supervisor starts it again.
    Kill,
    /// SIGSTOP, and SIGCONT after every lease and session has run out.
    Pause,
    /// Connections of a link are reset, and new ones refused.
    Cut,
    /// Each piece of a link's traffic comes late.
    Delay,
    /// A link stays open and carries nothing.
    BlackHole,
    /// Connections of a link are reset in the middle of a message.
    CutMidMessage,
    /// Kafka is asked to stop, and comes back.
    BrokerRestart,
    /// PostgreSQL loses a backend by SIGKILL, and all others with it.
    BackendKill,
    /// PostgreSQL shuts down immediately, as in a power cut, and recovers.
    CrashRestart,
    /// The file system below the data has no room left.
    DiskFull,
    /// A process's clock jumps, and jumps back.
    ClockStep,
    /// Each fsync of PostgreSQL takes longer.
    SlowDisk,
}

/// One fault of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub at_ms: u64,
    /// Zero for what is over when it has happened.
    pub duration_ms: u64,
    pub kind: Kind,
    /// A process, or a link written `from>to`.
    pub target: String,
    /// Milliseconds of delay, bytes until the cut, seconds of the clock's step: as the kind has it.
    pub amount: i64,
}

/// What there is to be disturbed.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Our own processes.
    pub processes: Vec<String>,
    /// Of those, the ones whose clocks can be stepped.
    pub clocks: Vec<String>,
    pub links: Vec<String>,
}

/// How often each kind is chosen, among all.
const WEIGHTS: [(Kind, u64); 12] = [
    (Kind::Kill, 12),
    (Kind::Pause, 6),
    (Kind::Cut, 8),
    (Kind::Delay, 8),
    (Kind::BlackHole, 6),
    (Kind::CutMidMessage, 8),
    (Kind::BrokerRestart, 2),
    (Kind::BackendKill, 3),
    (Kind::CrashRestart, 3),
    (Kind::DiskFull, 3),
    (Kind::ClockStep, 4),
    (Kind::SlowDisk, 3),
];

/// The plan of a run of so many milliseconds.
pub fn plan(seed: u64, run_ms: u64, targets: &Targets) -> Vec<Fault> {
    let mut random = Random::new(seed);
    let mut busy_until: BTreeMap<String, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    let end_ms = run_ms.saturating_sub(QUIET_END_MS);
    let mut at_ms = QUIET_START_MS;
    while at_ms < end_ms {
        // Of a round's subset of faults, mostly one, sometimes none.
        let count = [0, 1, 1, 1, 2, 2, 3][usize::try_from(random.between(0, 6)).unwrap_or_default()];
        for _ in 0..count {
            let Some(fault) = draw(&mut random, at_ms, end_ms, targets) else { continue };
            let busy = busy_until.entry(fault.target.clone()).or_default();
            if *busy <= at_ms {
                *busy = at_ms + fault.duration_ms + fault.kind.rest_ms();
                faults.push(fault);
            }
        }
        at_ms += random.between(2_000, 6_000);
    }
    faults
}

fn draw(random: &mut Random, at_ms: u64, end_ms: u64, targets: &Targets) -> Option<Fault> {
    let kind = draw_kind(random);
    let postgres_or_kafka = if random.percent(50) { "postgres" } else { "kafka" };
    let target = match kind {
        Kind::Kill | Kind::Pause => random.pick(&targets.processes)?.clone(),
        Kind::Cut | Kind::Delay | Kind::BlackHole | Kind::CutMidMessage => random.pick(&targets.links)?.clone(),
        Kind::ClockStep => random.pick(&targets.clocks)?.clone(),
        Kind::BrokerRestart => "kafka".to_owned(),
        Kind::BackendKill | Kind::CrashRestart | Kind::SlowDisk => "postgres".to_owned(),
        Kind::DiskFull => postgres_or_kafka.to_owned(),
    };
    let (low, high) = kind.duration_ms();
    let duration_ms = random.between(low, high).min(end_ms - at_ms);
    let amount = kind.amount(random);
    Some(Fault { at_ms, duration_ms, kind, target, amount })
}

fn draw_kind(random: &mut Random) -> Kind {
    let total: u64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut left = random.between(1, total);
    for (kind, weight) in WEIGHTS {
        match left.checked_sub(weight) {
            Some(rest) if rest > 0 => left = rest,
            _ => return kind,
        }
    }
    Kind::Kill
}

impl Kind {
    fn duration_ms(self) -> (u64, u64) {
        match self {
            Self::Kill | Self::BrokerRestart | Self::BackendKill | Self::CrashRestart => (0, 0),
            Self::Pause => PAUSE_MS,
            Self::Cut | Self::CutMidMessage => (1_000, 8_000),
            Self::Delay => (3_000, 10_000),
            Self::BlackHole => (2_000, 12_000),
            Self::DiskFull => (3_000, 6_000),
            Self::ClockStep => (4_000, 12_000),
            Self::SlowDisk => (3_000, 8_000),
        }
    }

    /// How long a target is left alone afterwards: it shall come back to be hit again.
    fn rest_ms(self) -> u64 {
        match self {
            Self::BrokerRestart | Self::DiskFull => 15_000,
            Self::BackendKill | Self::CrashRestart => 8_000,
            _ => 2_000,
        }
    }

    fn amount(self, random: &mut Random) -> i64 {
        let steps = [-600, -60, -5, 5, 60, 600];
        match self {
            Self::Delay => i64::try_from(random.between(20, 400)).unwrap_or_default(),
            Self::CutMidMessage => i64::try_from(random.between(1, 4_000)).unwrap_or_default(),
            Self::SlowDisk => i64::try_from(random.between(5, 40)).unwrap_or_default(),
            Self::ClockStep => random.pick(&steps).copied().unwrap_or_default(),
            _ => 0,
        }
    }
}

impl Fault {
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.duration_ms
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Delay => "delay",
            Self::BlackHole => "black hole",
            Self::CutMidMessage => "cut in a message",
            Self::BrokerRestart => "broker restart",
            Self::BackendKill => "backend killed",
            Self::CrashRestart => "crash restart",
            Self::DiskFull => "disk full",
            Self::ClockStep => "clock step",
            Self::SlowDisk => "slow disk",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn targets() -> Targets {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Targets {
            processes: names(&["command-api-1", "relay-1", "projector-1"]),
            clocks: names(&["relay-1"]),
            links: names(&["relay-1>kafka", "relay-1>postgres"]),
        }
    }

    #[test]
    fn a_seed_has_one_plan() {
        assert_eq!(plan(7, 300_000, &targets()), plan(7, 300_000, &targets()));
        assert_ne!(plan(7, 300_000, &targets()), plan(8, 300_000, &targets()));
    }

    #[test]
    fn a_longer_run_has_every_kind_and_the_end_is_quiet() {
        let faults: Vec<Fault> = (0..20).flat_map(|seed| plan(seed, 300_000, &targets())).collect();
        let kinds: BTreeSet<Kind> = faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), WEIGHTS.len());
        assert!(faults.iter().all(|fault| fault.at_ms >= QUIET_START_MS && fault.end_ms() <= 300_000 - QUIET_END_MS));
    }

    #[test]
    fn no_target_has_two_faults_at_a_time() {
        for seed in 0..20 {
            let faults = plan(seed, 300_000, &targets());
            for (index, first) in faults.iter().enumerate() {
                let overlap = |second: &&Fault| second.target == first.target && second.at_ms < first.end_ms();
                assert_eq!(faults[index + 1..].iter().find(overlap), None, "seed {seed}: {first:?}");
            }
        }
    }
}
