//! When something happened, as opposed to when it was recorded.

use super::{FhirDateTime, Resource};

/// Where the clinical time of a resource stands, most telling first; the first that is there and well formed counts.
const CLINICAL_TIME: &[&str] = &[
    "/effectiveDateTime",
    "/effectiveInstant",
    "/effectivePeriod/start",
    "/performedDateTime",
    "/performedPeriod/start",
    "/occurrenceDateTime",
    "/occurrencePeriod/start",
    "/onsetDateTime",
    "/onsetPeriod/start",
    "/period/start",
    "/start",
    "/started",
    "/authoredOn",
    "/billablePeriod/start",
    "/servicedDate",
    "/servicedPeriod/start",
    "/context/period/start",
    "/collection/collectedDateTime",
    "/receivedTime",
    "/whenHandedOver",
    "/whenPrepared",
    "/occurredDateTime",
    "/occurredPeriod/start",
    "/recordedDate",
    "/recorded",
    "/dateTime",
    "/date",
    "/created",
    "/issued",
    "/manufactureDate",
    "/sent",
    "/assertedDate",
];

/// The clinical time of a resource, if it has one.
pub fn clinical_time(resource: &Resource) -> Option<FhirDateTime> {
    CLINICAL_TIME.iter().filter_map(|pointer| resource.text_at(pointer)).find_map(FhirDateTime::parse)
}
