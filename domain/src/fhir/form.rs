//! What any FHIR R4 resource must look like, whatever its type (<https://hl7.org/fhir/R4/json.html>).

use serde_json::{Map, Number, Value};

use super::primitive::{Temporal, check_order, check_temporal, temporal};
use super::{Reference, Resource};
use crate::types::FormError;

/// Elements that FHIR allows in every resource.
const COMMON_ELEMENTS: &[&str] =
    &["resourceType", "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension"];

/// Those of them that repeat.
const COMMON_REPEATING: &[&str] = &["contained[]", "extension[]", "modifierExtension[]"];

/// The longest string of FHIR (<https://hl7.org/fhir/R4/datatypes.html#string>).
const STRING_BYTES_MAX: usize = 1024 * 1024;
/// The longest name of an element; FHIR's own have up to 40 letters.
const NAME_BYTES_MAX: usize = 128;
/// The most digits, signs and dots of a number: FHIR's have 18 digits.
const NUMBER_CHARS_MAX: usize = 64;

/// Elements whose base64 has no bound of its own: a resource has one.
const UNBOUNDED: [&str; 2] = ["data", "url"];

/// Elements with a choice of types, as they are named before the type. Of each choice one form may be given.
const CHOICES: [&str; 9] =
    ["value", "effective", "onset", "abatement", "deceased", "occurrence", "performed", "multipleBirth", "medication"];
/// The types that such elements end in, as far as a second form of the same element could have one.
const CHOICE_TYPES: [&str; 24] = [
    "Age",
    "Attachment",
    "Boolean",
    "Code",
    "CodeableConcept",
    "Coding",
    "Count",
    "Date",
    "DateTime",
    "Decimal",
    "Duration",
    "Identifier",
    "Instant",
    "Integer",
    "Money",
    "Period",
    "Quantity",
    "Range",
    "Ratio",
    "Reference",
    "SampledData",
    "String",
    "Time",
    "Timing",
];

/// Where in a resource something stands. Most never has to be said, so it becomes text only when it is.
#[derive(Clone, Copy)]
struct Place<'a> {
    within: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

/// Checks what FHIR demands of every resource: no null, empty object, empty array or blank string (outside `null`
/// padding of primitive arrays), no control characters, numbers that a computer can compare, dates and times of
/// the kind that belongs there, periods that run forward, well-formed references, contained references that point at something contained.
///
/// # Errors
/// The first fault, in document order.
pub fn check_form(resource: &Resource) -> Result<(), FormError> {
    let contained: Vec<&str> = resource.items("contained").iter().filter_map(|item| item.get("id")?.as_str()).collect();
    check_members(resource.members(), &Place { within: None, step: Step::Root }, &contained)
}

/// Checks a text that goes into the element of this name: in a resource, or by itself, such as a reason.
///
/// # Errors
/// If it is blank, has control characters, or is too long for its element.
pub fn check_text(name: &str, text: &str, pointer: &str) -> Result<(), FormError> {
    if text.trim().is_empty() {
        return Err(empty(pointer));
    }
    check_characters(text, pointer)?;
    if text.len() > STRING_BYTES_MAX && !UNBOUNDED.contains(&name) { Err(too_long(pointer)) } else { Ok(()) }
}

/// Refuses top-level elements that the resource type does not have. `own` lists the type's elements beside the common
/// ones: a trailing `*` stands for a choice of types (`value*`), a trailing `[]` demands an array; `_name` companions are
/// allowed.
///
/// # Errors
/// The first unknown element, or the first repeating one that is no array.
pub fn check_elements(resource: &Resource, own: &[&str]) -> Result<(), FormError> {
    let repeating = COMMON_REPEATING.iter().chain(own).filter_map(|allowed| allowed.strip_suffix("[]"));
    for name in repeating {
        if resource.get(name).is_some_and(|value| !value.is_array()) {
            return Err(FormError::wrong_type(format!("/{name}")));
        }
    }
    let known = |name: &str| {
        COMMON_ELEMENTS.contains(&name)
            || own.iter().any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => {
                    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
                }
                None => allowed.strip_suffix("[]").unwrap_or(allowed) == name,
            })
    };
    match resource.members().keys().find(|name| !known(name.strip_prefix('_').unwrap_or(name))) {
        None => Ok(()),
        Some(_) => {
            Err(FormError::new("unknown-element", "", "The resource has an element that its type does not have."))
        }
    }
}

