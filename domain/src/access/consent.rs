//! What a FHIR R4 Consent permits and denies (<https://hl7.org/fhir/R4/consent.html>).
//!
//! A provision says something only about what all of its criteria fit. Nested provisions are exceptions to the one around
//! them; of several at the same depth a denial wins. A criterion that we can't judge makes a denial wider and a permit
//! void, so that what we don't understand never opens anything.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::care::named;
use super::codes::UNKNOWN;
use super::sensitivity::may_bear;
use crate::fhir::modifiers::is_understood;
use crate::fhir::{FhirDateTime, Resource, codings};

/// Provisions nest no deeper than this; what lies below is a criterion that we can't judge.
const DEPTH_MAX: usize = 8;

/// An active consent, reduced to what decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentRule {
    /// The organization that keeps the consent: a denial that names nobody does not mean it.
    author: Option<Uuid>,
    /// It is about research, and says nothing about care.
    research: bool,
    provision: Provision,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Provision {
    denies: bool,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    /// Whom it names, if anybody: practitioners and organizations of the directory. Others are named and never match.
    actors: Option<Vec<Uuid>>,
    purposes: Vec<String>,
    classes: Vec<String>,
    codes: Vec<String>,
    labels: Vec<String>,
    /// It has criteria that we can't judge.
    vague: bool,
    nested: Vec<Provision>,
}

/// Who asks for what. Nothing stands where the question is about a whole record.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub practitioner: Option<Uuid>,
    pub organization: Option<Uuid>,
    /// A code of v3-PurposeOfUse.
    pub purpose: &'a str,
    pub resource_type: Option<&'a str>,
    /// See [`super::codes()`].
    pub codes: &'a [String],
    /// See [`super::sensitivity()`].
    pub sensitivity: i16,
    pub now: DateTime<Utc>,
}

/// What consents say about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ruling {
    /// Whoever asks is let in by name.
    Permit,
    Deny,
}

impl ConsentRule {
    /// What a consent says; nothing unless it is active.
    pub fn of(resource: &Resource) -> Option<Self> {
        if resource.resource_type() != "Consent" || resource.text("status") != Some("active") {
            return None;
        }
        let provision = resource.get("provision")?;
        let author = resource.items("organization").first().and_then(|it| it.get("reference")).and_then(Value::as_str);
        let research = codings(resource.get("scope")).iter().any(|scope| scope.code == "research");
        let mut provision = Provision::read(provision, None, 0)?;
        if !is_understood(resource) {
            provision.make_vague();
        }
        Some(Self { author: named(author, "Organization"), research, provision })
    }

    /// Whether the patient does not want to be counted in research. As long as the consent is active, whatever its period:
    /// who counts keeps no dates.
    pub fn excludes_from_research(&self) -> bool {
        self.research && self.provision.denies
    }
}

/// What the consents in force say: of several a denial wins. A permit that names nobody changes nothing.
pub fn ruling(rules: &[ConsentRule], asked: &Asked<'_>) -> Option<Ruling> {
    let of_care = rules.iter().filter(|rule| !rule.research);
    of_care.filter_map(|rule| rule.provision.ruling(asked, rule.author, false)).flatten().max()
}

impl Provision {
    /// A nested provision that does not say its type is the opposite of the one around it.
    fn read(json: &Value, around: Option<bool>, depth: usize) -> Option<Self> {
        let denies = match json.get("type").and_then(Value::as_str) {
            Some("deny") => true,
            Some("permit") => false,
            _ => !around.unwrap_or(true),
        };
        let items = |name: &str| json.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let nested = items("provision").iter().filter(|_| depth < DEPTH_MAX);
        let time = |pointer: &str| json.pointer(pointer).map(|text| text.as_str().and_then(FhirDateTime::parse));
        let (from, until) = (time("/period/start"), time("/period/end"));
        let strange = ["action", "data", "dataPeriod"].iter().any(|name| json.get(name).is_some());
        Some(Self {
            denies,
            from: from.flatten().map(|from| from.earliest),
            until: until.flatten().map(|until| until.latest()),
            actors: json.get("actor").map(|_| items("actor").iter().filter_map(actor).collect()),
            purposes: codes(items("purpose")),
            classes: codes(items("class")).iter().map(|class| class_name(class)).collect(),
            codes: items("code").iter().flat_map(|concept| codings(Some(concept))).map(|coding| coding.code).collect(),
            labels: codes(items("securityLabel")),
            vague: strange || from == Some(None) || until == Some(None) || depth >= DEPTH_MAX,
            nested: nested.filter_map(|inner| Self::read(inner, Some(denies), depth + 1)).collect(),
        })
    }

    /// Something in the consent changes its meaning that nobody here knows.
    fn make_vague(&mut self) {
        self.vague = true;
        self.nested.iter_mut().for_each(Self::make_vague);
    }

    /// Nothing if it says nothing about this; else what it says, which may be that nothing changes.
    fn ruling(&self, asked: &Asked<'_>, author: Option<Uuid>, named_before: bool) -> Option<Option<Ruling>> {
        if !self.fits(asked, author, named_before) {
            return None;
        }
        let named = named_before || self.actors.is_some();
        let own = match (self.denies, named) {
            (true, _) => Some(Ruling::Deny),
            (false, true) => Some(Ruling::Permit),
            (false, false) => None,
        };
        // A denial wins among exceptions; if they say anything at all, they replace what stands around them.
        let exceptions = self.nested.iter().filter_map(|inner| inner.ruling(asked, author, named));
        Some(exceptions.max().unwrap_or(own))
    }

    fn fits(&self, asked: &Asked<'_>, author: Option<Uuid>, named_before: bool) -> bool {
        if self.vague && !self.denies {
            return false;
        }
        let is_named = |id: Option<Uuid>| id.is_some_and(|id| self.actors.as_deref().unwrap_or_default().contains(&id));
        let whom = match &self.actors {
            Some(_) => is_named(asked.practitioner) || is_named(asked.organization),
            None => named_before || !(self.denies && author.is_some() && author == asked.organization),
        };
        let any = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|it| it == found))
        };
        let unknown = self.denies && asked.codes.iter().any(|code| code == UNKNOWN);
        let coded = self.codes.is_empty() || unknown || self.codes.iter().any(|code| asked.codes.contains(code));
        // What is asked about a whole record is not about one label.
        let labelled = self.labels.is_empty()
            || (asked.resource_type.is_some() && self.labels.iter().any(|code| may_bear(asked.sensitivity, code)));
        whom && self.is_in_force(asked.now)
            && any(&self.purposes, Some(asked.purpose))
            && any(&self.classes, asked.resource_type)
            && coded
            && labelled
    }

    fn is_in_force(&self, now: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now <= until)
    }
}

/// Practitioners and organizations of the directory.
fn actor(actor: &Value) -> Option<Uuid> {
    let reference = actor.pointer("/reference/reference").and_then(Value::as_str);
    named(reference, "Practitioner").or_else(|| named(reference, "Organization"))
}

fn codes(codings: &[Value]) -> Vec<String> {
    codings.iter().filter_map(|coding| Some(coding.get("code")?.as_str()?.to_owned())).collect()
}

/// A class is the name of a resource type, or the URL of its definition.
fn class_name(class: &str) -> String {
    class.rsplit('/').next().unwrap_or(class).to_owned()
}
