//! Resources as the world writes them, and what may become of them on the way: HL7's examples, the sample, and mutations of
//! both. The same seed gives the same mutations.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

/// The text that a mutation puts where JSON will stand that no value can hold.
const RAW: &str = "@@raw@@";

/// A resource's text and, for whoever looks into a failure, what was done to it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub text: String,
    pub mutation: &'static str,
}

/// HL7's published examples and the resources of the sample, as they are.
pub fn originals() -> Vec<Sample> {
    let examples = unzipped(&folder("corpus/hl7-r4-examples.ndjson.gz"));
    let mut texts: Vec<String> = examples.lines().map(str::to_owned).collect();
    assert!(texts.len() > 600, "the examples are there");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder("../sample"))
        .expect("the sample")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "gz")) {
        let bundle: Value = serde_json::from_str(&unzipped(file)).expect("a bundle");
        let entries = bundle["entry"].as_array().expect("entries");
        texts.extend(entries.iter().map(|entry| entry["resource"].to_string()));
    }
    texts.into_iter().map(|text| Sample { text, mutation: "none" }).collect()
}

/// So many mutations of texts, each of one to three changes.
pub fn mutations(originals: &[Sample], count: usize, seed: u64) -> Vec<Sample> {
    let mut random = Random(seed);
    // Every text gets its turn; the larger ones, which take longer and hold nothing new, less often.
    let small: Vec<&Sample> = originals.iter().filter(|sample| sample.text.len() < 20_000).collect();
    (0..count).map(|index| mutated(small[index % small.len()], &mut random)).collect()
}

fn mutated(original: &Sample, random: &mut Random) -> Sample {
    let mut value: Value = serde_json::from_str(&original.text).expect("JSON");
    let (mut mutation, mut raw) = ("none", None);
    for _ in 0..1 + random.below(3) {
        (mutation, raw) = mutate(&mut value, random);
        // There is one place for raw text.
        if raw.is_some() {
            break;
        }
    }
    let text = value.to_string();
    let text = match raw {
        Some(raw) => text.replacen(&format!("\"{RAW}\""), &raw, 1),
        None => text,
    };
    Sample { text, mutation }
}

/// Changes one place. Where the change can't be held by a value, it is the text that has to be put there.
fn mutate(value: &mut Value, random: &mut Random) -> (&'static str, Option<String>) {
    let places = count(value);
    let at = 1 + random.below(places.saturating_sub(1).max(1));
    let Some(target) = nth(value, at) else { return ("none", None) };
    let (mutation, changed) = match random.below(15) {
        0 => return ("drop", drop_from(target, random)),
        1 => ("null", json!(null)),
        2 => ("retype", random.pick(RETYPED).parse().expect("JSON")),
        3 => ("wrap", json!([target.take()])),
        4 => ("unwrap", target.as_array_mut().and_then(Vec::pop).unwrap_or_else(|| json!({"value": 1}))),
        5 => ("unicode", json!(format!("{}{}", text_of(target), random.pick(UNICODE)))),
        6 => ("long", json!(random.pick(LONG).repeat(200 + random.below(800)))),
        7 => ("date", json!(random.pick(DATES))),
        8 => return raw(target, "number", (*random.pick(NUMBERS)).to_owned()),
        9 => return raw(target, "string", (*random.pick(STRINGS)).to_owned()),
        10 => return raw(target, "private", private(random)),
        11 => return raw(target, "repeated", r#"{"value":1,"unit":"a","value":2}"#.to_owned()),
        12 => return raw(target, "deep", deep(random)),
        13 => ("renamed", renamed(target, random)),
        _ => ("again", again(target)),
    };
    *target = changed;
    (mutation, None)
}

fn raw(target: &mut Value, mutation: &'static str, text: String) -> (&'static str, Option<String>) {
    *target = json!(RAW);
    (mutation, Some(text))
}

fn drop_from(target: &mut Value, random: &mut Random) -> Option<String> {
    match target {
        Value::Object(members) if !members.is_empty() => {
            let name = members.keys().nth(random.below(members.len())).cloned().unwrap_or_default();
            members.shift_remove(&name);
        }
        Value::Array(items) => drop(items.pop()),
        other => *other = json!(""),
    }
    None
}

/// One member under the name of another element.
fn renamed(target: &mut Value, random: &mut Random) -> Value {
    let Value::Object(members) = target.take() else { return json!({"value": 7}) };
    let chosen = random.below(members.len().max(1));
    let name = |(at, (name, value)): (usize, (String, Value))| {
        let name = if at == chosen { (*random.pick(NAMES)).to_owned() } else { name };
        (name, value)
    };
    Value::Object(members.into_iter().enumerate().map(name).collect::<Map<_, _>>())
}

/// A list with its items many times over; anything else as a list of itself.
fn again(target: &mut Value) -> Value {
    match target.take() {
        Value::Array(items) => Value::Array(items.iter().cycle().take(items.len() * 20).cloned().collect()),
        other => json!([other.clone(), other]),
    }
}

/// What libraries for JSON call their own, in first and second place, spelled plainly and escaped.
fn private(random: &mut Random) -> String {
    let name = random.pick(&[
        "$serde_json::private::Number",
        "$serde_json::private::RawValue",
        "\\u0024serde_json::private::Number",
        "\\u0024serde_json\\u003a:private::RawValue",
        "$__toml_private_datetime",
    ]);
    let hidden = format!("\"{}1{}\"", "[".repeat(120), "]".repeat(120));
    let content = *random.pick(&["\"42\"", "42", "\"{\\\"a\\\":1,\\\"a\\\":2}\"", "\"not a number\"", hidden.as_str()]);
    match random.below(2) {
        0 => format!("{{\"{name}\":{content}}}"),
        _ => format!("{{\"a\":0,\"{name}\":{content}}}"),
    }
}

fn deep(random: &mut Random) -> String {
    let levels = [5, 20, 50, 62, 64, 120, 127, 200][random.below(8)];
    match random.below(2) {
        0 => format!("{}1{}", "[".repeat(levels), "]".repeat(levels)),
        _ => format!("{}1{}", "{\"extension\":".repeat(levels), "}".repeat(levels)),
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("x")
}

/// How many values there are in it, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at this place, in document order.
fn nth(value: &mut Value, at: usize) -> Option<&mut Value> {
    fn walk<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().find_map(|item| walk(item, left)),
            Value::Object(members) => members.values_mut().find_map(|item| walk(item, left)),
            _ => None,
        }
    }
    walk(value, &mut { at })
}

