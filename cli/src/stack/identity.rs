//! Who signs tokens for a stack: the built-in issuer, or Keycloak with our realm and an account for each demo role.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nexus_auth::issuer::SigningKeys;
use nexus_local::{Keycloak, jars, keycloak, write_private};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::secrets::{DEMO_ORGANIZATION, DEMO_PATIENT, DEMO_PRACTITIONER, WHO_TREAT, random_secret, roles};
use super::{Service, Stack};
use crate::output;

/// The role and the database of Keycloak in PostgreSQL.
pub const KEYCLOAK_DATABASE: &str = "nexus_keycloak";
/// The client of the realm that all demo accounts are made after.
const TEMPLATE: &str = "service";
const ASSERTION_LIFETIME_SECONDS: u64 = 60;

/// Whose tokens the doors believe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum IdentityProvider {
    /// The built-in issuer: starts at once, for demo and service accounts on one machine.
    #[default]
    Auth,
    /// Keycloak: an identity provider for people, with a second factor. Its first start takes minutes.
    Keycloak,
}

/// Passwords that only a stack with Keycloak has.
#[derive(Serialize, Deserialize)]
pub struct KeycloakSecrets {
    /// Of its role in PostgreSQL.
    pub database: String,
    /// Of its first administrator, `admin`.
    pub admin: String,
}

impl KeycloakSecrets {
    pub fn load_or_generate(stack: &Stack) -> Result<Self> {
        let path = stack.secret_file("keycloak.json");
        if path.exists() {
            return serde_json::from_slice(&std::fs::read(&path)?)
                .with_context(|| format!("{} is damaged", path.display()));
        }
        let secrets = Self { database: random_secret()?, admin: random_secret()? };
        write_private(&path, &serde_json::to_vec_pretty(&secrets)?)?;
        Ok(secrets)
    }
}

impl Stack {
    pub fn identity_provider(&self) -> IdentityProvider {
        match std::fs::read_to_string(self.identity_provider_file()) {
            Ok(text) if text == "keycloak" => IdentityProvider::Keycloak,
            _ => IdentityProvider::Auth,
        }
    }

    pub fn choose(&self, identity_provider: IdentityProvider) -> Result<()> {
        let name = if identity_provider == IdentityProvider::Keycloak { "keycloak" } else { "auth" };
        Ok(std::fs::write(self.identity_provider_file(), name)?)
    }

    /// The `iss` of the tokens that the doors believe.
    pub fn issuer(&self) -> String {
        let url = format!("https://127.0.0.1:{}", self.ports.auth());
        match self.identity_provider() {
            IdentityProvider::Auth => url,
            IdentityProvider::Keycloak => format!("{url}/realms/{}", keycloak::REALM),
        }
    }

    pub fn keycloak(&self) -> Result<Keycloak> {
        let secrets = KeycloakSecrets::load_or_generate(self)?;
        Ok(Keycloak {
            folder: self.folder.join("keycloak"),
            port: self.ports.auth(),
            distribution: jars::folder(&self.home.path("infra/keycloak/pom.xml"), &self.home.cache()?, "keycloak")?,
            tls: self.tls_files(Service::Auth.name()),
            database: (self.ports.postgres(), KEYCLOAK_DATABASE.to_owned(), secrets.database),
            admin_password: secrets.admin,
            realm: realm(self)?.to_string(),
            log: self.log_file("keycloak"),
        })
    }

    fn identity_provider_file(&self) -> std::path::PathBuf {
        self.folder.join("identity-provider")
    }
}

/// Fetches, unpacks and builds Keycloak; quick when that was done before.
pub async fn prepare_keycloak(stack: &Stack) -> Result<()> {
    let stack = stack.clone();
    let pom = stack.home.path("infra/keycloak/pom.xml");
    if !jars::folder(&pom, &stack.home.cache()?, "keycloak")?.exists() {
        output::note("  fetching Keycloak from Maven Central, once for this checkout; that may take minutes");
    }
    let prepare = move || {
        jars::fetch(&pom, &stack.home.cache()?, "keycloak")?;
        stack.keycloak()?.prepare()
    };
    tokio::task::spawn_blocking(prepare).await?
}

