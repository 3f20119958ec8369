//! What is in a JSON file: a bundle to send as it is, a bundle of another kind whose entries are taken one by one, or one
//! resource.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::minify::minify;

/// The namespace of idempotency keys and ids made from content.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_1d7e_0c54_4c8e_9a57_6b4e_2c1f_7d21);
/// Bundles that only hold resources, and do not say what is to be done with them.
const HOLDING: &[&str] = &["collection", "searchset", "document", "message"];

/// The top of a JSON file, as far as it can be read.
#[derive(Debug, Default)]
pub struct Top<'a> {
    pub resource_type: Option<String>,
    pub kind: Option<String>,
    /// The entries that are complete.
    pub entries: Vec<&'a RawValue>,
}

/// What a JSON file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It says itself what is to be done: all of it, or nothing.
    Transaction,
    /// It says itself what is to be done with each entry.
    Batch,
    /// It holds resources.
    Holding,
    /// It holds what was done with resources, the latest first.
    History,
    /// No bundle.
    Single,
}

/// A resource on its way: the entry of a batch, and the type and id by which it must not be there twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    pub entry: String,
    pub name: Option<String>,
}

impl<'a> Top<'a> {
    /// Reads as much as there is, and what is wrong with the rest.
    pub fn read(text: &'a [u8]) -> (Self, Result<(), serde_json::Error>) {
        let mut top = Self::default();
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let outcome = Members(&mut top).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        (top, outcome)
    }

    pub fn shape(&self) -> Shape {
        match (self.resource_type.as_deref(), self.kind.as_deref()) {
            (Some("Bundle"), Some("batch")) => Shape::Batch,
            (Some("Bundle"), Some("history")) => Shape::History,
            (Some("Bundle"), Some(kind)) if HOLDING.contains(&kind) => Shape::Holding,
            (Some("Bundle") | None, _) => Shape::Transaction,
            (Some(_), _) => Shape::Single,
        }
    }

