//! How many requests each caller may make, so that one who asks too much takes nothing from the others.
//!
//! Each process counts by itself, per `sub` of the token. A quota of `burst` requests refills steadily (GCRA: of a caller
//! one point in time is kept, the one at which the quota is whole again). Answers tell what is left of it, in the fields
//! of draft-ietf-httpapi-ratelimit-headers-11. Requests without a valid token are nobody's and are not counted: a token
//! can't be guessed, and behind a proxy one stranger would shut everybody out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use metrics::counter;
use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use nexus_auth::{Caller, Role};

use crate::problem::Problem;

/// What is left of a caller's quota.
pub const RATE_LIMIT_HEADER: HeaderName = HeaderName::from_static("ratelimit");
/// The quota itself.
pub const RATE_LIMIT_POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");
/// A service stands for many people and carries files over; it has so many times the quota of a person.
const SERVICE_FACTOR: u32 = 10;
/// Of how many callers it is remembered what they have used. Of more, those who were heard of least lately start anew.
const CALLERS_MAX: u64 = 100_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The settings of a door about how much each caller may ask.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RateLimitArgs {
    /// Requests per minute that each caller may go on making, services ten times as many; 0 for no limit. Counted by each
    /// process for itself.
    #[arg(long, env = "NEXUS_REQUESTS_PER_MINUTE", default_value_t = 6_000,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub requests_per_minute: u32,
    /// Requests that each caller may make at once before that counts, services ten times as many.
    #[arg(long, env = "NEXUS_REQUESTS_BURST", default_value_t = 2_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_burst: u32,
}

/// Counts the requests of each caller.
pub struct RateLimiter {
    person: Quota,
    service: Quota,
    /// When the quota of a caller is whole again; forgotten once it is.
    whole_at: Cache<String, Instant>,
}

/// So many requests at once, and the time in which one of them comes back.
#[derive(Debug)]
struct Quota {
    burst: u32,
    interval: Duration,
    policy: HeaderValue,
    name: &'static str,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It is one of the quota; so many more are left, and after this time all are back.
    Granted { remaining: u32, whole_in: Duration },
    /// Nothing is left; the next one comes back after this time.
    Refused { wait: Duration },
}

impl RateLimiter {
    /// Nothing if there is to be no limit.
    pub fn from_args(args: &RateLimitArgs) -> Option<Self> {
        let (per_minute, burst) = (args.requests_per_minute, args.requests_burst.max(1));
        let interval = MINUTE.checked_div(per_minute)?;
        let person = Quota::new("person", burst, interval);
        let service = Quota::new("service", burst * SERVICE_FACTOR, interval / SERVICE_FACTOR);
        let whole_at = Cache::builder()
            .max_capacity(CALLERS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(person.refill().max(service.refill()))
            .build();
        Some(Self { person, service, whole_at })
    }

    fn quota_of(&self, caller: &Caller) -> &Quota {
        if caller.has(Role::Service) || caller.has(Role::Reactor) { &self.service } else { &self.person }
    }

    fn take(&self, caller: &str, quota: &Quota, now: Instant) -> Taken {
        let mut taken = Taken::Refused { wait: quota.interval };
        // One at a time for each caller, so two requests never take the same place.
        self.whole_at.entry_by_ref(caller).and_compute_with(|entry| {
            let whole_at = entry.map_or(now, |entry| entry.into_value());
            let next;
            (taken, next) = quota.take(whole_at, now);
            next.map_or(Op::Nop, Op::Put)
        });
        taken
    }
}

impl Quota {
    fn new(name: &'static str, burst: u32, interval: Duration) -> Self {
        let window = whole_seconds(interval * burst);
        let policy = HeaderValue::from_str(&format!("\"{name}\";q={burst};w={window}"));
        Self { burst, interval, policy: policy.unwrap_or(HeaderValue::from_static("")), name }
    }

    /// How long an empty quota takes to be whole again.
    fn refill(&self) -> Duration {
        self.interval * self.burst
    }

