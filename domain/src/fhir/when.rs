//! When something happened, as opposed to when it was recorded.
//!
//! What is stated is kept with its precision: a moment, a period (which may lack an end), or the events or bounds of a
//! `Timing`. Where a resource says only when it was written or released, that is told apart. What states no time has none:
//! nothing here falls back to the clock.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FhirDateTime, Precision, Resource};

/// What a stated time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeKind {
    /// It happened then: a `date`, `dateTime` or `instant`.
    Moment,
    /// It lasted from then to then; without an end it may still go on, without a start nobody says since when.
    Period,
    /// The first and the last event of a `Timing`, or its bounds.
    Timing,
    /// It was written down, released or sent then; when it happened is not said.
    Written,
}

/// When something happened, as it was stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    pub kind: TimeKind,
    start: Option<Stated>,
    end: Option<Stated>,
}

/// A date or time and the text that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stated {
    text: String,
    time: FhirDateTime,
}

/// Where the clinical time of a resource stands, most telling first; the first that is there and well formed counts.
const CLINICAL_TIME: &[(TimeKind, &str)] = &[
    (TimeKind::Moment, "/effectiveDateTime"),
    (TimeKind::Moment, "/effectiveInstant"),
    (TimeKind::Period, "/effectivePeriod"),
    (TimeKind::Timing, "/effectiveTiming"),
    (TimeKind::Moment, "/performedDateTime"),
    (TimeKind::Period, "/performedPeriod"),
    (TimeKind::Moment, "/occurrenceDateTime"),
    (TimeKind::Period, "/occurrencePeriod"),
    (TimeKind::Timing, "/occurrenceTiming"),
    (TimeKind::Moment, "/onsetDateTime"),
    (TimeKind::Period, "/onsetPeriod"),
    (TimeKind::Period, "/period"),
    (TimeKind::Moment, "/start"),
    (TimeKind::Moment, "/started"),
    (TimeKind::Moment, "/timingDateTime"),
    (TimeKind::Period, "/timingPeriod"),
    (TimeKind::Timing, "/timingTiming"),
    (TimeKind::Moment, "/identifiedDateTime"),
    (TimeKind::Period, "/identifiedPeriod"),
    (TimeKind::Period, "/executionPeriod"),
    (TimeKind::Moment, "/createdDateTime"),
    (TimeKind::Period, "/createdPeriod"),
    (TimeKind::Period, "/servicePeriod"),
    (TimeKind::Written, "/authoredOn"),
    (TimeKind::Period, "/billablePeriod"),
    (TimeKind::Moment, "/servicedDate"),
    (TimeKind::Period, "/servicedPeriod"),
    (TimeKind::Period, "/context/period"),
    (TimeKind::Moment, "/collection/collectedDateTime"),
    (TimeKind::Period, "/collection/collectedPeriod"),
    (TimeKind::Moment, "/receivedTime"),
    (TimeKind::Moment, "/whenHandedOver"),
    (TimeKind::Moment, "/whenPrepared"),
    (TimeKind::Moment, "/occurredDateTime"),
    (TimeKind::Period, "/occurredPeriod"),
    (TimeKind::Moment, "/startDate"),
    (TimeKind::Written, "/recordedDate"),
    (TimeKind::Written, "/recordedOn"),
    (TimeKind::Written, "/recorded"),
    (TimeKind::Written, "/dateTime"),
    (TimeKind::Written, "/dateWritten"),
    (TimeKind::Written, "/date"),
    (TimeKind::Written, "/authored"),
    (TimeKind::Written, "/created"),
    (TimeKind::Written, "/enteredDate"),
    (TimeKind::Written, "/issued"),
    (TimeKind::Moment, "/manufactureDate"),
    (TimeKind::Written, "/sent"),
    (TimeKind::Written, "/assertedDate"),
];

