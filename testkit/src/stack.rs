//! The services themselves: the programs that production runs, on a log, a topic and an issuer of this test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use nexus_auth::Role;
use nexus_auth::testing::{AUDIENCE, TestIssuer};
use nexus_event_store::MasterKey;
use nexus_local::{Launch, Lifetime, Process, free_port};
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::{Caller, DEADLINE, TestDatabases, TestTopic, eventually, kafka_address};

const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A program of the platform. The number tells several instances of one program apart; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    CommandApi(u8),
    Relay(u8),
    Projector(u8),
    QueryApi(u8),
}

impl Program {
    /// One of each.
    pub const ALL: [Self; 4] = [Self::CommandApi(0), Self::Relay(0), Self::Projector(0), Self::QueryApi(0)];

    fn binary(self) -> &'static str {
        match self {
            Self::CommandApi(_) => "command-api",
            Self::Relay(_) => "relay",
            Self::Projector(_) => "projector",
            Self::QueryApi(_) => "query-api",
        }
    }

    fn log_name(self) -> String {
        format!("{self:?}.log").replace(['(', ')'], "-")
    }
}

/// The same person at both doors.
pub struct Callers {
    pub write: Caller,
    pub read: Caller,
}

/// Databases, a topic, an issuer, and programs that can be killed. Everything ends when this value is dropped.
pub struct TestStack {
    pub issuer: TestIssuer,
    programs: Mutex<BTreeMap<Program, Running>>,
    overrides: Vec<(&'static str, String)>,
    group_prefix: String,
    folder: tempfile::TempDir,
    pub topic: TestTopic,
    pub databases: TestDatabases,
}

struct Running {
    port: u16,
    launch: Launch,
    process: Option<Process>,
}

impl TestStack {
    /// Starts one of each program and waits until all are ready.
    pub async fn start() -> Self {
        let stack = Self::prepare(&[]).await;
        for program in Program::ALL {
            stack.run(program);
        }
        for program in Program::ALL {
            stack.ready(program).await;
        }
        stack
    }

    /// Everything but the programs. An override replaces a variable of their environment, such as `NEXUS_KAFKA` by the
    /// address of a [`crate::ChaosProxy`].
    pub async fn prepare(overrides: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        MasterKey::generate_file(folder.path().join("master.key")).expect("a master key");
        Self {
            issuer: TestIssuer::start().await,
            programs: Mutex::default(),
            overrides: overrides.to_vec(),
            group_prefix: format!("test-{}.", Uuid::new_v4().simple()),
            folder,
            topic: TestTopic::create().await,
            databases: TestDatabases::create().await,
        }
    }

    /// Starts a program, or another instance of it.
    pub fn run(&self, program: Program) {
        let port = free_port().expect("a free port");
        let launch = self.launch(program, port);
        let process = start(&launch);
        self.programs().insert(program, Running { port, launch, process: Some(process) });
    }

    /// Waits until a program says that it is ready.
    pub async fn ready(&self, program: Program) {
        let caller = Caller::anonymous(self.url(program));
        eventually(&format!("{program:?} is ready"), DEADLINE, async || {
            self.assert_runs(program);
            let answer = caller.request(reqwest::Method::GET, "/readyz").try_answer().await;
            answer.is_ok_and(|answer| answer.status.is_success()).then_some(())
        })
        .await;
    }

    /// Ends a program as a power cut would.
    pub fn kill(&self, program: Program) {
        self.with_process(program, |process| process.kill().expect("it can be killed"));
    }

    /// Asks a program to stop and asserts that it does.
    pub fn stop(&self, program: Program) {
        self.with_process(program, |process| {
            assert!(process.stop(STOP_DEADLINE).expect("it can be stopped"), "{program:?} had to be killed");
        });
    }

    /// Starts a program that was killed or stopped, on its old port.
    pub fn restart(&self, program: Program) {
        let mut programs = self.programs();
        let running = programs.get_mut(&program).expect("it was started before");
        assert!(running.process.is_none(), "{program:?} is running");
        running.process = Some(start(&running.launch));
    }

    /// Freezes a program, as a long pause of the machine would; [`Self::thaw`] lets it go on.
    pub fn freeze(&self, program: Program) {
        self.signal(program, Signal::SIGSTOP);
    }

    pub fn thaw(&self, program: Program) {
        self.signal(program, Signal::SIGCONT);
    }

    pub fn url(&self, program: Program) -> String {
        let programs = self.programs();
        format!("http://127.0.0.1:{}", programs.get(&program).expect("it was started before").port)
    }

    /// Somebody with one role, at both doors.
    pub fn callers(&self, role: Role) -> Callers {
        self.callers_with(&self.issuer.token(role))
    }

    /// A patient, at both doors.
    pub fn patient(&self, patient: Uuid) -> Callers {
        self.callers_with(&self.issuer.patient_token(patient))
    }

