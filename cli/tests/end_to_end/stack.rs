//! A stack of real processes, started and stopped through the command line. It ends with the test, however that ends.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nexus_event_store::kafka::KafkaArgs;
use nexus_local::Ports;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::DEADLINE;

const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);
/// Where the demo accounts of those who treat patients work; of the sample.
pub const HOSPITAL: &str = "d0894f6b-78d7-338d-82ad-b63de4d40014";
/// What the issue of the first release promises for a second `up`.
const SECOND_UP_AT_MOST: std::time::Duration = std::time::Duration::from_secs(20);

/// Stopped and deleted when dropped, however the test ends.
pub struct Stack {
    pub port_base: u16,
    pub folder: PathBuf,
    pub http: reqwest::Client,
    printed: String,
}

impl Stack {
    pub async fn start(options: &[&str]) -> Self {
        let mut stack = Self {
            port_base: free_range(),
            folder: PathBuf::new(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            printed: String::new(),
        };
        // An earlier test that was interrupted may have left its data.
        stack.printed = stack.nexus(&[&["up", "--fresh"], options].concat());
        let status = stack.ready_status().await;
        stack.folder = PathBuf::from(status["state_dir"].as_str().unwrap());
        stack.http = stack.client(None);
        stack
    }

    /// The status, once everything is ready: on a busy machine a single probe may come too late.
    pub async fn ready_status(&self) -> Value {
        let started = Instant::now();
        loop {
            let output = self.command(&["status", "--json"]).output().unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status["ready"] == Value::Bool(true) {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "the stack is not ready: {status}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Runs the program and answers what it printed; it must succeed.
    pub fn nexus(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "nexus {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
        command.args(["--port-base", &self.port_base.to_string()]).args(arguments);
        command.env("NEXUS_HOME", home()).env("NEXUS_DIES_WITH", std::process::id().to_string()).current_dir(home());
        command
    }

    pub async fn up_again_is_quick_and_adds_nothing(&self) {
        let before = self.heads().await;
        let started = Instant::now();
        self.nexus(&["up"]);
        assert!(started.elapsed() < SECOND_UP_AT_MOST, "a second `up` took {:?}", started.elapsed());
        assert_eq!(before, self.heads().await);
    }

    pub async fn import_sample(&self) -> Value {
        self.import(&home().join("sample")).await
    }

    /// Imports a folder and answers the report.
    pub async fn import(&self, folder: &Path) -> Value {
        let mut command = self.command(&["import", "--json"]);
        command.arg(folder);
        // It fails if anything was refused; the report says what.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Kills one process after the other, spread evenly over the events that are expected.
    pub async fn kill_each(&self, names: &[&str], pids: &BTreeMap<String, i32>, events: usize) {
        let (log, started) = (self.database("nexus_log").await, Instant::now());
        for (number, name) in (1..).zip(names) {
            let enough = i64::try_from(events * number / (names.len() + 1)).unwrap();
            loop {
                let seen: i64 = sqlx::query_scalar("select coalesce(sum(position), 0)::bigint from heads")
                    .fetch_one(&log)
                    .await
                    .unwrap();
                if seen >= enough {
                    break;
                }
                assert!(started.elapsed() < DEADLINE, "{seen} of {enough} events, and {name} is still to be killed");
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            self.kill(name, pids[*name]).await;
        }
    }

    /// Kills a process; one that has just been started again has another number by now.
    pub async fn kill(&self, name: &str, mut pid: i32) {
        while let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
            assert_eq!(error, Errno::ESRCH, "{name} can't be killed");
            pid = self.pids().await[name];
        }
    }

    /// The processes by name, once all of them run.
    pub async fn pids(&self) -> BTreeMap<String, i32> {
        let status = self.ready_status().await;
        let services = status["services"].as_array().unwrap();
        let pid = |service: &Value| i32::try_from(service["pid"].as_i64().unwrap()).unwrap();
        services.iter().map(|service| (service["name"].as_str().unwrap().to_owned(), pid(service))).collect()
    }

    /// Sends a request as a patient client does: one that is over its quota comes back when it is told to.
    pub async fn send(&self, request: RequestBuilder) -> Response {
        loop {
            let answer = request.try_clone().unwrap().send().await.unwrap();
            if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                return answer;
            }
            let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
        }
    }

    /// Begins an encounter of each patient where the nurse works: without one the record is not theirs to read or write in.
    pub async fn take_into_care(&self, patients: &[&str]) {
        let nurse = self.token("nurse");
        let class = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"});
        let body = json!({"class": class, "organization": HOSPITAL});
        for patient in patients {
            let url = format!("{}/v1/patients/{patient}/encounters", self.write_door());
            let begun = self.send(self.http.post(url).bearer_auth(&nurse).json(&body)).await;
            assert_eq!(begun.status(), StatusCode::CREATED, "{}", begun.text().await.unwrap());
        }
    }

    pub fn token(&self, role: &str) -> String {
        self.nexus(&["token", role]).trim().to_owned()
    }

    pub fn write_door(&self) -> String {
        format!("https://127.0.0.1:{}", self.port_base + 1)
    }

    pub fn read_door(&self) -> String {
        format!("https://127.0.0.1:{}", self.port_base + 2)
    }

    /// Kafka as its administrator reaches it.
    pub fn kafka(&self) -> KafkaArgs {
        self.kafka_as("admin")
    }

    /// Kafka, with the certificate of this name.
    pub fn kafka_as(&self, name: &str) -> KafkaArgs {
        let mut kafka = KafkaArgs::from(format!("127.0.0.1:{}", self.port_base + 6));
        kafka.tls.ca_file = Some(self.authority());
        kafka.tls.client_cert_file = Some(self.identity(name));
        kafka.tls.client_key_file = Some(self.identity(name));
        kafka
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The certificate and key of this name.
    pub fn identity(&self, name: &str) -> PathBuf {
        self.folder.join(format!("secrets/tls/{name}.pem"))
    }

    /// An HTTP client that believes the stack's authority alone, and shows the certificate of this name.
    pub fn client(&self, name: Option<&str>) -> reqwest::Client {
        let authority = reqwest::Certificate::from_pem(&std::fs::read(self.authority()).unwrap()).unwrap();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
        let identity = |name| reqwest::Identity::from_pem(&std::fs::read(self.identity(name)).unwrap()).unwrap();
        name.map(identity).into_iter().fold(builder, reqwest::ClientBuilder::identity).build().unwrap()
    }

    /// The certificate that a server shows now, if it lets `openssl` in.
    pub fn served_certificate(&self, port: u16, options: &[&str]) -> Option<String> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port_base + port)]).args(options);
        command.arg("-cert").arg(self.identity("admin")).arg("-key").arg(self.identity("admin"));
        let output = command.arg("-CAfile").arg(self.authority()).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
        Some(rest.split_once("-----END CERTIFICATE-----")?.0.to_owned())
    }

    /// One of the stack's databases, as its superuser.
    pub async fn database(&self, name: &str) -> PgPool {
        let (authority, identity) = (self.authority(), self.identity("admin"));
        let options: PgConnectOptions = self.bare_database_url("postgres", name).parse().unwrap();
        let options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(authority);
        PgPool::connect_with(options.ssl_client_cert(&identity).ssl_client_key(&identity)).await.unwrap()
    }

    /// The address of a database with a role's password, without what TLS needs.
    pub fn bare_database_url(&self, role: &str, name: &str) -> String {
        let secrets: Value =
            serde_json::from_slice(&std::fs::read(self.folder.join("secrets/secrets.json")).unwrap()).unwrap();
        let password = secrets["databases"][role].as_str().unwrap();
        format!("postgres://{role}:{password}@127.0.0.1:{}/{name}", self.port_base + 5)
    }

    pub async fn heads(&self) -> Vec<(i32, i64)> {
        let log = self.database("nexus_log").await;
        sqlx::query_as("select partition, position from heads order by partition").fetch_all(&log).await.unwrap()
    }

    /// Waits until every checkpoint of the log of events stands at its head.
    pub async fn wait_until_read_models_are_level(&self) {
        self.wait_until_level(&self.database("nexus_read").await).await;
    }

    /// The same for another database that this stack's log is folded into.
    pub async fn wait_until_level(&self, read: &PgPool) {
        let heads = self.heads().await;
        let models = nexus_projections::read_models().len();
        let started = Instant::now();
        loop {
            let rows: Vec<(i32, i64, i64)> = sqlx::query_as(
                "select partition, min(position), count(*)
                 from projection.checkpoints join projection.versions using (read_model)
                 where log = 'events' and served group by partition order by partition",
            )
            .fetch_all(read)
            .await
            .unwrap();
            let level = heads.iter().all(|(partition, head)| {
                *head == 0 || rows.iter().any(|row| row.0 == *partition && row.1 >= *head && row.2 == models as i64)
            });
            if level {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "read models do not catch up: {rows:?} of {heads:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// What `up` printed.
    pub fn printed(&self) -> &str {
        &self.printed
    }

    /// The shell commands that `up` printed under "requests to try".
    pub fn printed_requests(&self) -> &str {
        let (_, requests) = self.printed.split_once("requests to try").expect("`up` prints requests to try");
        requests.split("\n\n").nth(1).expect("the requests are a paragraph")
    }

    /// Runs the printed requests in a shell, in the checkout, with the program under test as `./nexus`.
    pub fn run_as_printed(&self, shell: &str) -> Vec<Value> {
        let program = format!("'{}'", env!("CARGO_BIN_EXE_nexus"));
        let requests = self.printed_requests().replace("./nexus", &program);
        let mut command = Command::new(shell);
        let output = command.args(["-c", &requests]).env("NEXUS_HOME", home()).current_dir(home()).output().unwrap();
        let answers: serde_json::Result<Vec<Value>> =
            serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect();
        answers.unwrap_or_else(|_| panic!("`{requests}` answered: {output:?}"))
    }

    pub async fn down(self) {
        self.nexus(&["down"]);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(self.command(&["down"]).output());
        if std::thread::panicking() {
            eprintln!("the logs of the stack are kept in {}", self.folder.display());
        } else if self.folder.ends_with(format!("stack-{}", self.port_base)) {
            std::fs::remove_dir_all(&self.folder).ok();
            std::fs::remove_file(self.folder.with_extension("up.lock")).ok();
        }
    }
}

pub fn home() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Free ports in a row, as many as a stack has, below the range from which the system hands out ports.
fn free_range() -> u16 {
    let start = 20_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 10;
    let free = |base: &u16| Ports { base: *base }.all().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    (start..32_000).step_by(10).find(free).expect("free ports in a row")
}