/// The clinical time of a resource, if it states one.
pub fn clinical_time(resource: &Resource) -> Option<When> {
    CLINICAL_TIME.iter().find_map(|(kind, pointer)| When::of(*kind, resource.at(pointer)?))
}

impl When {
    fn of(kind: TimeKind, value: &Value) -> Option<Self> {
        match kind {
            TimeKind::Moment | TimeKind::Written => Some(Self { kind, start: Some(Stated::of(value)?), end: None }),
            TimeKind::Period => Self::of_period(kind, value),
            TimeKind::Timing => {
                Self::of_events(value).or_else(|| Self::of_period(kind, value.pointer("/repeat/boundsPeriod")?))
            }
        }
    }

    fn of_period(kind: TimeKind, period: &Value) -> Option<Self> {
        let (start, end) = (Stated::of(&period["start"]), Stated::of(&period["end"]));
        (start.is_some() || end.is_some()).then_some(Self { kind, start, end })
    }

    /// From the first to the last of the moments that a `Timing` names.
    fn of_events(timing: &Value) -> Option<Self> {
        let events = || timing.get("event").and_then(Value::as_array).into_iter().flatten().filter_map(Stated::of);
        let start = events().min_by_key(|event| event.time.earliest)?;
        let end = events().max_by_key(|event| event.time.latest()).filter(|end| *end != start);
        let kind = if end.is_some() { TimeKind::Timing } else { TimeKind::Moment };
        Some(Self { kind, start: Some(start), end })
    }

    /// The first moment that it can mean, by which it stands among others; of a period without a start, that of its end.
    pub fn earliest(&self) -> DateTime<Utc> {
        let first = self.start.as_ref().or(self.end.as_ref());
        first.map_or(DateTime::UNIX_EPOCH, |stated| stated.time.earliest)
    }

    /// The last moment that it can mean; none for a period that has not ended.
    pub fn latest(&self) -> Option<DateTime<Utc>> {
        let is_open = matches!(self.kind, TimeKind::Period | TimeKind::Timing) && self.end.is_none();
        let last = self.end.as_ref().or(self.start.as_ref()).filter(|_| !is_open);
        last.map(|stated| stated.time.latest())
    }

    /// From when to when it certainly was, as far as both are stated to the moment: what dates, open ends and times of
    /// writing leave open is answered by nothing.
    pub fn span(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let exact = |stated: &Stated| stated.time.precision == Precision::Instant;
        let all_exact = self.start.iter().chain(&self.end).all(exact);
        if !all_exact || self.kind == TimeKind::Written || self.start.is_none() {
            return None;
        }
        Some((self.earliest(), self.latest()?))
    }

    /// How much is known of the less precise of its ends.
    pub fn precision(&self) -> Precision {
        let ends = self.start.iter().chain(&self.end);
        ends.map(|stated| stated.time.precision).min().unwrap_or(Precision::Year)
    }

    /// The start, or the only moment, as it was written.
    pub fn start(&self) -> Option<&str> {
        self.start.as_ref().map(|stated| stated.text.as_str())
    }

    /// The end as it was written.
    pub fn end(&self) -> Option<&str> {
        self.end.as_ref().map(|stated| stated.text.as_str())
    }
}

