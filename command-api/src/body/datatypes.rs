//! Data types shared by bodies, each with its FHIR form.

use chrono::{DateTime, SecondsFormat, Utc};
use nexus_domain::fhir::{FhirDateTime, Precision};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// The code system of UCUM units.
const UCUM: &str = "http://unitsofmeasure.org";
/// The code system of identifier types.
const IDENTIFIER_TYPES: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";

/// A code within a code system.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}))]
pub struct Coding {
    /// URI of the code system.
    pub system: String,
    pub code: String,
    /// What a person reads.
    pub display: Option<String>,
}

/// A concept: a code, a text, or both.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}))]
pub struct Concept {
    /// URI of the code system.
    pub system: Option<String>,
    pub code: Option<String>,
    /// What a person reads.
    pub display: Option<String>,
    /// The concept in the words of whoever states it.
    pub text: Option<String>,
}

/// A measured value with its unit. The value keeps its digits: `1.10` stays `1.10`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"value": 72, "unit": "beats/minute", "code": "/min"}))]
pub struct Quantity {
    #[schema(value_type = f64)]
    pub value: Number,
    /// `<`, `<=`, `>=` or `>`, if the true value is not the number but lies to it like this.
    pub comparator: Option<String>,
    /// What a person reads.
    pub unit: Option<String>,
    /// URI of the unit's code system; UCUM if left out.
    pub system: Option<String>,
    /// The coded unit, such as `/min`.
    pub code: Option<String>,
}

/// What an identifier is for. `MR`, a medical record number, can belong to one patient only.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum IdentifierType {
    /// Medical record number.
    #[serde(rename = "MR")]
    MedicalRecordNumber,
    /// Social security number.
    #[serde(rename = "SS")]
    SocialSecurity,
    /// Driver's licence number.
    #[serde(rename = "DL")]
    DriversLicense,
    /// Passport number.
    #[serde(rename = "PPN")]
    Passport,
    /// National person identifier.
    #[serde(rename = "NI")]
    National,
}

/// An identifier of a patient.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"type": "MR", "system": "urn:oid:2.16.840.1.113883.19.5", "value": "12345"}))]
pub struct Identifier {
    #[serde(rename = "type")]
    pub kind: Option<IdentifierType>,
    /// URI of whoever gives these out.
    pub system: String,
    pub value: String,
}

/// A name of a person.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"family": "Example", "given": ["Ada"]}))]
pub struct HumanName {
    /// FHIR `NameUse`, such as `official`.
    #[serde(rename = "use")]
    pub usage: Option<String>,
    pub family: Option<String>,
    #[serde(default)]
    pub given: Vec<String>,
    #[serde(default)]
    pub prefix: Vec<String>,
    #[serde(default)]
    pub suffix: Vec<String>,
    pub text: Option<String>,
}

/// A postal address.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Address {
    #[serde(rename = "use")]
    pub usage: Option<String>,
    #[serde(default)]
    pub line: Vec<String>,
    pub city: Option<String>,
    pub district: Option<String>,
    pub state: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
}

/// A way to reach somebody.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"system": "phone", "value": "+1-555-0100", "use": "home"}))]
pub struct Telecom {
    /// FHIR `ContactPointSystem`, such as `phone`.
    pub system: String,
    pub value: String,
    #[serde(rename = "use")]
    pub usage: Option<String>,
}

/// Why something is done, in words.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"reason": "No longer needed"}))]
pub struct Reason {
    pub reason: String,
}

/// Why something is done, if the caller says so.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"reason": "No longer needed"}))]
pub struct OptionalReason {
    pub reason: Option<String>,
}

/// A date and time with a zone, as FHIR `instant` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00Z")]
pub struct Moment(pub DateTime<Utc>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = FhirDateTime::parse(&text).filter(|time| time.precision == Precision::Instant);
        let expected = &"a date and time with a zone, such as 2026-11-24T08:00:00Z";
        time.map(|time| Self(time.earliest)).ok_or_else(|| Error::invalid_value(Unexpected::Other("text"), expected))
    }
}

/// The moment given, or now.
pub fn at_or_now(moment: Option<Moment>) -> DateTime<Utc> {
    moment.map_or_else(Utc::now, |Moment(time)| time)
}

