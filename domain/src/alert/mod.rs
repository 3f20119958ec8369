//! An alert about a stay in hospital: somebody has to look after the patient, and how urgently. One for each stay, raised
//! and cleared as often as it takes.
//!
//! As a resource it is a FHIR R4 Flag (<https://hl7.org/fhir/R4/flag.html>): it has a status, a period, the patient and the
//! encounter, and is meant to be seen. (A DetectedIssue is about a record that contradicts itself, a RiskAssessment about
//! what may come.) Its code is a [`Risk`] of the early warning score. Who measures, and when to speak of a risk, is decided
//! elsewhere; here it is decided what that means for what stands.

mod command;
mod decide;
mod error;
mod event;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::AlertCommand;
pub use error::Error;
pub use event::AlertEvent;
pub use state::Alert;

use crate::early_warning::{Parameter, Risk};
use crate::fhir::{Resource, codings};

/// The system of the codes that say how urgent an alert is.
pub const RISK_SYSTEM: &str = "urn:nexushealth:early-warning-risk";
/// The system of the codes that tell the score behind it: `0` to `20`.
pub const SCORE_SYSTEM: &str = "urn:nexushealth:news2-score";

/// The system of the codes that tell what the score leaves out, so that it is the least that it can be: a [`Parameter`] each.
pub const UNDECIDED_SYSTEM: &str = "urn:nexushealth:news2-undecided";

/// How urgent the alert is that a Flag stands for; nothing if it is over, or of no risk that calls for anybody.
pub fn risk_of(flag: &Resource) -> Option<Risk> {
    if flag.text("status") != Some("active") {
        return None;
    }
    let codes = codings(flag.get("code"));
    let ours = codes.iter().find(|coding| coding.system == RISK_SYSTEM)?;
    Risk::parse(&ours.code).filter(|risk| *risk > Risk::Low)
}

/// The score that a Flag tells.
pub fn score_of(flag: &Resource) -> Option<u8> {
    let codes = codings(flag.get("code"));
    codes.iter().find(|coding| coding.system == SCORE_SYSTEM)?.code.parse().ok()
}

/// The parameters that the score of a Flag leaves out.
pub fn undecided_of(flag: &Resource) -> Vec<Parameter> {
    let codes = codings(flag.get("code"));
    let ours = codes.iter().filter(|coding| coding.system == UNDECIDED_SYSTEM);
    ours.filter_map(|coding| Parameter::parse(&coding.code)).collect()
}
