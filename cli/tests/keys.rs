//! `nexus keys` on a key database of its own, as an operator types it.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::path::Path;
use std::process::Command;

use nexus_event_store::{Keyring, MasterKey, migrate_keys};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

struct Store {
    url: String,
    name: String,
    server: PgConnectOptions,
    pool: PgPool,
}

impl Store {
    async fn new() -> Self {
        let server = std::env::var("NEXUS_TEST_POSTGRES").expect("NEXUS_TEST_POSTGRES is set by ./nexus test");
        let name = format!("test_keys_{}", Uuid::new_v4().simple());
        let (before, _) = server.rsplit_once('/').unwrap();
        let url = format!("{before}/{name}");
        let server: PgConnectOptions = server.parse().unwrap();
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        admin.execute(&*format!("create database {name}")).await.unwrap();
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        migrate_keys(&pool).await.unwrap();
        Self { url, name, server, pool }
    }

    async fn keyring(&self, file: &Path) -> Keyring {
        Keyring::connect(self.pool.clone(), MasterKey::from_file(file).unwrap()).await.unwrap()
    }

    /// What the command prints as JSON, or what it says when it fails.
    fn keys(&self, args: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
        let command = command.arg("keys").args(args).arg("--json").env("NEXUS_KEYS_URL", &self.url);
        let output = command.env_remove("NEXUS_MASTER_KEY_FILE").output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    async fn drop(self) {
        let mut admin = PgConnection::connect_with(&self.server).await.unwrap();
        admin.execute(&*format!("drop database {} with (force)", self.name)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_replaces_every_kind_of_key() {
    let store = Store::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master.key");
    MasterKey::generate_file(&file).unwrap();
    let path = file.to_str().unwrap();
    let subject = Uuid::new_v4();
    let keyring = store.keyring(&file).await;
    keyring.ensure(&[subject, Uuid::new_v4()]).await.unwrap();
    let (key, blind) = (keyring.key(subject).await.unwrap(), keyring.blind("mrn", "1"));
    let row = keyring.seal_row(&key, "chart/problems/1", b"row");

    let begun = store.keys(&["rotate", "generation", "--master-key-file", path]).unwrap();
    assert_eq!((&begun["generation"], &begun["rewrapped"], &begun["leftBehind"]), (&2.into(), &2.into(), &0.into()));
    let replaced = store.keys(&["rotate", "subject", &subject.to_string(), "--master-key-file", path]).unwrap();
    assert_ne!(replaced["keyId"], key.id().to_string());
    let refused = store.keys(&["rotate", "subject", &Uuid::new_v4().to_string(), "--master-key-file", path]);
    assert!(refused.unwrap_err().contains("never had a key"));

    // As after a kill between the commit and the new file's move to its place.
    let (old, next) = (MasterKey::from_file(&file).unwrap(), folder.path().join("master.key.new"));
    MasterKey::generate_file(&next).unwrap();
    let new = MasterKey::from_file(&next).unwrap();
    let by = nexus_event_store::keyring::rotate::master(&store.pool, &old, &new).await.unwrap().wrapped_by;
    let rotated = store.keys(&["rotate", "master", "--master-key-file", path]).unwrap();
    assert_eq!(rotated["wrappedBy"], by);
    assert!(!next.exists() && Path::new(rotated["oldKeyFile"].as_str().unwrap()).exists());

    let fresh = store.keyring(&file).await;
    assert_eq!(fresh.blind("mrn", "1"), blind);
    let key = fresh.key(subject).await.unwrap();
    assert_eq!(fresh.open_row(&key, "chart/problems/1", &row).unwrap(), b"row");
    let status = store.keys(&["status"]).unwrap();
    assert_eq!(status["masters"][&by], 3);
    assert_eq!((&status["subjects"], &status["keysRetired"]), (&2.into(), &1.into()));
    assert_eq!(status["generations"][1]["keysCurrent"], 2);
    store.drop().await;
}