impl Place<'_> {
    fn pointer(&self) -> String {
        let mut steps = Vec::new();
        let mut place = Some(self);
        while let Some(Place { within, step }) = place {
            steps.push(*step);
            place = *within;
        }
        steps.iter().rev().fold(String::new(), |pointer, step| match step {
            Step::Root => pointer,
            Step::Name(name) => format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
            Step::Index(index) => format!("{pointer}/{index}"),
        })
    }

    /// The name of the element, of which this may be one of several.
    fn name(&self) -> &str {
        match (self.step, self.within) {
            (Step::Name(name), _) => name,
            (Step::Index(_), Some(list)) => list.name(),
            _ => "",
        }
    }
}

fn check_value(
    resource_type: &str,
    name: &str,
    value: &Value,
    place: &Place,
    contained: &[&str],
) -> Result<(), FormError> {
    match value {
        Value::String(text) => check_string(resource_type, name, text, place, contained),
        Value::Object(object) if object.is_empty() => Err(empty(&place.pointer())),
        Value::Bool(_) | Value::Number(_) if name == "reference" => Err(FormError::wrong_type(place.pointer())),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) if temporal(resource_type, name).is_some() => {
            Err(FormError::wrong_type(place.pointer()))
        }
        Value::Object(object) => check_members(object, place, contained),
        Value::Array(items) if items.is_empty() => Err(empty(&place.pointer())),
        Value::Array(items) => check_items(resource_type, name, items, place, contained),
        Value::Number(number) => check_number(number, place),
        Value::Null => Err(null(place)),
        Value::Bool(_) => Ok(()),
    }
}

/// The items of a list. Where one of several primitive values has only an extension, `null` keeps its place; nothing else
/// is null, and FHIR has no lists of lists.
fn check_items(
    resource_type: &str,
    name: &str,
    items: &[Value],
    place: &Place,
    contained: &[&str],
) -> Result<(), FormError> {
    let padded = name.starts_with('_') || !items.iter().any(|item| item.is_object());
    items.iter().enumerate().try_for_each(|(index, item)| {
        let place = Place { within: Some(place), step: Step::Index(index) };
        match item {
            Value::Null if padded => Ok(()),
            Value::Array(_) => Err(FormError::wrong_type(place.pointer())),
            item => check_value(resource_type, name, item, &place, contained),
        }
    })
}

/// A name that is none is not repeated in the pointer.
fn check_members(members: &Map<String, Value>, place: &Place, contained: &[&str]) -> Result<(), FormError> {
    // Elements of the resource itself, or of one that is contained, are known by its type.
    let resource_type = members.get("resourceType").and_then(Value::as_str).unwrap_or_default();
    for (name, child) in members {
        check_name(name, place)?;
        let within = Place { within: Some(place), step: Step::Name(name) };
        check_value(resource_type, name, child, &within, contained)?;
        check_padding(name, child, members, &within)?;
    }
    check_choices(members, !resource_type.is_empty(), place)?;
    if place.name().ends_with("eriod") {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        return check_order(text("start"), text("end"))
            .map_err(|error| FormError { pointer: format!("{}{}", place.pointer(), error.pointer), ..error });
    }
    Ok(())
}

/// FHIR's names have letters and digits. Names with a `$` have a meaning of their own to libraries that read JSON.
fn check_name(name: &str, place: &Place) -> Result<(), FormError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(too_long(&place.pointer()));
    }
    if name.contains('$') {
        return Err(FormError::new(
            "reserved-name",
            place.pointer(),
            "No element of FHIR has a name with a dollar sign.",
        ));
    }
    check_characters(name, "").map_err(|error| FormError { pointer: place.pointer(), ..error })
}

