//! From the bytes of a bundle to its entries.

use std::fmt;

use nexus_domain::StatedVersion;
use nexus_domain::fhir::{Resource, derived_id, id_of, is_resource_type};
use nexus_web::json::parse;
use nexus_web::problem::Problem;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::conditional::Criterion;
use super::names::normal;
use super::own::OwnBases;
use super::{ENTRIES_MAX, RESOURCE_BYTES_MAX, in_resource};
use crate::call::{Call, entity_tag};
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
    /// What the sender says of its version.
    pub stated: StatedVersion,
    /// How other entries may refer to this one, beside by type and id: where it is elsewhere,
    pub full_url: Option<String>,
    /// and type and id as they came, if that id is no UUID.
    pub given: Option<String>,
    /// The address that relative references of the resource are relative to, if its full URL tells.
    pub base: Option<String>,
    pub if_none_exist: Option<Criterion>,
    /// Whom an update or a deletion is about that names nobody by id.
    pub condition: Option<Criterion>,
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
pub fn entries(call: &Call, own: &OwnBases, json: &[u8]) -> Result<Vec<EntryResult>, Refusal> {
    let bundle: BundleJson = parse(json)?;
    if bundle.entry.too_many {
        return Err(Problem::batch_too_large(ENTRIES_MAX).into());
    }
    Ok(bundle.entry.taken.into_iter().enumerate().map(|(index, entry)| read_entry(call, own, index, entry)).collect())
}

fn read_entry(call: &Call, own: &OwnBases, index: usize, json: EntryJson) -> EntryResult {
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
    let Some((resource_type, aim)) = read_url(method, &request.url) else {
        return refuse(in_request("/url"), "unsupported-request", UNSUPPORTED_URL);
    };
    let if_none_exist = match request.if_none_exist.filter(|_| method == Method::Post) {
        None => None,
        Some(query) => match Criterion::parse(resource_type, &query) {
            Some(criterion) => Some(criterion),
            None => return refuse(in_request("/ifNoneExist"), "unsupported-request", UNSUPPORTED_CONDITION),
        },
    };
    let condition = match aim {
        Aim::Bearer(query) => match Criterion::parse(resource_type, query) {
            Some(criterion) => Some(criterion),
            None => return refuse(in_request("/url"), "unsupported-request", UNSUPPORTED_CONDITION),
        },
        Aim::New | Aim::Id(_) => None,
    };
    let if_match = match request.if_match.as_deref() {
        None => None,
        Some(tag) => match entity_tag(tag) {
            Some(sequence) => Some(sequence),
            None => return refuse(in_request("/ifMatch"), "bad-entity-tag", "An entity tag reads W/\"3\"."),
        },
    };
    let (resource, stated) = read_resource(index, method, resource_type, json.resource.as_deref())?.unzip();
    let stated = stated.unwrap_or_default();
    let own_id = resource.as_ref().and_then(|resource| resource.text("id"));
    let url_id = if let Aim::Id(id) = aim { Some(id) } else { None };
    let same = |one: &str, other: &str| id_of(resource_type, one) == id_of(resource_type, other);
    if let (Some(url), Some(own)) = (url_id, own_id)
        && !same(url, own)
    {
        return refuse(format!("{}/id", in_resource(index)), "wrong-id", "The request's url names another id.");
    }
    let full_url = json.full_url.as_deref().map(|url| own.strip(url).unwrap_or(url));
    let Identity { id, given, base } = identify(call, index, resource_type, url_id, own_id, full_url);
    let full_url = full_url.map(|url| normal(url).into_owned());
    let resource_type = resource_type.to_owned();
    let mut entry = Entry {
        index,
        method,
        resource_type,
        id,
        resource,
        stated,
        full_url,
        given,
        base,
        if_none_exist,
        condition,
        if_match,
    };
    if let Some(resource) = &mut entry.resource {
        resource.set_id(id);
    }
    Ok(entry)
}

const UNSUPPORTED_URL: &str =
    "The url names a type (POST), or a type and an id or an identifier (PUT, DELETE), relative to this server.";
const UNSUPPORTED_CONDITION: &str =
    "A condition reads identifier=system|value, for a directory type or a patient's medical record number.";

