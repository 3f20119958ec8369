//! FHIR dates and times, which may be partial.

use chrono::{DateTime, Days, Months, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How much of a date is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// Reads `2026`, `2026-11`, `2026-11-24` or `2026-11-24T08:00:00.1+01:00`, by the grammar of FHIR R4: years 0001 to 9999,
    /// seconds 00 to 60, any number of fractional digits (of which nine count), zones up to 14 hours. Nothing if it is none
    /// of these.
    ///
    /// Second 60, a leap second, counts as the second after it, as on any computer's clock. What a zone would move out of
    /// the years 0001 to 9999 stays at their edge, so that every moment can be written down again.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_ascii() || text.len() > CHARS_MAX {
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

/// More digits than this measure no time.
const CHARS_MAX: usize = 64;

/// 0001-01-01 and the last moment of 9999.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// The longest offset of a zone, in minutes.
const OFFSET_MAX: i64 = 14 * 60;

fn start_of_day(year: i32, month: u32, day: u32) -> Option<DateTime<Utc>> {
    Some(NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(0, 0, 0)?.and_utc())
}

fn year(text: &str) -> Option<i32> {
    let year = number(text)?;
    i32::try_from(year).ok().filter(|year| *year >= 1)
}

/// Two digits behind a dash.
fn part(text: &str, at: usize) -> Option<u32> {
    (text.as_bytes()[at - 1] == b'-').then(|| two(text, at)).flatten()
}

fn two(text: &str, at: usize) -> Option<u32> {
    number(text.get(at..at + 2)?)
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// FHIR demands seconds and a zone once there is a time, with a capital `T`.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    if text.len() < 20 || text.as_bytes()[10] != b'T' {
        return None;
    }
    let midnight = start_of_day(year(&text[..4])?, part(text, 5)?, part(text, 8)?)?;
    let (time, rest) = text[11..].split_at(8);
    let (hour, minute, second) = (two(time, 0)?, two(time, 3)?, two(time, 6)?);
    let colons = time.as_bytes()[2] == b':' && time.as_bytes()[5] == b':';
    if !colons || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanoseconds, zone) = fraction(rest)?;
    let since_midnight = i64::from(hour * 3600 + minute * 60 + second) - offset_minutes(zone)? * 60;
    let seconds = midnight.timestamp() + since_midnight;
    if (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return DateTime::from_timestamp(seconds, nanoseconds);
    }
    // The edge itself: microseconds, since databases know no more.
    let edge = if seconds < SECONDS_MIN { (SECONDS_MIN, 0) } else { (SECONDS_MAX, 999_999_000) };
    DateTime::from_timestamp(edge.0, edge.1)
}

/// The nanoseconds of `.123Z`, and what comes behind them.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = digits.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    Some((number(&nine)?, zone))
}

/// `Z`, or the minutes of `+01:00`.
fn offset_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes() {
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (i64::from(two(zone, 1)?), i64::from(two(zone, 4)?));
    let offset = hours * 60 + minutes;
    (minutes <= 59 && offset <= OFFSET_MAX).then_some(sign * offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earliest(text: &str) -> String {
        FhirDateTime::parse(text).unwrap_or_else(|| panic!("{text}")).earliest.to_rfc3339()
    }

    #[test]
    fn the_grammar_of_r4_is_read_to_its_edges() {
        for (text, moment) in [
            ("0001", "0001-01-01T00:00:00+00:00"),
            ("1234-05-06", "1234-05-06T00:00:00+00:00"),
            ("2008-12-31T23:59:60Z", "2009-01-01T00:00:00+00:00"),
            ("2008-12-31T18:59:60.5-05:00", "2009-01-01T00:00:00.500+00:00"),
            ("2021-03-04T05:06:07.12345678912345+00:00", "2021-03-04T05:06:07.123456789+00:00"),
            ("2021-03-04T05:06:07.3-12:30", "2021-03-04T17:36:07.300+00:00"),
            ("2021-03-04T05:06:07+14:00", "2021-03-03T15:06:07+00:00"),
            ("0001-01-01T00:00:00+09:00", "0001-01-01T00:00:00+00:00"),
            ("9999-12-31T23:30:00-03:00", "9999-12-31T23:59:59.999999+00:00"),
        ] {
            assert_eq!(earliest(text), moment, "{text}");
        }
        assert_eq!(FhirDateTime::parse("9999").unwrap().latest().to_rfc3339(), "9999-12-31T23:59:59.999+00:00");
    }

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
            "２０２３",
            "0000",
            "0000-01-01",
            "2023-02-29T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T23:59:61Z",
            "2023-01-01T10:60:00Z",
            "2023-01-01T10:00:00.Z",
            "2023-01-01T10:00:00.5",
            "2023-01-01t10:00:00Z",
            "2023-01-01T10:00:00z",
            "2023-01-01T10:00:00+14:30",
            "2023-01-01T10:00:00+01:75",
            "2023-01-01T10:00:00+0100",
            "2023-01-01T10:00:00+1:000",
            "2023-01-01T1a:00:00Z",
            "2023-01-01T10-00-00Z",
        ] {
            assert!(FhirDateTime::parse(bad).is_none(), "{bad}");
        }
    }
}
