//! What is stored: one event holds all openings and completions that a process gathered while the last one was on its way.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use nexus_auth::policy::Decision;
use nexus_web::access::{self, Completion, Opening};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The aggregate type of every event of this log. Each batch is a stream of its own, with one event.
pub const AGGREGATE_TYPE: &str = "AccessBatch";
/// The type of every event of this log.
pub const EVENT_TYPE: &str = "AccessBatch.Recorded";
/// The version that is written now. Earlier ones stay readable: see the fixtures.
pub const EVENT_VERSION: &str = "1.0";

/// The payload of an [`EVENT_TYPE`]. An access may be opened in one batch and completed in another, in any partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<Opened>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub completed: Vec<Completed>,
}

/// Somebody is about to be given access.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Opened {
    /// The id of the access and of its request.
    pub id: Uuid,
    /// The clock of the process that answers.
    pub at: DateTime<Utc>,
    /// Who, as the issuer names them.
    pub actor: String,
    pub roles: Vec<String>,
    /// The program that they use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// From where: the other end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    pub method: String,
    /// The pattern of the route.
    pub route: String,
    /// The id that the path names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Uuid>,
    /// What for: a code of HL7's PurposeOfUse.
    pub purpose: String,
}

/// How an access ended, and what it was to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Completed {
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub outcome: Outcome,
    /// The HTTP status; none if no answer was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was asked of the policy, and what it said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decided>,
    /// Whose data was opened; at most [`access::PATIENTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<Uuid>,
    /// How many patients there were in all.
    #[serde(default)]
    pub patients_total: usize,
    #[serde(default)]
    pub break_glass: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<String>,
    /// The names of the query parameters that were used, never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
}

/// One decision of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decided {
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Uuid>,
    pub decision: String,
}

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Success,
    Refused,
    Failed,
    Interrupted,
}

impl Outcome {
    /// Its name, as it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Opened {
    pub(crate) fn of(opening: Opening) -> Self {
        Self {
            id: opening.id,
            at: now(),
            actor: opening.caller.id().to_owned(),
            roles: opening.caller.role_names(),
            client: opening.caller.client_id().map(str::to_owned),
            address: opening.address,
            method: opening.method.to_owned(),
            route: opening.route,
            target: opening.target,
            purpose: opening.purpose.to_owned(),
        }
    }
}

impl Completed {
    pub(crate) fn of(id: Uuid, completion: Completion) -> Self {
        let noted = completion.noted;
        Self {
            id,
            at: now(),
            outcome: match completion.outcome {
                access::Outcome::Success => Outcome::Success,
                access::Outcome::Refused => Outcome::Refused,
                access::Outcome::Failed => Outcome::Failed,
                access::Outcome::Interrupted => Outcome::Interrupted,
            },
            status: completion.status,
            decisions: noted.decisions.into_iter().map(Decided::of).collect(),
            patients: noted.patients.into_iter().collect(),
            patients_total: noted.patients_total,
            break_glass: noted.break_glass,
            target_type: completion.target_type,
            parameters: completion.parameters,
        }
    }
}

impl Decided {
    fn of((action, subject, decision): (nexus_auth::policy::Action, Option<Uuid>, Decision)) -> Self {
        let decision = match decision {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
            Decision::Hide => "hide",
            Decision::Unrelated => "unrelated",
        };
        // The name of the variant; a test pins those that are stored.
        Self { action: format!("{action:?}"), subject, decision: decision.to_owned() }
    }
}

/// The clock, cut to what Postgres keeps.
fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

#[cfg(test)]
mod tests;
