//! The master key in Vault's Transit engine. With `NEXUS_TEST_VAULT`, the path of a `vault` or `bao` program, what both
//! must do is tried against a real server; without, against a stand-in that speaks the documented wire format.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod real;
mod stand_in;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use common::{World, append, appended, event, eventually, registration};
use nexus_event_store::keyring::rotate::{self, Pace};
use nexus_event_store::keyring::status;
use nexus_event_store::{Error, Keyring, MasterKey, MasterKeyArgs};
use serde_json::json;
use stand_in::{JWT, ROOT_TOKEN, SECRET_ID, StandIn};
use tempfile::TempDir;
use uuid::Uuid;

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    master_key: MasterKeyArgs,
}

fn master(args: &[&str]) -> MasterKey {
    Settings::try_parse_from([&["process"], args].concat()).unwrap().master_key.open().unwrap()
}

fn secret_file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A server with the Transit engine, real or not.
struct Vault {
    address: String,
    token: String,
    folder: TempDir,
    stand_in: Option<StandIn>,
    _real: Option<real::Server>,
}

impl Vault {
    async fn start() -> Self {
        match std::env::var_os("NEXUS_TEST_VAULT") {
            Some(program) => Self::real(&PathBuf::from(program)).await,
            None => Self::stand_in().await,
        }
    }

    async fn real(program: &Path) -> Self {
        let server = real::Server::start(program).await;
        let (address, token) = (server.address.clone(), server.token.clone());
        let folder = tempfile::tempdir().unwrap();
        let vault = Self { address, token, folder, stand_in: None, _real: Some(server) };
        vault.post("sys/mounts/transit", json!({"type": "transit"})).await;
        vault
    }

    async fn stand_in() -> Self {
        let (stand_in, address) = StandIn::start().await;
        let folder = tempfile::tempdir().unwrap();
        Self { address, token: ROOT_TOKEN.into(), folder, stand_in: Some(stand_in), _real: None }
    }

    /// What an administrator asks of the server.
    async fn post(&self, path: &str, body: serde_json::Value) -> serde_json::Value {
        let request = reqwest::Client::new().post(format!("{}/v1/{path}", self.address)).json(&body);
        let answer = request.header("X-Vault-Token", &self.token).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
    }

    async fn make_key(&self, key: &str) {
        self.post(&format!("transit/keys/{key}"), json!({})).await;
    }

    /// The master key as whoever has the token sees it.
    fn master(&self, more: &[&str]) -> MasterKey {
        let file = secret_file(&self.folder, "token", &self.token);
        master(&[&["--vault-addr", &self.address, "--vault-token-file", &file], more].concat())
    }
}

