//! An outside judge of a door: schemathesis makes requests up from its OpenAPI document, valid ones and others.

use std::process::Command;

/// What must hold of every answer: no 5xx, no status, media type or body that the document does not tell, nothing without
/// a token that needs one, and no method that the document does not know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      ignored_auth,unsupported_method";
/// A pass is bounded and the same each time; `SCHEMATHESIS_EXAMPLES` and `SCHEMATHESIS_SEED` make it longer, or another.
const EXAMPLES_DEFAULT: &str = "5";
const SEED_DEFAULT: &str = "1";
/// How long an answer may take: longer than the longest wait that a client can ask a door for, which is ten seconds.
const ANSWER_SECONDS_MAX: &str = "30";

/// Runs schemathesis against the door at `url`, with this bearer token, and panics with what it found.
///
/// `./nexus test` installs the program and tells where it is (`NEXUS_TEST_SCHEMATHESIS`).
pub async fn schemathesis(url: &str, token: &str) {
    let program = std::env::var("NEXUS_TEST_SCHEMATHESIS")
        .expect("NEXUS_TEST_SCHEMATHESIS is not set: run this test with `./nexus test --filter schemathesis`");
    let setting = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(program);
    command.current_dir(folder.path()).arg("run").arg(format!("{url}/openapi.json"));
    // A feed goes on for as long as its token holds.
    command.args(["--exclude-path-regex", "/feed$"]);
    command.args(["--header", &format!("Authorization: Bearer {token}")]).args(["--checks", CHECKS]);
    command.args(["--request-timeout", ANSWER_SECONDS_MAX]);
    command.args(["--seed", &setting("SCHEMATHESIS_SEED", SEED_DEFAULT)]);
    command.args(["--max-examples", &setting("SCHEMATHESIS_EXAMPLES", EXAMPLES_DEFAULT)]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--warnings",
        "off",
        "--continue-on-failure",
        "--no-shrink",
    ]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
    let output = output.expect("schemathesis can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    // A run that tested nothing would pass too.
    assert!(told.contains(" passed"), "{told}");
}
