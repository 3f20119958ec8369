//! Both servers, for real: started, asked, stopped, started again.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::time::Duration;

use nexus_local::{Authentication, Durability, Kafka, Lifetime, Postgres, free_ports, jars, postgres};

const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A folder that the account of PostgreSQL can enter; temporary folders are closed to others.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn postgres_starts_stops_and_starts_again() {
    let folder = open_folder();
    let server = Postgres {
        folder: folder.path().join("postgres"),
        port: free_ports(1).unwrap()[0],
        durability: Durability::Throwaway,
        authentication: Authentication::Password("of-a-test".to_owned()),
        log: folder.path().join("postgres.log"),
        tls: None,
    };
    for _ in 0..2 {
        let mut process = server.start(Lifetime::Parent).unwrap();
        assert!(postgres::is_ready(server.port));
        assert!(process.stop(STOP_DEADLINE).unwrap());
        assert!(!postgres::is_ready(server.port));
    }
    assert!(!server.folder.join("initial-password").exists());
}

#[test]
fn kafka_starts_and_survives_a_kill() {
    let folder = open_folder();
    let ports = free_ports(2).unwrap();
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka/pom.xml");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("jars");
    let broker = Kafka {
        folder: folder.path().join("kafka"),
        port: ports[0],
        controller_port: ports[1],
        jars: jars::fetch(&pom, &cache, "kafka").unwrap(),
        log: folder.path().join("kafka.log"),
        tls: None,
        detours: Vec::new(),
    };
    broker.start(Lifetime::Parent).unwrap().kill().unwrap();
    let _process = broker.start(Lifetime::Parent).unwrap();
    assert!(broker.is_ready(Duration::from_secs(5)));
    assert!(broker.version().unwrap().starts_with("4."));
}
