//! Time on a processor, by whoever used it: on a shared machine that says what the clock can't.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What Linux counts in: USER_HZ is 100 wherever this runs.
const MS_PER_TICK: f64 = 10.0;

/// The servers to watch.
#[derive(Clone, Copy)]
pub struct Servers {
    pub postgres: i32,
    pub kafka: i32,
}

/// Milliseconds used, by user.
#[derive(Clone, Default)]
pub struct Used(pub BTreeMap<String, f64>);

impl Servers {
    /// What everybody has used since they began.
    pub fn used(self) -> Used {
        let own = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let own = (own.user_time() + own.system_time()).num_microseconds() as f64 / 1_000.0;
        let mut used = BTreeMap::from([("this process".to_owned(), own)]);
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let Some(stat) = stat(pid) else { continue };
            let user = match pid {
                // With those of its children that have ended.
                _ if pid == self.postgres => "postgres: (ended)".to_owned(),
                _ if pid == self.kafka => "kafka".to_owned(),
                _ if stat.parent == self.postgres => backend(pid),
                _ => continue,
            };
            *used.entry(user).or_default() += stat.ms;
        }
        Used(used)
    }
}

impl Used {
    pub fn since(&self, before: &Self) -> Self {
        let difference = |(user, ms): (&String, &f64)| {
            (user.clone(), (ms - before.0.get(user).copied().unwrap_or_default()).max(0.0))
        };
        Self(self.0.iter().map(difference).collect())
    }

    /// Of all users whose name begins so.
    pub fn of(&self, prefix: &str) -> f64 {
        self.0.iter().filter(|(user, _)| user.starts_with(prefix)).map(|(_, ms)| ms).sum()
    }

    pub fn add(&mut self, other: &Self) {
        for (user, ms) in &other.0 {
            *self.0.entry(user.clone()).or_default() += ms;
        }
    }
}

struct Stat {
    parent: i32,
    ms: f64,
}

/// proc(5): the fields behind the name, which may hold anything, begin with the state.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // utime, stime, cutime, cstime
    let ticks: f64 = fields[11..15].iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some(Stat { parent: fields[1].parse().ok()?, ms: ticks * MS_PER_TICK })
}

/// "postgres: nexus_query log" of a backend's title, which has role, database and address.
fn backend(pid: i32) -> String {
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = title.split([' ', '\0']).skip(1);
    let (role, database) = (words.next().unwrap_or("?"), words.next().unwrap_or_default());
    format!("postgres: {role} {}", database.split('_').nth(1).unwrap_or_default())
}