/// A list in which a value is null has something beside it that says why.
fn check_padding(name: &str, child: &Value, members: &Map<String, Value>, place: &Place) -> Result<(), FormError> {
    match child {
        Value::Array(items) if !name.starts_with('_') && items.iter().any(Value::is_null) => {
            let beside = members.get(&format!("_{name}")).and_then(Value::as_array);
            let says = |index: usize| beside.and_then(|list| list.get(index)).is_some_and(Value::is_object);
            match items.iter().enumerate().find(|(index, item)| item.is_null() && !says(*index)) {
                None => Ok(()),
                Some((index, _)) => Err(null(&Place { within: Some(place), step: Step::Index(index) })),
            }
        }
        _ => Ok(()),
    }
}

/// Of a choice of types one form is given: of two values nobody could say which counts.
fn check_choices(members: &Map<String, Value>, is_resource: bool, place: &Place) -> Result<(), FormError> {
    let choices = if is_resource { &CHOICES[..] } else { &CHOICES[..1] };
    for choice in choices {
        let is_form = |name: &&String| name.strip_prefix(choice).is_some_and(|rest| CHOICE_TYPES.contains(&rest));
        if members.keys().filter(is_form).nth(1).is_some() {
            let name = members.keys().find(is_form).map(String::as_str).unwrap_or_default();
            let place = Place { within: Some(place), step: Step::Name(name) };
            return Err(FormError::new("choice-twice", place.pointer(), "Only one form of this element may be given."));
        }
    }
    Ok(())
}

fn check_string(
    resource_type: &str,
    name: &str,
    text: &str,
    place: &Place,
    contained: &[&str],
) -> Result<(), FormError> {
    check_text(name, text, "").map_err(|error| FormError { pointer: place.pointer(), ..error })?;
    let within = || place.within.map(Place::name).unwrap_or_default();
    let kind = temporal(resource_type, name)
        .or_else(|| (matches!(name, "start" | "end") && within().ends_with("eriod")).then_some(Temporal::DateTime));
    if let Some(kind) = kind {
        check_temporal(kind, text).map_err(|(code, detail)| FormError::new(code, place.pointer(), detail))?;
    }
    if name == "reference" {
        return check_reference(text, place, contained);
    }
    Ok(())
}

fn check_reference(text: &str, place: &Place, contained: &[&str]) -> Result<(), FormError> {
    match Reference::parse(text) {
        Reference::Malformed => {
            Err(FormError::new("bad-reference", place.pointer(), "This is no FHIR reference that can be followed."))
        }
        Reference::Contained(id) if !id.is_empty() && !contained.contains(&id.as_str()) => {
            let detail = "Nothing contained in the resource has this id.";
            Err(FormError::new("unresolved-reference", place.pointer(), detail))
        }
        _ => Ok(()),
    }
}

/// FHIR: "Strings SHALL NOT contain Unicode character points below 32, except for u0009, u000D and u000A". Postgres takes
/// no NUL in a text, so one would freeze the read models of its patient.
fn check_characters(text: &str, pointer: &str) -> Result<(), FormError> {
    let forbidden = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n');
    if text.bytes().any(forbidden) {
        return Err(FormError::new("control-character", pointer, "A text must not have control characters."));
    }
    Ok(())
}

/// What is beyond the reach of a double-precision number can't be compared with any limit, and measures nothing.
fn check_number(number: &Number, place: &Place) -> Result<(), FormError> {
    if number.as_f64().is_some_and(f64::is_finite) && number.to_string().len() <= NUMBER_CHARS_MAX {
        return Ok(());
    }
    Err(FormError::new("number-out-of-range", place.pointer(), "The number is too large, or has too many digits."))
}

fn too_long(pointer: &str) -> FormError {
    FormError::new("too-long", pointer, "The text is longer than its element may be.")
}

fn null(place: &Place) -> FormError {
    FormError::new("null-element", place.pointer(), "FHIR JSON has no null outside primitive arrays.")
}

