//! Refusals as FHIR tells them, for who asks a FHIR route for FHIR JSON: <https://hl7.org/fhir/R4/operationoutcome.html>.
//!
//! The problem stays what it is: status, headers and the codes of its type and rule. One issue stands for each element at
//! fault, or for the problem where none is named.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
};
use serde::Serialize;
use utoipa::openapi::{Content, OpenApi, RefOr, Response as Described, schema::ObjectBuilder};

use crate::{
    media::{FHIR_JSON, prefers_fhir_json},
    problem::{self, Fault, Problem},
};

/// The code system of our rules.
const RULES: &str = "urn:nexushealth:rules";
/// The code system of our types of problems.
const PROBLEMS: &str = "urn:nexushealth:problems";
/// What the bodies of our FHIR routes are; pointers into them begin there.
const ROOT: &str = "Bundle";

/// Whether this is a FHIR route.
pub(crate) fn is_fhir(path: &str) -> bool {
    path.strip_prefix("/fhir").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a refusal of this request is to be told in FHIR.
pub(crate) fn is_wanted(uri: &Uri, headers: &HeaderMap) -> bool {
    is_fhir(uri.path()) && prefers_fhir_json(headers, uri.query().unwrap_or_default())
}

/// Tells the problem of an answer, if it is one, as an OperationOutcome.
pub(crate) fn tell(mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let body = serde_json::to_vec(&Outcome::of(&problem)).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
    response
}

/// Adds to the description of each FHIR route that its problems can be had in FHIR.
pub fn describe(document: &mut OpenApi) {
    let routes = document.paths.paths.iter_mut().filter(|(path, _)| is_fhir(path));
    let operations = routes.flat_map(|(_, item)| [&mut item.get, &mut item.post, &mut item.put]).flatten();
    for response in operations.flat_map(|operation| operation.responses.responses.values_mut()) {
        if let RefOr::T(response) = response {
            offer_outcome(response);
        }
    }
}

fn offer_outcome(response: &mut Described) {
    if response.content.contains_key(problem::MEDIA_TYPE) {
        let schema = ObjectBuilder::new().description(Some("A FHIR R4 OperationOutcome")).build();
        response.content.insert(FHIR_JSON.to_owned(), RefOr::T(Content::new(Some(schema))));
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    resource_type: &'static str,
    issue: Vec<Issue<'a>>,
}

#[derive(Serialize)]
struct Issue<'a> {
    severity: &'static str,
    code: &'static str,
    details: Details<'a>,
    /// For who looks for the cause: the problem as a whole, and the request.
    diagnostics: String,
    /// An element of the body, as a FHIRPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<[String; 1]>,
    /// A parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<[String; 1]>,
}

#[derive(Serialize)]
struct Details<'a> {
    coding: Vec<Coding<'a>>,
    text: &'a str,
}

#[derive(Serialize)]
struct Coding<'a> {
    system: &'static str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'a str>,
}

impl<'a> Outcome<'a> {
    fn of(problem: &'a Problem) -> Self {
        let mut issue: Vec<_> = problem.errors().iter().map(|fault| Issue::of_fault(problem, fault)).collect();
        if issue.is_empty() {
            issue.push(Issue::of(problem));
        }
        Self { resource_type: "OperationOutcome", issue }
    }
}

impl<'a> Issue<'a> {
    fn of(problem: &'a Problem) -> Self {
        let text = problem.detail().unwrap_or(problem.title());
        Self {
            severity: "error",
            code: problem.issue(),
            details: Details { coding: codings(problem, problem.rule()), text },
            diagnostics: diagnostics(problem),
            expression: None,
            location: None,
        }
    }

    fn of_fault(problem: &'a Problem, fault: &'a Fault) -> Self {
        let text = if fault.detail.is_empty() { problem.detail().unwrap_or(problem.title()) } else { &fault.detail };
        let is_element = fault.pointer.is_empty() || fault.pointer.starts_with('/');
        let place = if is_element { path_of(&fault.pointer) } else { format!("http.{}", fault.pointer) };
        let (expression, location) = if is_element { (Some([place]), None) } else { (None, Some([place])) };
        Self {
            code: issue_of(&fault.code).unwrap_or(problem.issue()),
            details: Details { coding: codings(problem, Some(&fault.code)), text },
            expression,
            location,
            ..Self::of(problem)
        }
    }
}

/// What FHIR has a code of its own for, among the codes of elements at fault.
fn issue_of(fault_code: &str) -> Option<&'static str> {
    match fault_code {
        "missing-member" => Some("required"),
        "unresolved-reference" => Some("not-found"),
        "unknown-code" | "unknown-value" => Some("code-invalid"),
        "too-long" | "invalid-length" => Some("too-long"),
        "unsupported-type" | "unsupported-request" => Some("not-supported"),
        _ => None,
    }
}