fn said(error: &Error) -> String {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn refused(world: &World, master: MasterKey) -> String {
    said(&Keyring::connect(world.keys_as("nexus_command"), master).await.err().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_lives_under_a_transit_key_and_its_versions() {
    let vault = Vault::start().await;
    let mut world = World::new().await;
    world.master = vault.master(&[]);
    if vault.stand_in.is_some() {
        // A real server makes keys for whoever may make them, as the root token may.
        assert!(refused(&world, world.master.clone()).await.contains("does not exist"));
    }
    vault.make_key("nexus").await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    let now = status(&world.keys_owner()).await.unwrap();
    assert_eq!(now.masters, [("vault:transit/nexus:v1".to_owned(), 2)].into());

    vault.post("transit/keys/nexus/rotate", json!({})).await;
    let rotated = rotate::master(&world.keys_owner(), &world.master, &world.master).await.unwrap();
    assert_eq!(rotated.wrapped_by, "vault:transit/nexus:v2");
    assert_eq!(world.event_log().await.stream("Patient", id).await.unwrap().len(), 1);
    assert_eq!(world.keyring().await.blind("mrn", "1"), log.keyring().blind("mrn", "1"));

    // One wrapped key in another's place: the name is bound.
    let swap = "update generations set wrapped = (select wrapped from secrets limit 1)";
    sqlx::query(swap).execute(&world.keys_owner()).await.unwrap();
    let refused = Keyring::connect(world.keys_as("nexus_command"), world.master.clone()).await.err().unwrap();
    assert!(matches!(refused, Error::WrongMasterKey { .. }), "{refused:?}");
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_from_a_file_to_vault_and_back() {
    let vault = Vault::start().await;
    vault.make_key("nexus").await;
    let mut world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());

    let file = std::mem::replace(&mut world.master, vault.master(&[]));
    assert!(refused(&world, world.master.clone()).await.contains("wrapped by file:"));
    rotate::master(&world.keys_owner(), &file, &world.master).await.unwrap();
    assert!(refused(&world, file.clone()).await.contains("wrapped by vault:transit/nexus:v1"));
    let moved = world.event_log().await;
    assert_eq!(moved.stream("Patient", id).await.unwrap().len(), 1);
    rotate::generation(&world.keys_owner(), &world.master, Pace::default(), |_| ()).await.unwrap();
    appended(moved.append(registration()).await.unwrap());

    rotate::master(&world.keys_owner(), &world.master, &file).await.unwrap();
    world.master = file;
    assert_eq!(world.event_log().await.stream("Patient", id).await.unwrap().len(), 1);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_signs_in_with_an_app_role() {
    let vault = Vault::start().await;
    vault.make_key("nexus").await;
    let (role_id, secret_id) = match &vault.stand_in {
        Some(_) => ("nexus-role".to_owned(), SECRET_ID.to_owned()),
        None => real::app_role(&vault).await,
    };
    let file = secret_file(&vault.folder, "secret-id", &secret_id);
    let login = ["--vault-addr", &vault.address, "--vault-role-id", &role_id, "--vault-secret-id-file", &file];
    let mut world = World::new().await;
    world.master = master(&login);
    world.keyring().await.ensure(&[Uuid::new_v4()]).await.unwrap();
    world.keyring().await;

    let denied = secret_file(&vault.folder, "token", "s.nobody");
    let nobody = master(&["--vault-addr", &vault.address, "--vault-token-file", &denied]);
    assert!(refused(&world, nobody).await.contains("denies it"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&world, master(&login)).await.contains("anybody has access"));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_away_stops_no_service_that_runs_and_is_waited_for_at_start() {
    let vault = Vault::stand_in().await;
    vault.make_key("nexus").await;
    let stand_in = vault.stand_in.as_ref().unwrap();
    let mut world = World::new().await;
    world.master = vault.master(&["--vault-namespace", "health"]);
    let log = world.event_log().await;
    assert_eq!(stand_in.inside().namespace.as_deref(), Some("health"));

    stand_in.inside().sealed = true;
    for _ in 0..20 {
        appended(log.append(registration()).await.unwrap());
    }
    let starting = {
        let (pool, master) = (world.keys_as("nexus_query"), world.master.clone());
        tokio::spawn(async move { Keyring::connect(pool, master).await })
    };
    // A revocation is noticed all the same.
    let subject = Uuid::new_v4();
    log.keyring().ensure(&[subject]).await.unwrap();
    let erase = "update subject_keys set state = 'erased', wrapped = null where subject = $1";
    sqlx::query(erase).bind(subject).execute(&world.keys_owner()).await.unwrap();
    eventually("the erasure is noticed", || async { log.keyring().key(subject).await.is_err() }).await;
    assert!(!starting.is_finished(), "a start waits for the master key");
    stand_in.inside().sealed = false;
    starting.await.unwrap().unwrap();
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_it_lasts_and_asked_for_anew_after() {
    let vault = Vault::stand_in().await;
    vault.make_key("nexus").await;
    let stand_in = vault.stand_in.as_ref().unwrap();
    let jwt = secret_file(&vault.folder, "jwt", JWT);
    let mut world = World::new().await;
    world.master = master(&["--vault-addr", &vault.address, "--vault-role", "nexus", "--vault-jwt-file", &jwt]);
    stand_in.inside().token_lifetime = Duration::from_secs(2);
    world.keyring().await;
    assert_eq!(stand_in.inside().sign_ins, 1, "one token serves all calls");
    eventually("a lease in its second half is renewed", || async {
        world.keyring().await;
        stand_in.inside().renewals == 1
    })
    .await;
    stand_in.inside().renewable = false;
    eventually("one that can't be renewed is asked for anew", || async {
        world.keyring().await;
        stand_in.inside().sign_ins >= 2
    })
    .await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transit_that_does_not_bind_the_name_is_refused() {
    let vault = Vault::stand_in().await;
    vault.make_key("nexus").await;
    vault.stand_in.as_ref().unwrap().inside().binds_nothing = true;
    let world = World::new().await;
    assert!(refused(&world, vault.master(&[])).await.contains("binds neither"));
    world.drop().await;
}
