//! The bodies are a contract: one snapshot per type, and a page for each.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::{Map, Value};

use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One of each, with everything that its constructor can say.
fn one_of_each() -> Vec<Problem> {
    let fault = || vec![Fault::new("/a/0/b", "some-code", "Some detail.")];
    vec![
        Problem::malformed_json(3, 18),
        Problem::malformed_encoding(),
        Problem::invalid_body(Fault::new(
            "/birthDate",
            "wrong-type",
            "The value has the wrong type. Expected a string.",
        )),
        Problem::invalid_parameter("limit", "The value is not acceptable here."),
        Problem::invalid_value(fault()),
        Problem::unresolved_reference(fault()),
        Problem::body_too_large(1_048_576),
        Problem::too_deep(64),
        Problem::batch_too_large(10_000),
        Problem::unsupported_media_type("application/json"),
        Problem::not_acceptable("application/json"),
        Problem::not_found(),
        Problem::method_not_allowed(),
        Problem::body_too_slow(16_384),
        Problem::unauthenticated(TokenError::Expired),
        Problem::forbidden(),
        Problem::no_care_relationship(),
        Problem::rule_violated("encounter-finished", "The encounter is finished."),
        Problem::claim_taken("medical-record-number-taken"),
        Problem::version_mismatch(Some(7)),
        Problem::version_conflict(),
        Problem::precondition_required(),
        Problem::idempotency_key_missing(),
        Problem::idempotency_key_reused(),
        Problem::idempotency_in_flight(),
        Problem::rate_limited(1),
        Problem::too_many_feeds(),
        Problem::feed_too_old(),
        Problem::read_model_behind(),
        Problem::overloaded(),
        Problem::store_unavailable(),
        Problem::unauthenticated(TokenError::KeysUnavailable),
        Problem::recovering(),
        Problem::access_not_recorded(),
        Problem::outcome_unknown(),
        Problem::internal(),
    ]
}

#[test]
fn every_type_has_a_snapshot_that_holds() {
    let problems = one_of_each();
    let slugs: Vec<_> = problems.iter().map(Problem::slug).collect();
    assert_eq!(slugs, TYPES.iter().map(|kind| kind.slug).collect::<Vec<_>>());
    let bodies: Map<String, Value> = problems
        .iter()
        .map(|problem| (problem.slug().to_owned(), serde_json::to_value(problem.body()).unwrap()))
        .collect();
    let text = format!("{}\n", serde_json::to_string_pretty(&bodies).unwrap());
    let path = root().join("src/problem/snapshots.json");
    if fs::read_to_string(&path).unwrap_or_default() != text {
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, text).unwrap();
        panic!("bodies changed: compare and rename {}", fresh.display());
    }
}

#[test]
fn every_type_has_its_page_and_every_page_its_type() {
    let folder = root().join("../docs/problems");
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    assert_eq!(pages, TYPES.iter().map(|kind| kind.slug.to_owned()).collect());
    for kind in TYPES {
        let page = fs::read_to_string(folder.join(format!("{}.md", kind.slug))).unwrap();
        assert!(
            page.starts_with(&format!("# {}\n\n`{}`, HTTP {}", kind.title, kind.slug, kind.status.as_u16())),
            "{}",
            kind.slug
        );
        let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let example: Value = serde_json::from_str(example).unwrap();
        assert_eq!(example["type"], format!("/problems/{}", kind.slug));
        assert_eq!(example["title"], kind.title);
    }
}

#[test]
fn headers_go_with_the_type() {
    let response = Problem::unauthenticated(TokenError::BadSignature).into_response();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-type"], MEDIA_TYPE);
    assert_eq!(
        response.headers()["www-authenticate"],
        r#"Bearer realm="nexushealth", error="invalid_token", error_description="bad-signature""#
    );
    let response = Problem::unauthenticated(TokenError::Missing).into_response();
    assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="nexushealth""#);
    for problem in one_of_each() {
        let unavailable = problem.status() == StatusCode::SERVICE_UNAVAILABLE;
        let waits =
            unavailable || ["idempotency-in-flight", "rate-limited", "too-many-feeds"].contains(&problem.slug());
        assert_eq!(problem.into_response().headers().contains_key("retry-after"), waits);
    }
    assert_eq!(Problem::rule_violated_always("x", "y").status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[test]
fn bodies_stay_small() {
    let many = (0..10_000).map(|at| Fault::new(format!("/{at}/{}", "é".repeat(500)), "c", "d")).collect();
    let problem = Problem::invalid_value(many);
    assert_eq!(problem.errors().len(), ERRORS_MAX);
    assert!(problem.errors().iter().all(|fault| fault.pointer.len() <= POINTER_BYTES_MAX));
}