impl Stated {
    fn of(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        Some(Self { text: text.to_owned(), time: FhirDateTime::parse(text)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn when(more: Value) -> Option<When> {
        let mut json = json!({"resourceType": "Observation"});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        clinical_time(&Resource::parse(json).unwrap())
    }

    #[test]
    fn every_form_is_told_as_it_was_stated() {
        use Precision::{Day, Instant, Month, Year};
        use TimeKind::{Moment, Period, Timing, Written};
        let bounds = |bounds: Value| json!({"effectiveTiming": {"repeat": {"boundsPeriod": bounds, "frequency": 2}}});
        let events = |events: Value| json!({"effectiveTiming": {"event": events, "code": {"text": "x"}}});
        let rows = [
            (json!({"effectiveDateTime": "2011-08"}), Moment, Some("2011-08"), None, Month, "2011-08-01"),
            (
                json!({"effectiveInstant": "2011-08-09T10:11:12Z"}),
                Moment,
                Some("2011-08-09T10:11:12Z"),
                None,
                Instant,
                "2011-08-09",
            ),
            (json!({"effectivePeriod": {"end": "2012-03-04"}}), Period, None, Some("2012-03-04"), Day, "2012-03-04"),
            (json!({"effectivePeriod": {"start": "2012"}}), Period, Some("2012"), None, Year, "2012-01-01"),
            (events(json!(["2013-02-03"])), Moment, Some("2013-02-03"), None, Day, "2013-02-03"),
            (
                events(json!(["2013-05-01", "2013-02", "2013-03-01"])),
                Timing,
                Some("2013-02"),
                Some("2013-05-01"),
                Month,
                "2013-02-01",
            ),
            (
                bounds(json!({"start": "2010-01-02", "end": "2010-02"})),
                Timing,
                Some("2010-01-02"),
                Some("2010-02"),
                Month,
                "2010-01-02",
            ),
            (bounds(json!({"end": "2010-02"})), Timing, None, Some("2010-02"), Month, "2010-02-01"),
            (
                json!({"issued": "2009-08-07T06:05:04Z"}),
                Written,
                Some("2009-08-07T06:05:04Z"),
                None,
                Instant,
                "2009-08-07",
            ),
            (
                json!({"effectiveTiming": {"code": {"text": "daily"}}, "issued": "2009-08-07T06:05:04Z"}),
                Written,
                Some("2009-08-07T06:05:04Z"),
                None,
                Instant,
                "2009-08-07",
            ),
        ];
        for (stated, kind, start, end, precision, earliest) in rows {
            let when = when(stated.clone()).unwrap_or_else(|| panic!("{stated}"));
            assert_eq!(
                (when.kind, when.start(), when.end(), when.precision()),
                (kind, start, end, precision),
                "{stated}"
            );
            assert!(when.earliest().to_rfc3339().starts_with(earliest), "{stated}");
        }
    }

    #[test]
    fn what_states_no_time_has_none() {
        for none in [
            json!({}),
            json!({"effectivePeriod": {}}),
            json!({"effectiveDateTime": "lately"}),
            json!({"effectiveTiming": {"code": {"text": "daily"}}}),
            json!({"effectiveTiming": {"repeat": {"boundsDuration": {"value": 3}}}}),
        ] {
            assert_eq!(when(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn only_what_is_stated_to_the_moment_has_a_span() {
        let moment = "2020-01-02T03:04:05Z";
        let span = |json: Value| when(json).unwrap().span().map(|(start, end)| (end - start).num_seconds());
        assert_eq!(span(json!({"effectiveDateTime": moment})), Some(0));
        assert_eq!(span(json!({"effectivePeriod": {"start": moment, "end": "2020-01-02T03:04:15Z"}})), Some(10));
        for open in [
            json!({"effectiveDateTime": "2020-01-02"}),
            json!({"effectivePeriod": {"start": moment}}),
            json!({"effectivePeriod": {"end": moment}}),
            json!({"effectivePeriod": {"start": moment, "end": "2020-01-03"}}),
            json!({"issued": moment}),
        ] {
            assert_eq!(span(open.clone()), None, "{open}");
        }
    }

    #[test]
    fn a_period_that_has_not_ended_has_no_last_moment() {
        let latest = |json: Value| when(json).unwrap().latest().map(|latest| latest.to_rfc3339());
        assert_eq!(latest(json!({"effectivePeriod": {"start": "2020"}})), None);
        assert_eq!(
            latest(json!({"effectivePeriod": {"end": "2020"}})).as_deref(),
            Some("2020-12-31T23:59:59.999+00:00")
        );
        assert_eq!(latest(json!({"effectiveDateTime": "2020-02"})).as_deref(), Some("2020-02-29T23:59:59.999+00:00"));
    }
}
