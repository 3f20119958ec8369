//! Which elements hold dates and times, and what each kind of them looks like
//! (<https://hl7.org/fhir/R4/datatypes.html#date>).

use super::{FhirDateTime, Precision};
use crate::types::FormError;

/// What a text says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temporal {
    /// `2026`, `2026-11` or `2026-11-24`.
    Date,
    /// A date, or date and time with a zone.
    DateTime,
    /// Date and time with a zone.
    Instant,
    /// `08:00:00`.
    Time,
}

/// What the element of this name holds, if it holds a date or time in every resource type that has it. `resource_type`
/// is that of the resource whose own element it is, and empty further inside.
pub(super) fn temporal(resource_type: &str, name: &str) -> Option<Temporal> {
    // A glance that spares nearly all elements the comparisons: all those names end in one of a few letters.
    if !name.ends_with(['e', 't', 'n', 'd', 'r', 'y']) {
        return None;
    }
    match name {
        "birthDate" | "bornDate" | "deceasedDate" | "servicedDate" | "valueDate" | "timingDate" | "startDate"
        | "dueDate" | "approvalDate" | "lastReviewDate" | "paymentDate" | "nextScheduled" => Some(Temporal::Date),
        "valueTime" | "timeOfDay" | "availableStartTime" | "availableEndTime" | "openingTime" | "closingTime"
        | "fixedTime" | "defaultValueTime" => Some(Temporal::Time),
        "authoredOn" | "statusDate" | "recordedDate" | "assertedDate" | "manufactureDate" | "lastOccurrence"
        | "expirationDate" | "publicationDate" => Some(Temporal::DateTime),
        "issued" => Some(issued(resource_type)),
        "start" | "end" if matches!(resource_type, "Appointment" | "AppointmentResponse" | "Slot") => {
            Some(Temporal::Instant)
        }
        "recorded" if matches!(resource_type, "AuditEvent" | "Provenance") => Some(Temporal::Instant),
        "date" if resource_type == "DocumentReference" => Some(Temporal::Instant),
        "date" if is_dated(resource_type) => Some(Temporal::DateTime),
        "lastUpdated" => Some(Temporal::Instant),
        // A choice of types ends in the name of the type.
        _ if name.ends_with("DateTime") => Some(Temporal::DateTime),
        _ if name.ends_with("Instant") => Some(Temporal::Instant),
        _ => None,
    }
}

/// The one element whose type depends on the resource most often met.
fn issued(resource_type: &str) -> Temporal {
    match resource_type {
        "Observation" | "DiagnosticReport" | "Media" => Temporal::Instant,
        _ => Temporal::DateTime,
    }
}

/// Types of the patient compartment whose `date` is a `dateTime`.
fn is_dated(resource_type: &str) -> bool {
    matches!(
        resource_type,
        "AdverseEvent"
            | "ClinicalImpression"
            | "Composition"
            | "FamilyMemberHistory"
            | "List"
            | "ImmunizationEvaluation"
            | "ImmunizationRecommendation"
            | "Invoice"
            | "MeasureReport"
    )
}

/// Checks that a text is what its element holds.
pub(super) fn check_temporal(kind: Temporal, text: &str) -> Result<(), Fault> {
    let precision = || FhirDateTime::parse(text).map(|time| time.precision);
    match kind {
        Temporal::Date if precision().is_some_and(|precision| precision <= Precision::Day) => Ok(()),
        Temporal::DateTime if precision().is_some() => Ok(()),
        Temporal::Instant if precision() == Some(Precision::Instant) => Ok(()),
        Temporal::Time if is_time(text) => Ok(()),
        Temporal::Date => Err(("bad-date", "This is no FHIR date: a year, a month or a day, without a time.")),
        Temporal::DateTime => Err(("bad-date", "This is no FHIR date, dateTime or instant.")),
        Temporal::Instant => Err(("bad-date", "This is no FHIR instant: date, time with seconds, and zone.")),
        Temporal::Time => Err(("bad-time", "This is no FHIR time, such as 08:30:00.")),
    }
}

/// A code, and what it means.
pub(super) type Fault = (&'static str, &'static str);

/// `([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?`
fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let parts: Vec<Option<u8>> = whole.split(':').map(two_digits).collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.as_slice(), [Some(0..=23), Some(0..=59), Some(0..=60)]) && fraction.is_none_or(digits)
}

fn two_digits(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// A period begins no later than it ends; partial dates count as what they can mean.
pub(super) fn check_order(start: Option<&str>, end: Option<&str>) -> Result<(), FormError> {
    let time = |text: Option<&str>| text.and_then(FhirDateTime::parse);
    match (time(start), time(end)) {
        (Some(start), Some(end)) if start.earliest > end.latest() => {
            Err(FormError::new("end-before-start", "/end", "A period can't end before it starts."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_its_own_form() {
        let texts = ["1961", "1961-03", "1961-03-09", "1961-03-09T04:05:06+02:00", "1961-03-09T04:05", "14:15:16"];
        let taken = |kind| texts.map(|text| check_temporal(kind, text).is_ok());
        assert_eq!(taken(Temporal::Date), [true, true, true, false, false, false]);
        assert_eq!(taken(Temporal::DateTime), [true, true, true, true, false, false]);
        assert_eq!(taken(Temporal::Instant), [false, false, false, true, false, false]);
        assert_eq!(taken(Temporal::Time), [false, false, false, false, false, true]);
    }

    #[test]
    fn times_are_those_of_a_day() {
        for good in ["00:00:00", "23:59:60", "09:08:07.65"] {
            assert!(is_time(good), "{good}");
        }
        for bad in ["24:00:00", "9:08:07", "09:60:00", "09:08", "09:08:61", "09:08:07.", "09:08:07Z", "0９:08:07", ""]
        {
            assert!(!is_time(bad), "{bad}");
        }
    }

    #[test]
    fn the_same_name_may_hold_another_kind_elsewhere() {
        assert_eq!(temporal("DiagnosticReport", "issued"), Some(Temporal::Instant));
        assert_eq!(temporal("Contract", "issued"), Some(Temporal::DateTime));
        assert_eq!(temporal("Slot", "start"), Some(Temporal::Instant));
        assert_eq!(temporal("", "start"), None);
        assert_eq!(temporal("", "onsetDateTime"), Some(Temporal::DateTime));
        assert_eq!(temporal("Observation", "status"), None);
    }
}