    /// The entries of a bundle as those of a batch, in the order in which they are sent, each with its index in the
    /// file; of those that hold nothing, what is wrong with them. What a search says about itself is no entry.
    pub fn items(&self) -> Vec<(usize, Result<Item, String>)> {
        let shape = self.shape();
        let of_entry = |(index, raw): (usize, &&RawValue)| Some((index, item(shape, index, raw.get()).transpose()?));
        let mut items: Vec<_> = self.entries.iter().enumerate().filter_map(of_entry).collect();
        if shape == Shape::History {
            items.reverse();
        }
        items
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryParts<'a> {
    full_url: Option<String>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RequestParts {
    method: String,
    url: String,
}

/// The type and the id of a resource.
#[derive(Deserialize)]
pub struct Identified {
    #[serde(rename = "resourceType")]
    pub resource_type: String,
    pub id: Option<String>,
}

/// An entry of a bundle as that of a batch; nothing for what a search says about itself.
fn item(shape: Shape, index: usize, raw: &str) -> Result<Option<Item>, String> {
    if shape == Shape::Batch {
        return Ok(Some(Item { entry: minified(raw), name: None }));
    }
    let broken = |_| "the entry is none".to_owned();
    let parts: EntryParts = serde_json::from_str(raw).map_err(broken)?;
    let asked = parts.request.filter(|_| shape != Shape::Holding);
    let Some(resource) = parts.resource else {
        return match asked {
            Some(request) => deletion(request).map(Some),
            None => Err("the entry has no resource".to_owned()),
        };
    };
    let identified: Identified = serde_json::from_str(resource.get()).map_err(broken)?;
    if identified.resource_type == "OperationOutcome" && shape == Shape::Holding {
        return Ok(None);
    }
    let request = match asked {
        Some(request) => request.get().to_owned(),
        None => creation(&identified.resource_type),
    };
    let nameless = asked.is_none() && identified.id.is_none();
    let full_url = parts.full_url.or_else(|| nameless.then(|| made_up(index, resource.get())));
    let full_url = full_url.map(|url| format!(r#""fullUrl":{},"#, serde_json::Value::String(url)));
    let entry = format!(r#"{{{}"resource":{},"request":{request}}}"#, full_url.unwrap_or_default(), resource.get());
    let name = identified.id.map(|id| format!("{}/{id}", identified.resource_type));
    Ok(Some(Item { entry: minified(&entry), name }))
}

/// The name of what has none comes from its content and place, and not from the request's key, which changes when it is
/// sent again.
fn made_up(place: usize, text: &str) -> String {
    format!("urn:uuid:{}", Uuid::new_v5(&NAMESPACE, format!("{place} {text}").as_bytes()))
}

fn deletion(request: &RawValue) -> Result<Item, String> {
    let parts: RequestParts = serde_json::from_str(request.get()).map_err(|_| "the entry is none".to_owned())?;
    if parts.method != "DELETE" {
        return Err("the entry has no resource".to_owned());
    }
    Ok(Item { entry: minified(&format!(r#"{{"request":{}}}"#, request.get())), name: Some(parts.url) })
}

fn creation(resource_type: &str) -> String {
    serde_json::json!({ "method": "POST", "url": resource_type }).to_string()
}

fn minified(json: &str) -> String {
    String::from_utf8(minify(json.as_bytes())).unwrap_or_default()
}

/// What a resource by itself becomes: a line of NDJSON, or a file. `place` is where it stands in its file; `base` is what
/// the absolute references of its export begin with.
pub fn wrap(place: usize, text: &str, base: Option<&str>) -> Result<Vec<Item>, serde_json::Error> {
    let resource: Identified = serde_json::from_str(text)?;
    if resource.resource_type == "Bundle" {
        let (top, _) = Top::read(text.as_bytes());
        // What is wrong with one of them is for the server to say.
        let as_is = |raw: &&RawValue| Item { entry: minified(raw.get()), name: None };
        let items = top
            .entries
            .iter()
            .map(|raw| item(Shape::History, place, raw.get()).ok().flatten().unwrap_or_else(|| as_is(raw)));
        return Ok(items.collect());
    }
    let full_url = match &resource.id {
        None => Some(made_up(place, text)),
        Some(id) => Uuid::parse_str(id).ok().map(|id| format!("urn:uuid:{id}")),
    };
    let full_url = full_url.map(|url| format!(r#""fullUrl":"{url}","#)).unwrap_or_default();
    let request = creation(&resource.resource_type);
    let text = base.map_or_else(|| text.to_owned(), |base| relative(text, base));
    let name = resource.id.map(|id| format!("{}/{id}", resource.resource_type));
    Ok(vec![Item { entry: format!(r#"{{{full_url}"resource":{text},"request":{request}}}"#), name }])
}

/// References to the server that an export is from are references within the export.
fn relative(text: &str, base: &str) -> String {
    minified(text).replace(&format!(r#""reference":"{base}/"#), r#""reference":""#)
}

struct Members<'t, 'a>(&'t mut Top<'a>);

impl<'de> DeserializeSeed<'de> for Members<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "resourceType" => self.0.resource_type = Some(map.next_value()?),
                "type" if self.0.resource_type.as_deref().is_none_or(|name| name == "Bundle") => {
                    // Of other resources it is a concept.
                    let kind: &RawValue = map.next_value()?;
                    self.0.kind = serde_json::from_str(kind.get()).ok();
                }
                "entry" if self.0.resource_type.as_deref().is_none_or(|name| name == "Bundle") => {
                    map.next_value_seed(Entries(&mut self.0.entries))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Entries<'t, 'a>(&'t mut Vec<&'a RawValue>);

impl<'de> DeserializeSeed<'de> for Entries<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("the entries of a bundle")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            self.0.push(entry);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: &str = r#"{"resourceType":"Goal","id":"g1","rank":1.50}"#;

    fn items(text: &str) -> Vec<(usize, Result<Item, String>)> {
        Top::read(text.as_bytes()).0.items()
    }

    #[test]
    fn what_only_holds_resources_becomes_a_batch_that_keeps_every_digit() {
        for kind in HOLDING {
            let text = format!(
                r#"{{"resourceType":"Bundle","type":"{kind}","total":2,"entry":[
                    {{"fullUrl":"https://x.example/Goal/g1","resource":{GOAL},"search":{{"mode":"match"}}}},
                    {{"resource":{{"resourceType":"OperationOutcome"}},"search":{{"mode":"outcome"}}}}, {{"link":[]}}]}}"#
            );
            let found = items(&text);
            let entry = format!(
                r#"{{"fullUrl":"https://x.example/Goal/g1","resource":{GOAL},"request":{{"method":"POST","url":"Goal"}}}}"#
            );
            assert_eq!(found[0], (0, Ok(Item { entry, name: Some("Goal/g1".to_owned()) })));
            assert_eq!(found[1..], [(2, Err("the entry has no resource".to_owned()))]);
        }
    }

    #[test]
    fn a_history_is_told_from_its_beginning() {
        let text = format!(
            r#"{{"resourceType":"Bundle","type":"history","entry":[
                {{"request":{{"method":"DELETE","url":"Goal/g1"}}}},
                {{"resource":{GOAL},"request":{{"method":"PUT","url":"Goal/g1"}}}}, {{"resource":{GOAL}}}]}}"#
        );
        let found = items(&text);
        let told: Vec<(usize, &str)> = found
            .iter()
            .map(|(index, item)| (*index, item.as_ref().unwrap().entry.rsplit("method").next().unwrap()))
            .collect();
        let expected = [
            (2, r#"":"POST","url":"Goal"}}"#),
            (1, r#"":"PUT","url":"Goal/g1"}}"#),
            (0, r#"":"DELETE","url":"Goal/g1"}}"#),
        ];
        assert_eq!(told, expected);
        assert!(found.iter().all(|(_, item)| item.as_ref().unwrap().name.as_deref() == Some("Goal/g1")));
    }

    #[test]
    fn of_a_file_that_breaks_off_the_complete_entries_are_known() {
        let text = format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"resource":{GOAL}}},{{"reso"#);
        let (top, outcome) = Top::read(text.as_bytes());
        assert_eq!((top.entries.len(), top.shape()), (1, Shape::Holding));
        assert!(outcome.unwrap_err().is_eof());
    }

    #[test]
    fn each_file_has_a_shape() {
        let shape = |text: &str| Top::read(text.as_bytes()).0.shape();
        assert_eq!(shape(r#"{"type":"batch","resourceType":"Bundle"}"#), Shape::Batch);
        assert_eq!(shape(r#"{"resourceType":"Bundle","type":"transaction"}"#), Shape::Transaction);
        assert_eq!(shape(r#"{"resourceType":"Bundle"}"#), Shape::Transaction);
        assert_eq!(shape(r#"{"resourceType":"Organization","type":[{"text":"batch"}]}"#), Shape::Single);
        assert_eq!(shape(r#"{"type":[{"text":"x"}],"entry":[{}],"resourceType":"List"}"#), Shape::Single);
    }

    #[test]
    fn a_line_of_deletions_is_as_many_entries() {
        let line = r#"{"resourceType":"Bundle","type":"transaction","entry":[
            {"request":{"method":"DELETE","url":"Goal/g1"}},{"request":{"method":"DELETE","url":"Goal/g2"}}]}"#;
        let names: Vec<_> = wrap(3, line, None).unwrap().into_iter().map(|item| item.name.unwrap()).collect();
        assert_eq!(names, ["Goal/g1", "Goal/g2"]);
    }

    #[test]
    fn references_within_the_export_are_relative() {
        let line = r#"{"resourceType":"Goal", "id":"g1", "subject": { "reference": "https://h.example/r4/Patient/7" },
            "note":"\"reference\":\"https://h.example/r4/\"", "x":{"reference":"https://h.example/r40/Patient/7"}}"#;
        let entry = wrap(0, line, Some("https://h.example/r4")).unwrap().remove(0).entry;
        assert!(entry.contains(r#""subject":{"reference":"Patient/7"}"#));
        assert!(entry.contains(r#""note":"\"reference\":\"https://h.example/r4/\"""#));
        assert!(entry.contains(r#""reference":"https://h.example/r40/Patient/7""#));
    }
}