    /// Takes one request of a quota that is whole at `whole_at`; answers when it is whole after that.
    fn take(&self, whole_at: Instant, now: Instant) -> (Taken, Option<Instant>) {
        let whole_in = whole_at.saturating_duration_since(now) + self.interval;
        match self.refill().checked_sub(whole_in) {
            None => (Taken::Refused { wait: whole_in - self.refill() }, None),
            Some(left) => {
                let remaining = left.as_nanos() / self.interval.as_nanos().max(1);
                let remaining = u32::try_from(remaining).unwrap_or(self.burst);
                (Taken::Granted { remaining, whole_in }, Some(now + whole_in))
            }
        }
    }
}

/// Refuses the request of a caller whose quota is used up; tells every caller what is left.
pub(crate) async fn limit(State(limiter): State<Arc<RateLimiter>>, request: Request, next: Next) -> Response {
    // Without a caller the layers are in the wrong order, and the handler refuses.
    let Some(caller) = request.extensions().get::<Caller>().cloned() else { return next.run(request).await };
    let quota = limiter.quota_of(&caller);
    let taken = limiter.take(caller.id(), quota, Instant::now());
    let mut response = match taken {
        Taken::Granted { .. } => next.run(request).await,
        Taken::Refused { wait } => {
            counter!("http_requests_limited_total", "policy" => quota.name).increment(1);
            Problem::rate_limited(whole_seconds(wait)).into_response()
        }
    };
    tell(response.headers_mut(), quota, taken);
    response
}

fn tell(headers: &mut HeaderMap, quota: &Quota, taken: Taken) {
    let (remaining, window) = match taken {
        Taken::Granted { remaining, whole_in } => (remaining, whole_in),
        Taken::Refused { wait } => (0, wait),
    };
    let left = format!("\"{}\";r={remaining};t={}", quota.name, whole_seconds(window));
    if let Ok(left) = HeaderValue::from_str(&left) {
        headers.insert(RATE_LIMIT_HEADER, left);
        headers.insert(RATE_LIMIT_POLICY_HEADER, quota.policy.clone());
    }
}

/// Rounded up: who waits that long has waited long enough.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn limiter(requests_per_minute: u32, requests_burst: u32) -> RateLimiter {
        RateLimiter::from_args(&RateLimitArgs { requests_per_minute, requests_burst }).unwrap()
    }

    #[test]
    fn a_quota_counts_down_and_comes_back_one_by_one() {
        let limiter = limiter(60, 3);
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let at = |seconds: u32| limiter.take("a", &limiter.person, begin + second * seconds);
        for remaining in [2, 1, 0] {
            assert_eq!(at(0), Taken::Granted { remaining, whole_in: second * (3 - remaining) });
        }
        assert_eq!(at(0), Taken::Refused { wait: second });
        assert_eq!(limiter.take("b", &limiter.person, begin), Taken::Granted { remaining: 2, whole_in: second });
        assert_eq!(at(1), Taken::Granted { remaining: 0, whole_in: second * 3 });
        assert_eq!(at(1), Taken::Refused { wait: second }, "a refusal costs nothing and gives nothing");
        assert_eq!(at(60), Taken::Granted { remaining: 2, whole_in: second }, "never more than the burst");
    }

    #[test]
    fn a_service_has_more() {
        let limiter = limiter(60, 3);
        assert_eq!(limiter.person.policy, "\"person\";q=3;w=3");
        assert_eq!(limiter.service.policy, "\"service\";q=30;w=3");
    }

    #[test]
    fn none_is_no_limit() {
        assert!(RateLimiter::from_args(&RateLimitArgs { requests_per_minute: 0, requests_burst: 3 }).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let bounded = limiter(60, 3);
        for caller in 0..CALLERS_MAX + 5_000 {
            bounded.take(&caller.to_string(), &bounded.person, Instant::now());
        }
        bounded.whole_at.run_pending_tasks();
        assert!(bounded.whole_at.entry_count() <= CALLERS_MAX);
        // 3 ms, and every quota is whole again.
        let brief = limiter(60_000, 3);
        brief.take("a", &brief.person, Instant::now());
        let deadline = Instant::now() + Duration::from_secs(10);
        while brief.whole_at.contains_key("a") {
            assert!(Instant::now() < deadline, "it is never forgotten");
            std::thread::yield_now();
        }
    }
}
