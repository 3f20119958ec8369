//! How sensitive a resource is, from its security labels (`meta.security`).

use serde_json::Value;

use super::codes::contained;
use crate::fhir::Resource;

const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// The sensitivity codes of v3-ActCode that mark clinical content
/// (<https://terminology.hl7.org/ValueSet-v3-InformationSensitivityPolicy.html>).
const SENSITIVE: &[&str] = &[
    "ETH", "ETHUD", "ETHUDEXT", "SUD", "ALCOHOL", "OPIOIDUD", "DRGIS", "HIV", "STD", "SEX", "SEXREP", "SPI", "PSY",
    "PSYTHPN", "BH", "COGN", "DVD", "EMOTDIS", "MH", "SCA", "SDV", "SV", "VIO", "ABUSE", "GDIS", "SICKLE", "TBOO",
];

/// 0 normal, 1 restricted (`R`, or a sensitivity code), 2 very restricted (`V`): as read models keep it beside a row. What
/// is inside of a resource is as visible as the resource, so its labels count too.
pub fn sensitivity(resource: &Resource) -> i16 {
    let labels = resource.at("/meta/security").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let inner = contained(resource).map(|inner| sensitivity(&inner));
    labels.iter().map(level_of).chain(inner).max().unwrap_or_default()
}

fn level_of(label: &Value) -> i16 {
    let text = |name| label.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("system"), text("code")) {
        (CONFIDENTIALITY, "V") => 2,
        (CONFIDENTIALITY, "R") => 1,
        (ACT_CODE, code) if SENSITIVE.contains(&code) => 1,
        _ => 0,
    }
}

/// Whether a label stands for something at this level: what a consent says of a label holds for all rows that may bear it.
pub(super) fn may_bear(level: i16, code: &str) -> bool {
    match code {
        "V" => level >= 2,
        "R" => level == 1,
        "N" | "M" | "L" | "U" => level == 0,
        code => level >= 1 && SENSITIVE.contains(&code),
    }
}