    fn callers_with(&self, token: &str) -> Callers {
        Callers {
            write: Caller::with_token(self.url(Program::CommandApi(0)), token),
            read: Caller::with_token(self.url(Program::QueryApi(0)), token),
        }
    }

    /// What a program has said so far.
    pub fn log(&self, program: Program) -> String {
        std::fs::read_to_string(self.folder.path().join(program.log_name())).unwrap_or_default()
    }

    /// Waits until every read model has applied everything that the log holds now.
    pub async fn caught_up(&self) {
        let log = self.databases.log.pool().await;
        let read = self.databases.read.pool().await;
        let heads: Vec<(i32, i64)> = sqlx::query_as("select partition, position from heads where position > 0")
            .fetch_all(&log)
            .await
            .expect("the log has heads");
        let (partitions, positions): (Vec<i32>, Vec<i64>) = heads.into_iter().unzip();
        let expected = nexus_projections::read_models().len() * partitions.len();
        eventually("all read models have caught up", DEADLINE, async || {
            let passed: i64 = sqlx::query_scalar(
                "select count(*) from projection.checkpoints as mine
                 join unnest($1::integer[], $2::bigint[]) as head (partition, position) using (partition)
                 where mine.position >= head.position",
            )
            .bind(&partitions)
            .bind(&positions)
            .fetch_one(&read)
            .await
            .expect("the read database has checkpoints");
            (usize::try_from(passed).expect("a count") >= expected).then_some(())
        })
        .await;
    }

    fn launch(&self, program: Program, port: u16) -> Launch {
        let log = self.folder.path().join(program.log_name());
        let mut launch = Launch::new(binary(program.binary()), self.folder.path(), log);
        let mut variables = vec![
            ("NEXUS_LISTEN", format!("127.0.0.1:{port}")),
            ("NEXUS_KAFKA", kafka_address()),
            ("NEXUS_TOPIC", self.topic.name().to_owned()),
            ("NEXUS_GROUP_PREFIX", self.group_prefix.clone()),
            ("NEXUS_ISSUER", self.issuer.url().to_owned()),
            ("NEXUS_AUDIENCE", AUDIENCE.to_owned()),
            ("NEXUS_MASTER_KEY_FILE", self.folder.path().join("master.key").display().to_string()),
            ("NEXUS_LOG_FORMAT", "json".to_owned()),
        ];
        variables.extend(self.database_urls(program));
        for (name, value) in variables {
            let replaced = self.overrides.iter().find(|(overridden, _)| *overridden == name);
            launch = launch.env(name, replaced.map_or(&value, |(_, replacement)| replacement));
        }
        launch
    }

    fn database_urls(&self, program: Program) -> Vec<(&'static str, String)> {
        let TestDatabases { log, keys, read } = &self.databases;
        let (log_variable, keys_variable, read_variable) = ("NEXUS_LOG_URL", "NEXUS_KEYS_URL", "NEXUS_READ_URL");
        match program {
            Program::CommandApi(_) => {
                vec![(log_variable, log.url("nexus_command")), (keys_variable, keys.url("nexus_command"))]
            }
            Program::Relay(_) => vec![(log_variable, log.url("nexus_relay"))],
            Program::Projector(_) => vec![
                (log_variable, log.url("nexus_projector")),
                (keys_variable, keys.url("nexus_projector")),
                (read_variable, read.url("nexus_projector")),
            ],
            Program::QueryApi(_) => {
                vec![(keys_variable, keys.url("nexus_query")), (read_variable, read.url("nexus_query"))]
            }
        }
    }

    fn assert_runs(&self, program: Program) {
        let mut programs = self.programs();
        let process = programs.get_mut(&program).and_then(|running| running.process.as_mut());
        if let Some(status) = process.expect("it was started before").ended() {
            drop(programs);
            panic!("{program:?} ended ({status}):\n{}", self.log(program));
        }
    }

    fn signal(&self, program: Program, signal: Signal) {
        let programs = self.programs();
        let process = programs.get(&program).and_then(|running| running.process.as_ref());
        process.expect("it is running").signal(signal).expect("it can be signalled");
    }

    /// Takes the process out: after `act` it is gone.
    fn with_process(&self, program: Program, act: impl FnOnce(&mut Process)) {
        let process = self.programs().get_mut(&program).and_then(|running| running.process.take());
        act(&mut process.expect("it is running"));
    }

    fn programs(&self) -> std::sync::MutexGuard<'_, BTreeMap<Program, Running>> {
        self.programs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn start(launch: &Launch) -> Process {
    launch.start(Lifetime::Parent).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Test programs lie in `target/release/deps`, the services one folder up.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let folder = own.ancestors().nth(2).expect("test programs lie in target/release/deps");
    let program = folder.join(name);
    assert!(program.exists(), "{name} is not built; `./nexus test` builds it before the tests");
    program
}
