//! From the bytes of a bundle to its entries.

use std::fmt;

use nexus_domain::fhir::{Resource, is_resource_type};
use nexus_web::json::parse;
use nexus_web::problem::Problem;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::conditional::Criterion;
use super::{ENTRIES_MAX, RESOURCE_BYTES_MAX, in_resource};
use crate::call::{Call, derived_id, entity_tag};
use crate::refusal::{Fault, Refusal};

/// What kind of bundle it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Transaction,
    Batch,
}

impl Kind {
    /// The name as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Batch => "batch",
        }
    }
}

/// What an entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Create.
    Post,
    /// Update, or create under the given id.
    Put,
    /// Take back.
    Delete,
}

/// An entry whose form is right.
#[derive(Clone, Debug)]
pub struct Entry {
    pub index: usize,
    pub method: Method,
    pub resource_type: String,
    pub id: Uuid,
    /// Everything but a deletion has one.
    pub resource: Option<Resource>,
    /// How other entries may refer to this one, beside by type and id.
    pub aliases: Vec<String>,
    /// The address that relative references of the resource are relative to, if its full URL tells.
    pub base: Option<String>,
    pub if_none_exist: Option<Criterion>,
    pub if_match: Option<i64>,
}

impl Entry {
    /// Type and id, as a reference has them.
    pub fn name(&self) -> String {
        format!("{}/{}", self.resource_type, self.id)
    }
}

/// An entry, or what is wrong with it.
pub type EntryResult = Result<Entry, Vec<Fault>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BundleJson {
    #[serde(rename = "resourceType")]
    _resource_type: IgnoredAny,
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(default)]
    entry: Entries,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "meta")]
    _meta: Option<IgnoredAny>,
    #[serde(rename = "implicitRules")]
    _implicit_rules: Option<IgnoredAny>,
    #[serde(rename = "language")]
    _language: Option<IgnoredAny>,
    #[serde(rename = "identifier")]
    _identifier: Option<IgnoredAny>,
    #[serde(rename = "timestamp")]
    _timestamp: Option<IgnoredAny>,
    #[serde(rename = "total")]
    _total: Option<IgnoredAny>,
    #[serde(rename = "link")]
    _link: Option<IgnoredAny>,
    #[serde(rename = "signature")]
    _signature: Option<IgnoredAny>,
}

/// The entries, as many as are taken here; further ones are read over and take no memory.
#[derive(Default)]
struct Entries {
    taken: Vec<EntryJson>,
    too_many: bool,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self::default())
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while self.taken.len() < ENTRIES_MAX {
            let Some(entry) = list.next_element()? else { return Ok(self) };
            self.taken.push(entry);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            self.too_many = true;
        }
        Ok(self)
    }
}

/// Only what tells the kind; the rest is read where it keeps nobody waiting.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KindJson {
    resource_type: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EntryJson {
    full_url: Option<String>,
    resource: Option<Box<RawValue>>,
    request: Option<RequestJson>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "link")]
    _link: Option<IgnoredAny>,
    #[serde(rename = "search")]
    _search: Option<IgnoredAny>,
    #[serde(rename = "response")]
    _response: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
    #[serde(rename = "modifierExtension")]
    _modifier_extension: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RequestJson {
    method: String,
    url: String,
    if_none_exist: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
}

/// Whether it is a bundle that is taken here, and which.
pub fn kind(json: &[u8]) -> Result<Kind, Refusal> {
    let bundle: KindJson = parse(json)?;
    let refuse = |pointer, rule, detail| Err(Refusal::Faults(vec![Fault::invalid(pointer, rule, detail)]));
    match (bundle.resource_type.as_str(), bundle.kind.as_str()) {
        ("Bundle", "transaction") => Ok(Kind::Transaction),
        ("Bundle", "batch") => Ok(Kind::Batch),
        ("Bundle", _) => refuse("/type", "unknown-code", "Bundles of type transaction and batch are taken here."),
        _ => refuse("/resourceType", "wrong-resource-type", "A Bundle is expected here."),
    }
}

