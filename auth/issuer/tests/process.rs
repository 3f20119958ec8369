//! The process as an operator sees it: starts, says what it is, gives tokens, stops when told.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nexus_auth::{Role, Verifier, VerifierConfig, issuer::secret_hash};
use serde_json::{Value, json};

struct Running {
    child: Child,
    url: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone in the good case.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn start(folder: &std::path::Path) -> Running {
    let accounts = json!({"nurse": {"secret_sha256": secret_hash("s3cret"), "roles": ["nurse"], "name": "Demo"}});
    std::fs::write(folder.join("clients.json"), accounts.to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_auth"))
        .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
        .arg("--key-file")
        .arg(folder.join("key.pem"))
        .arg("--clients-file")
        .arg(folder.join("clients.json"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.by_ref().find_map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        line["address"].as_str().map(str::to_owned)
    });
    std::thread::spawn(move || lines.for_each(drop));
    Running { child, url: format!("http://{}", address.unwrap()) }
}

#[tokio::test]
async fn it_starts_serves_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path());
    let client = reqwest::Client::new();
    for path in ["/healthz", "/readyz", "/metrics", "/.well-known/jwks.json"] {
        let status = client.get(format!("{}{path}", running.url)).send().await.unwrap().status();
        assert_eq!(status, 200, "{path}");
    }
    let about: Value = client.get(&running.url).send().await.unwrap().json().await.unwrap();
    assert_eq!(about["issuer"], running.url);
    let metrics = client.get(format!("{}/metrics", running.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("nexus_build_info{service=\"auth\"") && metrics.contains("process_uptime_seconds"));

    let form = [("grant_type", "client_credentials"), ("client_id", "nurse"), ("client_secret", "s3cret")];
    let answer: Value =
        client.post(format!("{}/token", running.url)).form(&form).send().await.unwrap().json().await.unwrap();
    let config = VerifierConfig { issuer: running.url.clone(), audience: "nexushealth".to_owned() };
    let verifier = Verifier::connect(config).await.unwrap();
    let caller = verifier.verify(answer["access_token"].as_str().unwrap()).await.unwrap();
    assert!(caller.has(Role::Nurse));

    assert!(Command::new("kill").arg(running.child.id().to_string()).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = running.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it did not stop");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
}

#[test]
fn it_refuses_to_listen_beyond_loopback() {
    let output = Command::new(env!("CARGO_BIN_EXE_auth"))
        .args(["--listen", "0.0.0.0:7400", "--key-file", "/nonexistent/key", "--clients-file", "/nonexistent/clients"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback only"));
}
