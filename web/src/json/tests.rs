//! Bodies, good and bad.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    anything: Option<Value>,
    #[serde(default)]
    raw: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    amount: u32,
    kind: Kind,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Small,
    Large,
}

fn read(text: &str) -> Result<Body, Problem> {
    check(text.as_bytes(), JsonLimits::default())?;
    parse(text.as_bytes())
}

#[track_caller]
fn refused(text: &str) -> (&'static str, String, String) {
    let problem = read(text).unwrap_err();
    let shown = serde_json::to_string(&problem.body()).unwrap();
    assert!(!shown.contains("Marker"), "a value was repeated: {shown}");
    let fault = problem.errors().first();
    let part = |part: fn(&Fault) -> &String| fault.map(|fault| part(fault).clone()).unwrap_or_default();
    (problem.slug(), part(|fault| &fault.pointer), part(|fault| &fault.code))
}

#[test]
fn good_bodies_are_read_with_every_digit() {
    let body = read(r#"{"name":"x","items":[{"amount":1,"kind":"small"},{"amount":2,"kind":"large"}],"anything":{"v":1.50},"raw":{"v":0.10e1}}"#).unwrap();
    assert_eq!((body.name.as_str(), body.items[1].amount), ("x", 2));
    assert!(matches!(body.items[0].kind, Kind::Small) && matches!(body.items[1].kind, Kind::Large));
    assert_eq!(body.anything.unwrap()["v"].to_string(), "1.50");
    assert_eq!(body.raw.unwrap().get(), r#"{"v":0.10e1}"#);
}

#[test]
fn bad_bodies_are_refused_by_place() {
    let table = [
        (r#"{"name":"Marker""#, "malformed-json", "", ""),
        (r#"Marker"#, "malformed-json", "", ""),
        ("", "malformed-json", "", ""),
        (r#"{"name":"Marker"} Marker"#, "malformed-json", "", ""),
        (r#"["Marker"]"#, "invalid-body", "", "wrong-type"),
        (r#"{"name":["Marker"]}"#, "invalid-body", "/name", "wrong-type"),
        (
            r#"{"name":"x","items":[{"amount":"Marker","kind":"small"}]}"#,
            "invalid-body",
            "/items/0/amount",
            "wrong-type",
        ),
        (r#"{"name":"x","items":[{"amount":-1,"kind":"small"}]}"#, "invalid-body", "/items/0/amount", "invalid-value"),
        (r#"{"name":"x","items":[{"amount":1,"kind":"Marker"}]}"#, "invalid-body", "/items/0/kind", "unknown-value"),
        (r#"{"name":"x","items":[{"amount":1}]}"#, "invalid-body", "/items/0/kind", "missing-member"),
        (r#"{"items":"Marker"}"#, "invalid-body", "/items", "wrong-type"),
        (r#"{}"#, "invalid-body", "/name", "missing-member"),
        (r#"{"name":"Marker","nmae":"Marker"}"#, "invalid-body", "", "unknown-member"),
        (r#"{"name":"x","Marker":1}"#, "invalid-body", "", "unknown-member"),
        (r#"{"name":"x","`, expected `Marker`":1}"#, "invalid-body", "", "unknown-member"),
        (
            r#"{"name":"x","items":[{"amount":1,"kind":"small","Marker":2}]}"#,
            "invalid-body",
            "/items/0",
            "unknown-member",
        ),
        (r#"{"name":"x","anything":{"Marker M.":{"b":1,"b":2}}}"#, "invalid-body", "/anything/?/b", "repeated-member"),
        (
            r#"{"name":"x","anything":{"_valueBase64Binary":{"b":1,"b":2}}}"#,
            "invalid-body",
            "/anything/_valueBase64Binary/b",
            "repeated-member",
        ),
        (r#"{"Marker-1":1,"Marker-1":2}"#, "invalid-body", "/?", "repeated-member"),
        (r#"{"$Marker":1}"#, "invalid-body", "", "reserved-name"),
        (r#"{"name":"x","anything":[{"a":1},{"$Marker":1}]}"#, "invalid-body", "/anything/1", "reserved-name"),
        (r#"{"name":"Marker","name":"Marker"}"#, "invalid-body", "/name", "repeated-member"),
        (
            r#"{"name":"x","anything":[0,{"a":{"b":1,"c":2,"\u0062":3}}]}"#,
            "invalid-body",
            "/anything/1/a/b",
            "repeated-member",
        ),
        (
            r#"{"name":"x","items":[{"amount":", expected Marker","kind":"small"}]}"#,
            "invalid-body",
            "/items/0/amount",
            "wrong-type",
        ),
    ];
    for (text, slug, pointer, code) in table {
        assert_eq!(refused(text), (slug, pointer.to_owned(), code.to_owned()), "{text}");
    }
}

#[test]
fn an_unknown_member_is_told_by_its_place_and_by_what_it_resembles() {
    let detail = |text: &str| read(text).unwrap_err().errors()[0].detail.clone();
    let known = "`name`, `items`, `anything`, `raw`";
    let expected = [
        (r#"{"nmae":1}"#, "There is no such member here (line 1, column 7). Did you mean `name`?".to_owned()),
        ("{\n \"Marker\":1}", format!("There is no such member here (line 2, column 9). Expected one of {known}.")),
    ];
    for (text, expected) in expected {
        assert_eq!(detail(text), expected);
    }
}

#[test]
fn invalid_utf_8_is_malformed() {
    assert_eq!(parse::<Body>(b"{\"name\":\"\xff\"}").unwrap_err().slug(), "malformed-json");
}

#[test]
fn nesting_is_counted_before_anything_is_parsed() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(scan(nested(64).as_bytes(), 64), Ok(()));
    assert_eq!(scan(nested(65).as_bytes(), 64), Err(ScanFault::TooDeep));
    assert_eq!(scan("{\"a\":".repeat(1_000_000).as_bytes(), 64), Err(ScanFault::TooDeep));
    assert_eq!(scan(format!("\"{}\"", "[".repeat(1_000)).as_bytes(), 64), Ok(()), "brackets in a text nest nothing");
}

#[test]
fn names_repeat_only_within_one_object() {
    assert_eq!(scan(br#"{"a":{"a":[{"a":1},{"a":"a"}]},"b":"a"}"#, 64), Ok(()));
    let many: String = (0..5_000).map(|at| format!("\"m{at}\":{at},")).collect();
    assert_eq!(scan(format!("{{{many}\"z\":0}}").as_bytes(), 64), Ok(()));
    let repeated = scan(format!("{{{many}\"m7\":0}}").as_bytes(), 64);
    assert_eq!(repeated, Err(ScanFault::RepeatedMember { pointer: "/m7".to_owned() }));
}

#[test]
fn the_scan_ends_on_any_bytes() {
    for text in [
        "}}}]]],,,:::",
        "{\"",
        "\"\\",
        "{\"a\\",
        "[,,{,\"x\",]",
        "\\",
        "{\"a\":\"\\\"}",
        "{\"\\ud800\":1,\"\\ud800\":2}",
    ] {
        drop(scan(text.as_bytes(), 8));
    }
}

/// Names that `serde_json` or another format of `serde` gives a meaning of its own, in all spellings of JSON.
fn reserved_names() -> Vec<String> {
    let names = [
        "$serde_json::private::Number",
        "$serde_json::private::RawValue",
        "$__toml_private_datetime",
        "$__serde_private",
        "$",
    ];
    let escaped = |name: &str| name.replace('$', "\\u0024");
    let wholly = |name: &str| name.bytes().map(|byte| format!("\\u{byte:04X}")).collect::<String>();
    names.iter().flat_map(|name| [(*name).to_owned(), escaped(name), wholly(name)]).collect()
}

#[test]
fn no_name_speaks_to_the_parser() {
    let values = [r#""42""#, "42", r#""{\"a\":1,\"a\":2}""#, r#"{"deep":[[[[1]]]]}"#, "null"];
    let mut seen = 0;
    for (name, value) in reserved_names().iter().flat_map(|name| values.map(|value| (name, value))) {
        for object in [format!(r#"{{"{name}":{value}}}"#), format!(r#"{{"a":0,"{name}":{value}}}"#)] {
            for (whole, place) in [
                (object.clone(), ""),
                (format!(r#"{{"name":"x","anything":{object}}}"#), "/anything"),
                (format!(r#"{{"raw":[1,{{"b":{object}}}],"name":"x"}}"#), "/raw/1/b"),
                (format!(r#"{{"name":"x","items":[{object}]}}"#), "/items/0"),
            ] {
                let found = refused(&whole);
                assert_eq!(found, ("invalid-body", place.to_owned(), "reserved-name".to_owned()), "{whole}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 15 * 5 * 2 * 4);
}

/// What is let through means to the parser what it says: read and written, it is the same text.
#[test]
fn what_is_let_through_is_read_as_it_stands() {
    let texts = [
        r#"{"serde_json::private::Number":"42"}"#,
        r#"{"a$serde_json::private::Number":"42","b":"$serde_json::private::RawValue"}"#,
        r#"{"value":["$serde_json::private::RawValue",{"x":"{\"a\":1}"}]}"#,
        r#"{"numbers":[-0,-0.0,120.00,1e-7,1.5e+300,123456789012345678.1234567890]}"#,
        "{\"\u{1f9ea}\":\"\u{200d}\u{e000}\u{fffd}\",\"\":[[],{}]}",
    ];
    for text in texts {
        check(text.as_bytes(), JsonLimits::default()).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value.to_string(), text);
    }
}