const RETYPED: &[&str] =
    &["true", "17", "\"text\"", "{\"text\":\"x\"}", "[\"a\",\"b\"]", "[{\"code\":\"a\"}]", "-1.50"];
const UNICODE: &[&str] = &[
    "\u{200d}",
    "\u{202e}abc",
    "\u{1f9d1}\u{200d}\u{1f33e}",
    "e\u{301}\u{301}",
    "\u{fffd}\u{e000}",
    "\u{10ffff}",
    "\u{7f}\u{85}",
];
const LONG: &[&str] = &["x", "é", "73211009 |Diabetes| : ", "\u{1f9ea}", "17.", "a b "];
const DATES: &[&str] = &[
    "0001-01-01",
    "1753-01-01",
    "9999-12-31",
    "9999-12-31T23:59:59-05:00",
    "9999-12-31T23:59:59.9999999-14:00",
    "0001-01-01T00:00:00+14:00",
    "2016-12-31T23:59:60Z",
    "2024-02-30",
    "2024",
    "2024-05",
    "2024-05-06T07:08:09Z",
    "2024-05-06T07:08:09.123456789012Z",
    "2024-05-06T07:08",
    "24:99",
    "23:59:60",
    "0000-01-01",
    "10000-01-01",
    "-0044-03-15",
];
const NUMBERS: &[&str] = &[
    "-0",
    "-0.0",
    "1.2E+2",
    "1e-7",
    "0.10",
    "120.00",
    "1e308",
    "1e309",
    "-1e400",
    "1e-400",
    "5E-1",
    "0.000000000000000001",
    "123456789012345678901234567890.123456789",
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775809",
    "1e99999",
];
const STRINGS: &[&str] = &[
    "\"\\ud83d\"",
    "\"\\udc00x\"",
    "\"a\\u0000b\"",
    "\"\\u0001\"",
    "\"\"",
    "\"  \"",
    "\"\\/\\b\"",
    "\"Patient/1\"",
    "\"#\"",
    "\"#x\"",
    "\"urn:uuid:0\"",
    "\"a|b\\\\c\"",
    "\"data:image/png;base64,AAAA\"",
    "\"http://x/y?z=1|2\"",
    "tru",
    "01",
];
const NAMES: &[&str] = &[
    "valueQuantity",
    "valueString",
    "valueDateTime",
    "effectivePeriod",
    "component",
    "code",
    "system",
    "status",
    "subject",
    "reference",
    "period",
    "start",
    "identifier",
    "name",
    "given",
    "_given",
    "category",
    "birthDate",
    "deceasedDateTime",
    "contained",
    "meta",
    "participant",
    "location",
    "provision",
    "series",
    "x.y",
    "a/b~c",
    "a b",
    "é",
];

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn unzipped(file: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(file).expect("a file of the corpus");
    GzDecoder::new(file).read_to_string(&mut text).expect("text");
    text
}