fn codings<'a>(problem: &'a Problem, rule: Option<&'a str>) -> Vec<Coding<'a>> {
    let rule = rule.map(|code| Coding { system: RULES, code, display: None });
    let kind = Coding { system: PROBLEMS, code: problem.slug(), display: Some(problem.title()) };
    rule.into_iter().chain([kind]).collect()
}

/// The page of the problem, what there is to say of it as a whole, and the request.
fn diagnostics(problem: &Problem) -> String {
    let body = problem.body();
    let version = body.current_version.map(|version| format!("The resource has version {version} now."));
    let request = body.instance.map(|id| format!("Request {id}."));
    let parts = [Some(body.kind), body.detail.map(Into::into), version, request];
    parts.into_iter().flatten().collect::<Vec<String>>().join(" ")
}

/// `/entry/3/resource/code` as FHIRPath: `Bundle.entry[3].resource.code`. What a pointer leaves out ends the path.
fn path_of(pointer: &str) -> String {
    let mut path = ROOT.to_owned();
    for step in pointer.split('/').filter(|step| !step.is_empty()).take_while(|step| *step != "?") {
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{step}]"));
        } else {
            path.push_str(&format!(".{step}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nexus_auth::TokenError;
    use serde_json::{Value, json};

    use super::*;

    /// <https://hl7.org/fhir/R4/valueset-issue-type.html>
    const ISSUE_TYPES: &[&str] = &[
        "invalid",
        "structure",
        "required",
        "value",
        "invariant",
        "security",
        "login",
        "unknown",
        "expired",
        "forbidden",
        "suppressed",
        "processing",
        "not-supported",
        "duplicate",
        "multiple-matches",
        "not-found",
        "deleted",
        "too-long",
        "code-invalid",
        "extension",
        "too-costly",
        "business-rule",
        "conflict",
        "transient",
        "lock-error",
        "no-store",
        "exception",
        "timeout",
        "incomplete",
        "throttled",
        "informational",
    ];

    fn told(problem: &Problem) -> Value {
        serde_json::to_value(Outcome::of(problem)).unwrap()
    }

    #[test]
    fn every_type_of_problem_has_a_code_of_fhir() {
        let known: BTreeSet<_> = ISSUE_TYPES.iter().collect();
        for kind in problem::TYPES {
            assert!(known.contains(&kind.issue), "{}: {}", kind.slug, kind.issue);
        }
    }

    #[test]
    fn each_fault_is_an_issue_at_its_place() {
        let problem = Problem::invalid_value(vec![
            Fault::new("/entry/12/resource/component/0/valueQuantity", "number-out-of-range", "Too many digits."),
            Fault::new("/entry/3/resource/Odd Name/x", "unknown-code", ""),
            Fault::new("", "missing-member", "This member is needed."),
            Fault::new("Idempotency-Key", "invalid-parameter", "A key has 1 to 255 bytes."),
        ]);
        let told = told(&problem);
        assert_eq!(told["resourceType"], "OperationOutcome");
        let issue = |at: usize| &told["issue"][at];
        assert_eq!(
            issue(0),
            &json!({
                "severity": "error", "code": "invalid",
                "details": {
                    "coding": [
                        {"system": RULES, "code": "number-out-of-range"},
                        {"system": PROBLEMS, "code": "invalid-value", "display": "A value is not acceptable"},
                    ],
                    "text": "Too many digits.",
                },
                "diagnostics": "/problems/invalid-value",
                "expression": ["Bundle.entry[12].resource.component[0].valueQuantity"],
            })
        );
        assert_eq!(
            (&issue(1)["code"], &issue(1)["expression"][0]),
            (&json!("code-invalid"), &json!("Bundle.entry[3].resource"))
        );
        assert_eq!(issue(1)["details"]["text"], "A value is not acceptable");
        assert_eq!((&issue(2)["code"], &issue(2)["expression"][0]), (&json!("required"), &json!("Bundle")));
        assert_eq!((&issue(3)["location"][0], &issue(3)["expression"]), (&json!("http.Idempotency-Key"), &Value::Null));
    }

    #[test]
    fn a_problem_without_faults_is_one_issue() {
        let told_of = |problem: &Problem| told(problem)["issue"][0].clone();
        let mismatch = told_of(&Problem::version_mismatch(Some(7)));
        assert_eq!(mismatch["code"], "conflict");
        assert_eq!(mismatch["details"]["text"], "The resource has another version than expected");
        assert!(mismatch["diagnostics"].as_str().unwrap().contains("version 7"));
        let expired = told_of(&Problem::unauthenticated(TokenError::Expired));
        assert_eq!((&expired["code"], &expired["details"]["coding"][0]["code"]), (&json!("login"), &json!("expired")));
    }

    #[test]
    fn only_fhir_routes_speak_fhir() {
        for (path, fhir) in
            [("/fhir", true), ("/fhir/Patient/1", true), ("/fhirs", false), ("/v1/fhir", false), ("/", false)]
        {
            assert_eq!(is_fhir(path), fhir, "{path}");
        }
    }
}