/// The entries, in order.
pub fn entries(call: &Call, json: &[u8]) -> Result<Vec<EntryResult>, Refusal> {
    let bundle: BundleJson = parse(json)?;
    if bundle.entry.too_many {
        return Err(Problem::batch_too_large(ENTRIES_MAX).into());
    }
    Ok(bundle.entry.taken.into_iter().enumerate().map(|(index, entry)| read_entry(call, index, entry)).collect())
}

fn read_entry(call: &Call, index: usize, json: EntryJson) -> EntryResult {
    let in_request = |rest: &str| format!("/entry/{index}/request{rest}");
    let refuse = |pointer, rule, detail| Err(vec![Fault::invalid(pointer, rule, detail)]);
    let Some(request) = json.request else {
        return refuse(in_request(""), "required-element-missing", "A required element is missing.");
    };
    if request.if_none_match.is_some() || request.if_modified_since.is_some() {
        return refuse(in_request(""), "unsupported-request", "ifNoneMatch and ifModifiedSince are not supported.");
    }
    let method = match request.method.as_str() {
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "GET" | "HEAD" | "PATCH" => {
            return refuse(in_request("/method"), "unsupported-request", "POST, PUT and DELETE are supported here.");
        }
        _ => return refuse(in_request("/method"), "unknown-code", "The code is not one of those allowed here."),
    };
    let Some((resource_type, url_id)) = read_url(method, &request.url) else {
        return refuse(in_request("/url"), "unsupported-request", "The url names a type (POST) or a type and an id.");
    };
    let if_none_exist = match request.if_none_exist.filter(|_| method == Method::Post) {
        None => None,
        Some(query) => match Criterion::parse(resource_type, &query) {
            Some(criterion) => Some(criterion),
            None => return refuse(in_request("/ifNoneExist"), "unsupported-request", UNSUPPORTED_CONDITION),
        },
    };
    let if_match = match request.if_match.as_deref() {
        None => None,
        Some(tag) => match entity_tag(tag) {
            Some(sequence) => Some(sequence),
            None => return refuse(in_request("/ifMatch"), "bad-entity-tag", "An entity tag reads W/\"3\"."),
        },
    };
    let resource = read_resource(index, method, resource_type, json.resource.as_deref())?;
    let own_id = resource.as_ref().and_then(|resource| resource.text("id"));
    if url_id.is_some() && own_id.is_some_and(|id| Some(id) != url_id) {
        return refuse(format!("{}/id", in_resource(index)), "wrong-id", "The request's url names another id.");
    }
    let full_url = json.full_url.as_deref();
    let (id, aliases) = identify(call, index, resource_type, url_id, full_url, resource.as_ref());
    let base = full_url.and_then(|url| base_of(url, resource_type, url_id.or(own_id)));
    let mut entry = Entry {
        index,
        method,
        resource_type: resource_type.to_owned(),
        id,
        resource,
        aliases,
        base,
        if_none_exist,
        if_match,
    };
    if let Some(resource) = &mut entry.resource {
        resource.set_id(id);
    }
    Ok(entry)
}

const UNSUPPORTED_CONDITION: &str =
    "ifNoneExist reads identifier=system|value, for a directory type or a patient's medical record number.";

/// `Patient` for POST, `Patient/<id>` for the others.
fn read_url(method: Method, url: &str) -> Option<(&str, Option<&str>)> {
    let (resource_type, id) = match url.split_once('/') {
        None => (url, None),
        Some((resource_type, id)) => (resource_type, Some(id)),
    };
    let fits = (method == Method::Post) == id.is_none();
    let plain = id.is_none_or(|id| !id.is_empty() && !id.contains(['/', '?']));
    (fits && plain && is_resource_type(resource_type)).then_some((resource_type, id))
}