/// What Keycloak wants to see before it gives the demo account a token (`private_key_jwt`, RFC 7523).
pub fn assertion(stack: &Stack, account: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": account, "sub": account, "aud": stack.issuer(), "jti": Uuid::new_v4(),
        "iat": now, "exp": now + ASSERTION_LIFETIME_SECONDS,
    });
    Ok(service_keys(stack)?.current().sign("JWT", &claims)?)
}

/// The key with which the command line proves itself to Keycloak, which knows its public half only.
fn service_keys(stack: &Stack) -> Result<SigningKeys> {
    SigningKeys::load_or_generate(&stack.secret_file("service-key.pem")).context("the key of the demo accounts")
}

/// Our realm, with a service account for each demo role.
fn realm(stack: &Stack) -> Result<Value> {
    let path = stack.home.path("infra/keycloak/realm.json");
    let text = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let keys = service_keys(stack)?.public_set().to_string();
    with_demo_accounts(serde_json::from_slice(&text)?, &keys)
        .context("infra/keycloak/realm.json has no client `service`")
}

fn with_demo_accounts(mut realm: Value, keys: &str) -> Option<Value> {
    let clients = realm["clients"].as_array_mut()?;
    let place = clients.iter().position(|client| client["clientId"] == TEMPLATE)?;
    let template = clients.remove(place);
    clients.extend(roles().into_iter().map(|role| {
        let mut client = template.clone();
        client["clientId"] = role.into();
        client["name"] = format!("Demo {role}").into();
        client["attributes"]["jwks.string"] = keys.into();
        client
    }));
    realm["users"] = roles().into_iter().map(account_of_role).collect();
    Some(realm)
}

fn account_of_role(role: &str) -> Value {
    let mut account = json!({
        "username": format!("service-account-{role}"), "enabled": true, "serviceAccountClientId": role,
        "realmRoles": [role],
    });
    // As the built-in issuer's accounts have them.
    if role == "patient" {
        account["attributes"]["patient"] = json!([DEMO_PATIENT]);
    }
    if WHO_TREAT.contains(&role) {
        account["attributes"]["organization"] = json!([DEMO_ORGANIZATION]);
    }
    if role == "physician" {
        account["attributes"]["fhirUser"] = json!([format!("Practitioner/{DEMO_PRACTITIONER}")]);
    }
    account
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shipped() -> Value {
        serde_json::from_str(include_str!("../../../infra/keycloak/realm.json")).unwrap()
    }

    #[test]
    fn the_realm_knows_our_roles_and_no_others() {
        let realm = shipped();
        let roles: BTreeSet<&str> =
            realm["roles"]["realm"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
        assert_eq!(roles, nexus_auth::Role::ALL.into_iter().map(nexus_auth::Role::as_str).collect());
        assert_eq!(realm["realm"], keycloak::REALM);
    }

    #[test]
    fn the_realm_is_as_strict_as_we_say() {
        let realm = shipped();
        for (name, value) in [
            ("defaultSignatureAlgorithm", json!("ES256")),
            ("accessTokenLifespan", json!(300)),
            ("revokeRefreshToken", json!(true)),
            ("refreshTokenMaxReuse", json!(0)),
            ("bruteForceProtected", json!(true)),
            ("registrationAllowed", json!(false)),
            ("browserFlow", json!("people")),
            ("directGrantFlow", json!("nobody")),
        ] {
            assert_eq!(realm[name], value, "{name}");
        }
        for client in realm["clients"].as_array().unwrap() {
            assert_eq!(client["directAccessGrantsEnabled"], false);
            assert_eq!(client["implicitFlowEnabled"], false);
            let signs = client["attributes"]["token.endpoint.auth.signing.alg"] == "ES256";
            let has_pkce = client["attributes"]["pkce.code.challenge.method"] == "S256";
            assert!(if client["publicClient"] == true { has_pkce } else { signs });
        }
    }

    #[test]
    fn each_demo_role_has_an_account_with_the_key() {
        let realm = with_demo_accounts(shipped(), r#"{"keys":["x"]}"#).unwrap();
        for role in roles() {
            let client = realm["clients"].as_array().unwrap().iter().find(|client| client["clientId"] == role).unwrap();
            assert_eq!(client["attributes"]["jwks.string"], r#"{"keys":["x"]}"#);
            let account = realm["users"].as_array().unwrap().iter().find(|user| user["serviceAccountClientId"] == role);
            assert_eq!(account.unwrap()["realmRoles"], json!([role]));
        }
    }
}
