//! The process as an operator sees it: starts, says what it is, gives tokens, stops when told.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
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
    start_at(folder, "127.0.0.1:0")
}

fn start_at(folder: &std::path::Path, address: &str) -> Running {
    let accounts = json!({"nurse": {"secret_sha256": secret_hash("s3cret"), "roles": ["nurse"], "name": "Demo"}});
    std::fs::write(folder.join("clients.json"), accounts.to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_auth"))
        .args(["--listen", address, "--log-format", "json", "--key-lead-s", "1"])
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

impl Running {
    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    async fn token(&self) -> String {
        let form = [("grant_type", "client_credentials"), ("client_id", "nurse"), ("client_secret", "s3cret")];
        let response = reqwest::Client::new().post(format!("{}/token", self.url)).form(&form).send().await.unwrap();
        response.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned()
    }

    async fn published_keys(&self) -> usize {
        let document: Value =
            reqwest::get(format!("{}/.well-known/jwks.json", self.url)).await.unwrap().json().await.unwrap();
        document["keys"].as_array().unwrap().len()
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not come true in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Doors that are asked all the time, each with tokens that it knows and, every tenth time, one that it has never seen.
struct Load {
    doors: Vec<Verifier>,
    known: Mutex<Vec<String>>,
    fresh: Mutex<Vec<String>>,
    stopped: AtomicBool,
    verified: AtomicUsize,
    verified_fresh: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    async fn run(self: Arc<Self>, worker: usize) {
        let door = &self.doors[worker % self.doors.len()];
        for round in worker.. {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let fresh = if round % 10 == 0 { self.fresh.lock().unwrap().pop() } else { None };
            let is_fresh = fresh.is_some();
            let token = fresh.unwrap_or_else(|| {
                let known = self.known.lock().unwrap();
                known[round % known.len()].clone()
            });
            match door.verify(&token).await {
                Ok(_) if is_fresh => self.verified_fresh.fetch_add(1, Ordering::SeqCst),
                Ok(_) => self.verified.fetch_add(1, Ordering::SeqCst),
                Err(error) => {
                    self.failures.lock().unwrap().push(error.to_string());
                    0
                }
            };
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so much more was verified, of each kind.
    async fn goes_on(&self, known: usize, fresh: usize) {
        let (known_before, fresh_before) =
            (self.verified.load(Ordering::SeqCst), self.verified_fresh.load(Ordering::SeqCst));
        eventually("the load", async || {
            assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
            self.verified.load(Ordering::SeqCst) >= known_before + known
                && self.verified_fresh.load(Ordering::SeqCst) >= fresh_before + fresh
        })
        .await;
    }
}

fn key_id(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_its_death_nor_its_rotations_fail_a_valid_token() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = start(folder.path());
    let address = issuer.url.trim_start_matches("http://").to_owned();
    let config = VerifierConfig { issuer: issuer.url.clone(), audience: "nexushealth".to_owned(), authorities: None };
    let mut doors = Vec::new();
    for _ in 0..2 {
        doors.push(Verifier::connect(config.clone()).await.unwrap());
    }
    eventually("the doors' readiness", async || doors.iter().all(Verifier::ready)).await;
    let mut tokens = Vec::new();
    for _ in 0..120 {
        tokens.push(issuer.token().await);
    }
    let load = Arc::new(Load {
        doors,
        known: Mutex::new(tokens.split_off(100)),
        fresh: Mutex::default(),
        stopped: AtomicBool::new(false),
        verified: AtomicUsize::new(0),
        verified_fresh: AtomicUsize::new(0),
        failures: Mutex::default(),
    });
    let workers: Vec<_> = (0..8).map(|worker| tokio::spawn(Arc::clone(&load).run(worker))).collect();
    load.goes_on(2_000, 0).await;

    issuer.signal("-KILL");
    drop(issuer);
    load.fresh.lock().unwrap().extend(tokens);
    load.goes_on(10_000, 100).await;

    let issuer = start_at(folder.path(), &address);
    let mut key_ids = BTreeSet::from([key_id(&issuer.token().await)]);
    for rotation in 1..=2 {
        issuer.signal("-HUP");
        eventually("the new key's publication", async || issuer.published_keys().await == rotation + 1).await;
        eventually("the new key's signature", async || {
            let token = issuer.token().await;
            key_ids.insert(key_id(&token));
            load.fresh.lock().unwrap().push(token);
            key_ids.len() == rotation + 1
        })
        .await;
        load.goes_on(2_000, 1).await;
    }
    load.stopped.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(*load.failures.lock().unwrap(), Vec::<String>::new());
    println!("{:?} known and {:?} fresh tokens verified", load.verified, load.verified_fresh);
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
    let config = VerifierConfig { issuer: running.url.clone(), audience: "nexushealth".to_owned(), authorities: None };
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
