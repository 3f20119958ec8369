//! Which of two versions of a resource is the newer one, by what was said of each when it came.
//!
//! An export comes again every night. What it says of a resource (`meta.lastUpdated`, `meta.versionId`) decides whether
//! it is news, and nothing else does: not the order of files, and not the hour at which they arrive.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::FhirDateTime;

/// What a sender says of the version of what it sends, as it wrote it. It may say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatedVersion {
    pub version_id: Option<String>,
    pub last_updated: Option<String>,
}

/// What is known of the version that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingVersion {
    /// It came from elsewhere, with these words.
    Stated(StatedVersion),
    /// It was decided here, or nobody kept what was said: it is as old as its record.
    Recorded(DateTime<Utc>),
}

/// How what comes relates to what stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    Newer,
    Same,
    Older,
    /// What comes says how old it is; what stands came without a word.
    FirstStated,
    /// What stands says how old it is; what comes does not.
    Unstated,
    /// Neither says anything, or they can't be compared.
    Unknown,
}

impl StatedVersion {
    /// Reads `meta` of a resource. What is no instant there, or no text, says nothing.
    pub fn of(resource: &Value) -> Self {
        let text = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            version_id: text("/meta/versionId"),
            last_updated: text("/meta/lastUpdated").filter(|text| FhirDateTime::parse(text).is_some()),
        }
    }

    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    fn time(&self) -> Option<DateTime<Utc>> {
        self.last_updated.as_deref().and_then(FhirDateTime::parse).map(|time| time.earliest)
    }

    /// Servers number their versions. A version that is no number says nothing about order.
    fn number(&self) -> Option<u64> {
        self.version_id.as_deref()?.parse().ok()
    }

    /// How a resource that comes with these words relates to the one that stands.
    pub fn follows(&self, standing: &StandingVersion) -> Succession {
        let stated = match standing {
            StandingVersion::Recorded(at) => return compare(self.time(), Some(*at)).unwrap_or(Succession::Unstated),
            StandingVersion::Stated(stated) => stated,
        };
        match (self.is_silent(), stated.is_silent()) {
            (true, true) => Succession::Unknown,
            (true, false) => Succession::Unstated,
            (false, true) => Succession::FirstStated,
            (false, false) => self.compare(stated),
        }
    }

    /// Time goes before number: a server that was set up anew begins to count again. Of the same moment, the number tells.
    fn compare(&self, stated: &Self) -> Succession {
        let by_number = compare(self.number(), stated.number());
        match compare(self.time(), stated.time()) {
            Some(Succession::Same) => by_number.unwrap_or(Succession::Same),
            Some(by_time) => by_time,
            None => by_number.unwrap_or(Succession::Unknown),
        }
    }
}

fn compare<T: Ord>(coming: Option<T>, standing: Option<T>) -> Option<Succession> {
    Some(match coming?.cmp(&standing?) {
        std::cmp::Ordering::Greater => Succession::Newer,
        std::cmp::Ordering::Equal => Succession::Same,
        std::cmp::Ordering::Less => Succession::Older,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stated(version_id: &str, last_updated: &str) -> StatedVersion {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        StatedVersion { version_id: text(version_id), last_updated: text(last_updated) }
    }

    #[track_caller]
    fn check(coming: (&str, &str), standing: (&str, &str), expected: Succession) {
        let standing = StandingVersion::Stated(stated(standing.0, standing.1));
        assert_eq!(stated(coming.0, coming.1).follows(&standing), expected);
    }

    #[test]
    fn time_decides_then_the_number() {
        check(("", "2031-02-02T00:00:00Z"), ("", "2031-02-01T23:59:59.9Z"), Succession::Newer);
        check(("", "2031-02-01T23:00:00-02:00"), ("", "2031-02-02T00:59:59Z"), Succession::Newer);
        check(("1", "2031-02-02T00:00:00Z"), ("9", "2031-02-01T00:00:00Z"), Succession::Newer);
        check(("9", "2031-01-02T00:00:00Z"), ("1", "2031-02-01T00:00:00Z"), Succession::Older);
        check(("3", "2031-02-01T00:00:00Z"), ("2", "2031-02-01T01:00:00+01:00"), Succession::Newer);
        check(("2", "2031-02-01T00:00:00Z"), ("2", "2031-02-01T00:00:00Z"), Succession::Same);
        check(("b", "2031-02-01T00:00:00Z"), ("a", "2031-02-01T00:00:00Z"), Succession::Same);
        check(("10", ""), ("9", ""), Succession::Newer);
        check(("10", "2031-02-01T00:00:00Z"), ("11", ""), Succession::Older);
    }

    #[test]
    fn silence_is_no_age() {
        check(("", ""), ("", ""), Succession::Unknown);
        check(("2", ""), ("", ""), Succession::FirstStated);
        check(("", ""), ("2", ""), Succession::Unstated);
        check(("x", ""), ("y", ""), Succession::Unknown);
        check(("2", ""), ("", "2031-02-01T00:00:00Z"), Succession::Unknown);
    }

    /// What was decided here is as old as its record; the numbers of another server say nothing about ours.
    #[test]
    fn what_was_decided_here_is_as_old_as_its_record() {
        let standing = StandingVersion::Recorded("2031-02-01T12:00:00Z".parse().unwrap());
        assert_eq!(stated("7", "2031-02-01T12:00:01Z").follows(&standing), Succession::Newer);
        assert_eq!(stated("7", "2031-02-01T11:00:00Z").follows(&standing), Succession::Older);
        assert_eq!(stated("7", "").follows(&standing), Succession::Unstated);
        assert_eq!(stated("", "").follows(&standing), Succession::Unstated);
    }

    #[test]
    fn what_is_no_moment_says_nothing() {
        let of = |meta| StatedVersion::of(&json!({"resourceType": "Basic", "meta": meta}));
        assert_eq!(
            of(json!({"versionId": "4", "lastUpdated": "2031-02-01T12:00:00Z"})),
            stated("4", "2031-02-01T12:00:00Z")
        );
        assert!(of(json!({"versionId": 4, "lastUpdated": "last week"})).is_silent());
        assert!(of(json!("x")).is_silent());
    }
}