fn read_resource(
    index: usize,
    method: Method,
    resource_type: &str,
    json: Option<&RawValue>,
) -> Result<Option<Resource>, Vec<Fault>> {
    let place = in_resource(index);
    let refuse = |pointer, rule, detail| Err(vec![Fault::invalid(pointer, rule, detail)]);
    let json = match (method, json) {
        (Method::Delete, None) => return Ok(None),
        (Method::Delete, Some(_)) => return refuse(place, "unexpected-element", "A deletion has no resource."),
        (_, None) => return refuse(place, "required-element-missing", "A required element is missing."),
        (_, Some(json)) => json,
    };
    if json.get().len() > RESOURCE_BYTES_MAX {
        return refuse(place, "resource-too-large", "A resource has at most 1 MiB.");
    }
    let Ok(value) = serde_json::from_str::<Value>(json.get()) else {
        return refuse(place, "wrong-type", "The element has the wrong JSON type.");
    };
    let resource = Resource::parse(value).map_err(|error| vec![Fault::of(&error).under(&place)])?;
    if resource.resource_type() != resource_type {
        let pointer = format!("{place}/resourceType");
        return refuse(pointer, "wrong-resource-type", "The request's url names another resource type.");
    }
    Ok(Some(resource))
}

/// The id that an entry will have, and the other names that references may use for it. UUIDs are kept; any other id
/// becomes a UUID that is always the same one.
fn identify(
    call: &Call,
    index: usize,
    resource_type: &str,
    url_id: Option<&str>,
    full_url: Option<&str>,
    resource: Option<&Resource>,
) -> (Uuid, Vec<String>) {
    let given = url_id.or_else(|| resource.and_then(|resource| resource.text("id")));
    let of_urn = full_url.and_then(|url| url.strip_prefix("urn:uuid:")).and_then(|id| Uuid::parse_str(id).ok());
    let id = given.and_then(|id| Uuid::parse_str(id).ok()).or(of_urn).unwrap_or_else(|| {
        let absolute = full_url.filter(|url| url.starts_with("http"));
        match (absolute, given) {
            (Some(url), _) => derived_id(&["fhir", url]),
            (None, Some(id)) => foreign_id(None, resource_type, id),
            (None, None) => call.new_id_of(&index.to_string()),
        }
    });
    let mut aliases: Vec<String> = full_url.map(str::to_owned).into_iter().collect();
    aliases.extend(given.filter(|given| *given != id.to_string()).map(|given| format!("{resource_type}/{given}")));
    (id, aliases)
}

/// `http://x/fhir` of `http://x/fhir/Patient/1`.
fn base_of(full_url: &str, resource_type: &str, id: Option<&str>) -> Option<String> {
    let base = full_url.strip_suffix(id?)?.strip_suffix('/')?.strip_suffix(resource_type)?.strip_suffix('/')?;
    base.starts_with("http").then(|| base.to_owned())
}

/// The id that a resource has here whose id elsewhere is no UUID: the same for its entry and for references to it.
pub fn foreign_id(base: Option<&str>, resource_type: &str, id: &str) -> Uuid {
    match base {
        Some(base) => derived_id(&["fhir", &format!("{base}/{resource_type}/{id}")]),
        None => derived_id(&["fhir", resource_type, id]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of the largest size has room for 22 million empty entries.
    #[test]
    fn entries_beyond_the_limit_take_no_memory() {
        let text =
            format!(r#"{{"resourceType": "Bundle", "type": "batch", "entry": [{}{{}}]}}"#, "{},".repeat(1_000_000));
        let bundle: BundleJson = parse(text.as_bytes()).unwrap();
        assert!(bundle.entry.too_many);
        assert_eq!(bundle.entry.taken.len(), ENTRIES_MAX);
    }

    #[test]
    fn the_base_of_a_full_url_is_what_comes_before_type_and_id() {
        assert_eq!(base_of("http://x/fhir/Patient/1", "Patient", Some("1")).as_deref(), Some("http://x/fhir"));
        for (url, id) in [("http://x/fhir/Patient/1", None), ("urn:uuid:1", Some("1")), ("http://x/Basic/1", Some("1"))]
        {
            assert_eq!(base_of(url, "Patient", id), None);
        }
    }
}
