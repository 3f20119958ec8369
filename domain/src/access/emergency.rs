//! Who has broken the glass, and until when.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::care::named;
use crate::common::parsed_time;
use crate::fhir::Resource;

/// An emergency access as it decides about access. Only what `EmergencyAccess` events carry may be read as one: a Task that
/// came in otherwise opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// A practitioner of the directory.
    pub practitioner: Option<Uuid>,
    pub from: DateTime<Utc>,
    /// When it ends by itself, or was ended by a review.
    pub until: DateTime<Utc>,
    pub reviewed: bool,
}

impl Emergency {
    /// What the Task says; nothing if it says no time.
    pub fn of(task: &Resource) -> Option<Self> {
        let time = |pointer| parsed_time(task, pointer).map(|time| time.earliest);
        let (from, end) = (time("/restriction/period/start")?, time("/restriction/period/end")?);
        let reviewed = task.text("status") == Some("completed");
        let until = time("/lastModified").filter(|_| reviewed).map_or(end, |at| at.min(end));
        let practitioner = named(task.text_at("/requester/reference"), "Practitioner");
        Some(Self { practitioner, from, until, reviewed })
    }

    /// Whether it opens the record at this moment.
    pub fn counts_at(&self, now: DateTime<Utc>) -> bool {
        self.from <= now && now < self.until
    }
}
