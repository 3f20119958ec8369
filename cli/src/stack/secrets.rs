//! Passwords and keys of one stack: made once, readable by their owner only, never an argument of a process.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use nexus_auth::Role;
use nexus_event_store::MasterKey;
use nexus_local::write_private;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Service, Stack};

/// Those who treat patients: their demo accounts work at [`DEMO_ORGANIZATION`].
pub const WHO_TREAT: [&str; 3] = ["nurse", "physician", "pharmacist"];
pub const SUPERUSER: &str = "postgres";
/// The owner of the schemas.
pub const OWNER: &str = "nexus_migrator";
pub const ANALYST: &str = "nexus_analyst";
/// The sample patient whose own record the demo account `patient` may see.
pub const DEMO_PATIENT: &str = "7cd3260f-2795-3080-b267-3bb0a9f40624";
/// The practitioner of the sample who is behind the demo account `physician`: has treated [`DEMO_PATIENT`].
pub const DEMO_PRACTITIONER: &str = "06c075c2-c733-3de3-a271-a0e2d5889ba4";
/// The hospital of the sample that the demo accounts of clinicians work for.
pub const DEMO_ORGANIZATION: &str = "d0894f6b-78d7-338d-82ad-b63de4d40014";

const SECRET_BYTES: usize = 32;

/// A demo account for each role, named after it.
pub fn roles() -> Vec<&'static str> {
    Role::ALL.into_iter().map(Role::as_str).collect()
}

/// Who may log in to PostgreSQL: its superuser, the owner of the schemas, analysts, and each service that needs to.
pub fn database_roles() -> Vec<&'static str> {
    let services = Service::ALL.into_iter().filter_map(Service::database_role);
    [SUPERUSER, OWNER, ANALYST].into_iter().chain(services).collect()
}

/// What only this machine's owner may read.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// Role of PostgreSQL → password.
    pub databases: BTreeMap<String, String>,
    /// Demo account → client secret.
    pub accounts: BTreeMap<String, String>,
}

impl Secrets {
    /// The secrets of a stack that has been started before.
    pub fn load(stack: &Stack) -> Result<Self> {
        let path = stack.secret_file("secrets.json");
        let text = std::fs::read(&path).context("this stack has never been started; run `./nexus up` first")?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The secrets of this stack, made now if it is new.
    pub fn load_or_generate(stack: &Stack) -> Result<Self> {
        let master_key = stack.secret_file("master.key");
        if !master_key.exists() {
            MasterKey::generate_file(&master_key)?;
        }
        let secrets = match stack.secret_file("secrets.json").exists() {
            true => Self::load(stack)?.completed()?,
            false => Self { databases: random_for(database_roles())?, accounts: random_for(roles())? },
        };
        write_private(&stack.secret_file("clients.json"), &serde_json::to_vec_pretty(&secrets.clients())?)?;
        write_private(&stack.secret_file("secrets.json"), &serde_json::to_vec_pretty(&secrets)?)?;
        Ok(secrets)
    }

    /// With passwords for roles and accounts that a stack of an older version did not have.
    fn completed(mut self) -> Result<Self> {
        for role in database_roles() {
            if !self.databases.contains_key(role) {
                self.databases.insert(role.to_owned(), random_secret()?);
            }
        }
        for account in roles() {
            if !self.accounts.contains_key(account) {
                self.accounts.insert(account.to_owned(), random_secret()?);
            }
        }
        Ok(self)
    }

    /// The accounts as the issuer reads them: it knows only hashes.
    fn clients(&self) -> serde_json::Value {
        let client = |(account, secret): (&String, &String)| {
            let hash = hex::encode(Sha256::digest(secret.as_bytes()));
            let mut client = json!({ "secret_sha256": hash, "roles": [account], "name": format!("Demo {account}") });
            if !["service", "reactor"].contains(&account.as_str()) {
                client["person"] = true.into();
            }
            if account == "patient" {
                client["patient"] = DEMO_PATIENT.into();
            }
            if WHO_TREAT.contains(&account.as_str()) {
                client["organization"] = DEMO_ORGANIZATION.into();
            }
            if account == "physician" {
                client["fhirUser"] = format!("Practitioner/{DEMO_PRACTITIONER}").into();
            }
            (account.clone(), client)
        };
        self.accounts.iter().map(client).collect::<serde_json::Map<_, _>>().into()
    }
}

fn random_for(names: Vec<&str>) -> Result<BTreeMap<String, String>> {
    names.into_iter().map(|name| Ok((name.to_owned(), random_secret()?))).collect()
}

pub fn random_secret() -> Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).context("the operating system gives no random bytes")?;
    Ok(hex::encode(bytes))
}
