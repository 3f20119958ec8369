//! From a JSON value to a type, without losing digits on the way.
//!
//! `serde_json::from_value` hands a number over as `f64` if that would be printed with the same digits, and then prints it
//! otherwise: `0.000001` becomes `1e-6`, and `-0` becomes `0`. As text it is read as it is written. Only few values need that
//! way, which takes longer.

use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

/// Numbers of fewer digits don't need a power of ten, unless they are as small as [`SMALL`].
const LARGE_CHARS: usize = 16;
const SMALL: &str = "0.000";

/// Reads a type from a JSON value as `serde_json::from_value` does, and keeps the digits of numbers.
///
/// # Errors
/// If the value is none of this type. The error may quote the value.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    if survives(&value) { serde_json::from_value(value) } else { serde_json::from_str(&serde_json::to_string(&value)?) }
}

fn survives(value: &Value) -> bool {
    match value {
        Value::Number(number) => number_survives(number),
        Value::Array(items) => items.iter().all(survives),
        Value::Object(members) => members.values().all(survives),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn number_survives(number: &Number) -> bool {
    let text = number.as_str();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.len() < LARGE_CHARS && !digits.starts_with(SMALL);
    (is_plain && text != "-0") || serde_json::from_value::<Number>(number.clone().into()).is_ok_and(|it| it == *number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    fn text_of(number: &str) -> String {
        let value: Value = serde_json::from_str(&format!(r#"{{"a":[{{"b":{number}}}]}}"#)).unwrap();
        let read: Map<String, Value> = from_value(value).unwrap();
        read["a"][0]["b"].to_string()
    }

    #[test]
    fn numbers_that_need_no_power_of_ten_get_none() {
        for number in
            ["0.000002", "-0.00000350", "0.0001", "-0", "-0.0", "0", "7", "70.250", "30000000000000000000000.5", "2e-7"]
        {
            assert_eq!(text_of(number), number);
        }
        assert_eq!(text_of("70000000000000000000000000000000000000000"), "70000000000000000000000000000000000000000");
    }

    proptest! {
        #[test]
        fn every_number_keeps_its_digits(number in "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,20})?(e[+-][0-9]{1,2})?") {
            prop_assert_eq!(text_of(&number), number);
        }
    }
}