fn empty(pointer: &str) -> FormError {
    FormError::new("empty-element", pointer, "An element must not be empty.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_fault_has_its_code() {
        let code = |json| check_form(&Resource::parse(json).unwrap()).map_err(|error| error.code);
        let with = |value: Value| json!({"resourceType": "Basic", "x": value});
        assert_eq!(code(with(json!("fine"))), Ok(()));
        assert_eq!(code(with(json!(null))), Err("null-element"));
        assert_eq!(code(with(json!({}))), Err("empty-element"));
        assert_eq!(code(with(json!([]))), Err("empty-element"));
        assert_eq!(code(with(json!(" "))), Err("empty-element"));
        assert_eq!(code(with(json!({"birthDate": "1.2.2000"}))), Err("bad-date"));
        assert_eq!(code(with(json!({"birthDate": 2000}))), Err("wrong-type"));
        assert_eq!(code(with(json!({"reference": "nowhere"}))), Err("bad-reference"));
        assert_eq!(code(with(json!({"reference": "#nothing"}))), Err("unresolved-reference"));
        assert_eq!(code(json!({"resourceType": "Basic", "period": {"start": "yesterday"}})), Err("bad-date"));
    }

    #[test]
    fn texts_have_no_control_characters() {
        let code = |json| check_form(&Resource::parse(json).unwrap()).map_err(|error| (error.code, error.pointer));
        let at = |pointer: &str| Err(("control-character", pointer.to_owned()));
        assert_eq!(code(json!({"resourceType": "Basic", "x": "a\tb\r\nc\u{7f}\u{85}"})), Ok(()));
        for bad in ["\0", "7\u{1}", "\u{1f}x"] {
            assert_eq!(code(json!({"resourceType": "Basic", "x": [{"code": bad}]})), at("/x/0/code"), "{bad:?}");
            assert_eq!(code(json!({"resourceType": "Basic", "x": {bad: 1}})), at("/x"), "{bad:?}");
            assert_eq!(code(json!({"resourceType": "Basic", bad: 1})), at(""), "{bad:?}");
            assert!(check_text("reason", bad, "/reason").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn texts_names_and_numbers_have_their_bounds() {
        let code = |value: Value| {
            check_form(&Resource::parse(json!({"resourceType": "Basic", "x": value})).unwrap()).map_err(|e| e.code)
        };
        for name in ["code", "system", "unit", "reference", "id", "display"] {
            let longest = if name == "reference" {
                format!("urn:{}", "x".repeat(STRING_BYTES_MAX - 4))
            } else {
                "x".repeat(STRING_BYTES_MAX)
            };
            assert_eq!(code(json!({name: longest.clone()})), Ok(()), "{name}");
            assert_eq!(code(json!({name: longest + "x"})), Err("too-long"), "{name}");
        }
        assert_eq!(code(json!({"data": "QUJD".repeat(STRING_BYTES_MAX / 2)})), Ok(()), "a scan is larger than a text");
        assert_eq!(code(json!({"x".repeat(NAME_BYTES_MAX + 1): true})), Err("too-long"));
        let number = |text: &str| code(serde_json::from_str(text).unwrap());
        for good in ["-0.00", "120.00", "1e300", "1.7976931348623157e308", "123456789012345678.123456789012345678"] {
            assert_eq!(number(good), Ok(()), "{good}");
        }
        for bad in ["1e400", "-1E309", &"9".repeat(NUMBER_CHARS_MAX + 1)] {
            assert_eq!(number(bad), Err("number-out-of-range"), "{bad}");
        }
    }

    #[test]
    fn unknown_elements_are_refused() {
        let resource = |name: &str| Resource::parse(json!({"resourceType": "Observation", name: "x"})).unwrap();
        let check = |name: &str| check_elements(&resource(name), &["status", "value*"]).is_ok();
        assert!(check("status") && check("_status") && check("valueString") && check("language"));
        assert!(!check("value") && !check("valuation") && !check("stats"));
    }

    #[test]
    fn repeating_elements_are_arrays() {
        let code = |name: &str, value: Value| {
            let resource = Resource::parse(json!({"resourceType": "Observation", name: value})).unwrap();
            check_elements(&resource, &["category[]", "status"]).map_err(|error| error.code)
        };
        assert_eq!(code("category", json!(["x"])), Ok(()));
        assert_eq!(code("category", json!("x")), Err("wrong-type"));
        assert_eq!(code("extension", json!({"url": "x"})), Err("wrong-type"));
        assert_eq!(code("category[]", json!(["x"])), Err("unknown-element"));
    }

    #[track_caller]
    fn refused(value: Value, code: &str, pointer: &str) {
        let resource = Resource::parse(value).unwrap();
        let found = check_form(&resource).map_err(|error| (error.code, error.pointer));
        assert_eq!(found, Err((code, pointer)).map_err(|(code, pointer): (&str, &str)| (code, pointer.to_owned())));
    }

    fn taken(value: Value) {
        assert_eq!(check_form(&Resource::parse(value).unwrap()), Ok(()));
    }

    #[test]
    fn null_pads_primitive_lists_and_nothing_else() {
        let why = json!({"extension": [{"url": "urn:why", "valueCode": "asked-unknown"}]});
        taken(json!({"resourceType": "Basic", "x": {"line": [null, "Dock 3"], "_line": [why, null]}}));
        refused(json!({"resourceType": "Basic", "telecom": [{"value": "1"}, null]}), "null-element", "/telecom/1");
        refused(json!({"resourceType": "Basic", "x": {"line": ["Dock 3", null]}}), "null-element", "/x/line/1");
        refused(
            json!({"resourceType": "Basic", "x": {"line": [null, null], "_line": [null, why]}}),
            "null-element",
            "/x/line/0",
        );
        refused(json!({"resourceType": "Basic", "x": [["a"]]}), "wrong-type", "/x/0");
    }

    #[test]
    fn dates_and_times_are_of_their_kind() {
        let report = |name: &str, value: Value| json!({"resourceType": "DiagnosticReport", name: value});
        refused(report("issued", json!("2021-07")), "bad-date", "/issued");
        refused(report("effectiveDateTime", json!({"x": 1})), "wrong-type", "/effectiveDateTime");
        taken(report("issued", json!("2021-07-08T09:10:11.5-03:00")));
        let inside = json!({"resourceType": "Basic", "contained": [report("issued", json!("2021-07-08"))]});
        refused(inside, "bad-date", "/contained/0/issued");
        refused(json!({"resourceType": "Person", "birthDate": "1961-03-09T01:02:03Z"}), "bad-date", "/birthDate");
        let extension =
            |name: &str, text: &str| json!({"resourceType": "Basic", "extension": [{"url": "u", name: text}]});
        refused(extension("valueTime", "7:15"), "bad-time", "/extension/0/valueTime");
        taken(extension("valueTime", "07:15:00"));
    }

    #[test]
    fn periods_run_forward_wherever_they_stand() {
        let with = |start: &str, end: &str| json!({"resourceType": "Basic", "identifier": [{"value": "x", "period": {"start": start, "end": end}}]});
        refused(with("2019-03-04", "2019-03-03"), "end-before-start", "/identifier/0/period/end");
        refused(
            with("2019-03-04T22:00:00-08:00", "2019-03-05T05:59:59Z"),
            "end-before-start",
            "/identifier/0/period/end",
        );
        refused(with("2019-03-04T22:00:00", "2019-03-05"), "bad-date", "/identifier/0/period/start");
        taken(with("2019-03", "2019"));
        taken(with("2019-03-04", "2019-03-04"));
    }

    #[test]
    fn of_a_choice_one_form_is_given() {
        let both = json!({"resourceType": "Procedure", "performedString": "in spring", "performedDateTime": "2011-04"});
        refused(both, "choice-twice", "/performedString");
        let inside =
            json!({"resourceType": "Basic", "extension": [{"url": "u", "valueCode": "a", "valueString": "b"}]});
        refused(inside, "choice-twice", "/extension/0/valueCode");
        taken(json!({"resourceType": "Basic", "valueSet": "urn:a", "valueString": "b", "_valueString": {"id": "c"}}));
    }

    #[test]
    fn names_that_libraries_use_for_themselves_are_refused() {
        refused(json!({"resourceType": "Basic", "x": [{"a": 1, "$b::c": 2}]}), "reserved-name", "/x/0");
    }
}