/// A moment as FHIR writes it.
pub fn time(time: DateTime<Utc>) -> Value {
    Value::String(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// A concept of one code.
pub fn coded(system: &str, code: &str) -> Value {
    json!({"coding": [{"system": system, "code": code}]})
}

/// A reference to a resource of ours.
pub fn reference(resource_type: &str, id: Uuid) -> Value {
    json!({"reference": format!("{resource_type}/{id}")})
}

impl Coding {
    pub fn to_fhir(&self) -> Value {
        object([
            ("system", text(Some(&self.system))),
            ("code", text(Some(&self.code))),
            ("display", text(self.display.as_ref())),
        ])
    }

    /// The coding as rules take it.
    pub fn into_domain(self) -> nexus_domain::fhir::Coding {
        nexus_domain::fhir::Coding { system: self.system, code: self.code, display: self.display }
    }
}

impl Concept {
    /// As a FHIR `CodeableConcept`.
    pub fn to_fhir(&self) -> Value {
        let coding = object([
            ("system", text(self.system.as_ref())),
            ("code", text(self.code.as_ref())),
            ("display", text(self.display.as_ref())),
        ]);
        let coded = self.system.is_some() || self.code.is_some() || self.display.is_some();
        object([("coding", coded.then(|| json!([coding]))), ("text", text(self.text.as_ref()))])
    }
}

impl Quantity {
    pub fn to_fhir(&self) -> Value {
        let system = self.code.as_ref().map(|_| json!(self.system.as_deref().unwrap_or(UCUM)));
        object([
            ("value", Some(Value::Number(self.value.clone()))),
            ("comparator", text(self.comparator.as_ref())),
            ("unit", text(self.unit.as_ref())),
            ("system", system.or_else(|| text(self.system.as_ref()))),
            ("code", text(self.code.as_ref())),
        ])
    }
}

impl IdentifierType {
    fn code(self) -> &'static str {
        match self {
            Self::MedicalRecordNumber => "MR",
            Self::SocialSecurity => "SS",
            Self::DriversLicense => "DL",
            Self::Passport => "PPN",
            Self::National => "NI",
        }
    }
}

impl Identifier {
    pub fn to_fhir(&self) -> Value {
        let kind = self.kind.map(|kind| json!({"coding": [{"system": IDENTIFIER_TYPES, "code": kind.code()}]}));
        object([("type", kind), ("system", text(Some(&self.system))), ("value", text(Some(&self.value)))])
    }
}

impl HumanName {
    pub fn to_fhir(&self) -> Value {
        object([
            ("use", text(self.usage.as_ref())),
            ("text", text(self.text.as_ref())),
            ("family", text(self.family.as_ref())),
            ("given", texts(&self.given)),
            ("prefix", texts(&self.prefix)),
            ("suffix", texts(&self.suffix)),
        ])
    }
}

impl Address {
    pub fn to_fhir(&self) -> Value {
        object([
            ("use", text(self.usage.as_ref())),
            ("line", texts(&self.line)),
            ("city", text(self.city.as_ref())),
            ("district", text(self.district.as_ref())),
            ("state", text(self.state.as_ref())),
            ("postalCode", text(self.postal_code.as_ref())),
            ("country", text(self.country.as_ref())),
        ])
    }
}

impl Telecom {
    pub fn to_fhir(&self) -> Value {
        object([
            ("system", text(Some(&self.system))),
            ("value", text(Some(&self.value))),
            ("use", text(self.usage.as_ref())),
        ])
    }
}

/// A JSON object of those members that are there: FHIR has neither null nor empty arrays.
pub fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect())
}

/// A string element.
pub fn text(text: Option<&String>) -> Option<Value> {
    text.map(|text| Value::String(text.clone()))
}

/// An array element, left out if there is nothing to put into it.
pub fn list(items: impl Iterator<Item = Value>) -> Option<Value> {
    let items: Vec<Value> = items.collect();
    (!items.is_empty()).then_some(Value::Array(items))
}

fn texts(texts: &[String]) -> Option<Value> {
    list(texts.iter().map(|text| Value::String(text.clone())))
}
