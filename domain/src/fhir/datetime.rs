//! FHIR dates and times, which may be partial.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, TimeZone, Utc};

/// How much of a date is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    Year,
    Month,
    Day,
    /// Date and time with a time zone.
    Instant,
}

/// A FHIR R4 `date`, `dateTime` or `instant` (<https://hl7.org/fhir/R4/datatypes.html#dateTime>). Partial ones stand for
/// an interval; days without a time are taken in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FhirDateTime {
    /// The first moment it can mean.
    pub earliest: DateTime<Utc>,
    pub precision: Precision,
}

impl FhirDateTime {
    /// Reads `2026`, `2026-11`, `2026-11-24` or `2026-11-24T08:00:00.1+01:00`. Years 1800 to 9999; nothing if it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_ascii() {
            return None;
        }
        let (earliest, precision) = match text.len() {
            4 => (start_of_day(year(text)?, 1, 1)?, Precision::Year),
            7 => (start_of_day(year(&text[..4])?, part(text, 5)?, 1)?, Precision::Month),
            10 => (start_of_day(year(&text[..4])?, part(text, 5)?, part(text, 8)?)?, Precision::Day),
            _ => (instant(text)?, Precision::Instant),
        };
        Some(Self { earliest, precision })
    }

    /// A moment that is known exactly.
    pub fn instant(time: DateTime<Utc>) -> Self {
        Self { earliest: time, precision: Precision::Instant }
    }

    /// The last moment it can mean.
    pub fn latest(&self) -> DateTime<Utc> {
        let next = match self.precision {
            Precision::Instant => return self.earliest,
            Precision::Day => self.earliest.checked_add_days(Days::new(1)),
            Precision::Month => self.earliest.checked_add_months(Months::new(1)),
            Precision::Year => self.earliest.checked_add_months(Months::new(12)),
        };
        next.map_or(self.earliest, |next| next - TimeDelta::milliseconds(1))
    }

    /// Whether even its first moment lies after `now` plus the slack that clocks and time zones need (a day for days).
    pub fn is_after(&self, now: DateTime<Utc>) -> bool {
        let slack = if self.precision == Precision::Instant { TimeDelta::minutes(5) } else { TimeDelta::hours(14) };
        self.earliest > now + slack
    }
}

fn start_of_day(year: i32, month: u32, day: u32) -> Option<DateTime<Utc>> {
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    Some(Utc.from_utc_datetime(&date.and_hms_opt(0, 0, 0)?))
}

fn year(text: &str) -> Option<i32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|year| digits && (1800..=9999).contains(year))
}

/// Two digits behind a dash.
fn part(text: &str, at: usize) -> Option<u32> {
    let bytes = text.as_bytes();
    let digits = bytes[at..at + 2].iter().all(u8::is_ascii_digit);
    (bytes[at - 1] == b'-' && digits).then(|| text[at..at + 2].parse().ok()).flatten()
}

/// FHIR demands seconds and a zone once there is a time, with a capital `T`.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    if text.len() < 20 || text.as_bytes()[10] != b'T' {
        return None;
    }
    let time = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    (1799..=9999).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_dates_are_intervals() {
        let date = FhirDateTime::parse("2024-02").unwrap();
        assert_eq!(date.earliest.to_rfc3339(), "2024-02-01T00:00:00+00:00");
        assert_eq!(date.latest().to_rfc3339(), "2024-02-29T23:59:59.999+00:00");
    }

    #[test]
    fn only_the_forms_of_fhir_are_read() {
        for good in
            ["1929", "1929-04", "1929-04-30", "2020-02-29", "1959-07-30T11:21:06+01:00", "2020-01-01T00:00:00.123Z"]
        {
            assert!(FhirDateTime::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "29",
            "2023-02-29",
            "2023-13",
            "2023/01/01",
            "2023-01-01 10:00:00Z",
            "2023-01-01T10:00",
            "2023-01-01T10:00:00",
            "+202",
            "1234-01-01",
            "２０２３",
        ] {
            assert!(FhirDateTime::parse(bad).is_none(), "{bad}");
        }
    }
}