/// What the url of a request is about.
#[derive(Clone, Copy)]
enum Aim<'a> {
    New,
    Id(&'a str),
    /// Whoever bears the identifier of this query.
    Bearer(&'a str),
}

/// `Patient` for POST, `Patient/<id>` or `Patient?identifier=…` for the others. A slash before it changes nothing: there is
/// no other place that it could be relative to.
fn read_url(method: Method, url: &str) -> Option<(&str, Aim<'_>)> {
    let url = url.strip_prefix('/').unwrap_or(url);
    let end = url.find(['/', '?']).unwrap_or(url.len());
    let (resource_type, rest) = url.split_at(end);
    let aim = match rest.split_at_checked(1) {
        None => Aim::New,
        Some(("/", id)) => id_of(resource_type, id).map(|_| Aim::Id(id))?,
        Some((_, query)) => Aim::Bearer(query),
    };
    let fits = (method == Method::Post) == matches!(aim, Aim::New);
    (fits && is_resource_type(resource_type)).then_some((resource_type, aim))
}

fn read_resource(
    index: usize,
    method: Method,
    resource_type: &str,
    json: Option<&RawValue>,
) -> Result<Option<(Resource, StatedVersion)>, Vec<Fault>> {
    let place = in_resource(index);
    let refuse = |pointer, rule, detail| Err(vec![Fault::invalid(pointer, rule, detail)]);
    let json = match (method, json) {
        (Method::Delete, None) => return Ok(None),
        (Method::Delete, Some(_)) => return refuse(place, "unexpected-element", "A deletion has no resource."),
        (_, None) => return refuse(place, "required-element-missing", "A required element is missing."),
        (_, Some(json)) => json,
    };
    if json.get().len() > RESOURCE_BYTES_MAX {
        return refuse(place, "resource-too-large", "A resource has at most 2 MiB: this one is too large.");
    }
    let Ok(value) = serde_json::from_str::<Value>(json.get()) else {
        return refuse(place, "wrong-type", "The element has the wrong JSON type.");
    };
    let stated = StatedVersion::of(&value);
    let resource = Resource::parse(value).map_err(|error| vec![Fault::of(&error).under(&place)])?;
    if resource.resource_type() != resource_type {
        let pointer = format!("{place}/resourceType");
        return refuse(pointer, "wrong-resource-type", "The request's url names another resource type.");
    }
    Ok(Some((resource, stated)))
}

/// The id that an entry will have, and what tells how others may refer to it.
struct Identity {
    id: Uuid,
    given: Option<String>,
    base: Option<String>,
}

/// UUIDs are kept; any other id becomes a UUID that is always the same one. Whoever updates or deletes says by which id it
/// is known *here*. An id that something is created with is its source's: the full URL tells whose.
fn identify(
    call: &Call,
    index: usize,
    resource_type: &str,
    url_id: Option<&str>,
    own_id: Option<&str>,
    full_url: Option<&str>,
) -> Identity {
    let of_full_url = full_url.and_then(|url| url.strip_prefix(resource_type)?.strip_prefix('/'));
    let given = url_id.or(own_id).or(of_full_url);
    let known = given.and_then(|id| if url_id.is_some() { id_of(resource_type, id) } else { Uuid::parse_str(id).ok() });
    let of_urn = || full_url.and_then(|url| Uuid::parse_str(normal(url).strip_prefix("urn:uuid:")?).ok());
    let elsewhere = || full_url.filter(|url| url.starts_with("http")).map(|url| derived_id(&["fhir", url]));
    let here = || given.and_then(|id| id_of(resource_type, id));
    let id = known.or_else(of_urn).or_else(elsewhere).or_else(here);
    let id = id.unwrap_or_else(|| call.new_id_of(&index.to_string()));
    let base = full_url.and_then(|url| base_of(url, resource_type, given));
    let given = given.map(|given| format!("{resource_type}/{given}"));
    let name = format!("{resource_type}/{id}");
    Identity { id, given: given.filter(|given| *given != name), base }
}

/// `http://x/fhir` of `http://x/fhir/Patient/1`.
fn base_of(full_url: &str, resource_type: &str, id: Option<&str>) -> Option<String> {
    let base = full_url.strip_suffix(id?)?.strip_suffix('/')?.strip_suffix(resource_type)?.strip_suffix('/')?;
    base.starts_with("http").then(|| base.to_owned())
}

/// The id that a resource of another source has here if its id there is no UUID: the same for its entry and for references
/// to it. What comes from nowhere is `<type>/<id>` at this server.
pub fn foreign_id(base: Option<&str>, resource_type: &str, id: &str) -> Option<Uuid> {
    match base {
        Some(base) => Some(derived_id(&["fhir", &format!("{base}/{resource_type}/{id}")])),
        None => id_of(resource_type, id),
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
