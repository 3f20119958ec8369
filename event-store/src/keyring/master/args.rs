//! The settings that say where the master key is, the same for every process that opens keys.

use std::path::PathBuf;

use super::vault::{Login, VaultKey, VaultSettings};
use super::{MasterKey, MasterKeyError};
use crate::error::Error;

/// Where Kubernetes puts the token of a pod's account.
const KUBERNETES_TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where the master key is: in a file, or in the Transit engine of a Vault.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MasterKeyArgs {
    /// The file with the master key; readable by its owner only.
    #[arg(long, env = "NEXUS_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// Boxed: the settings of a service would otherwise be mostly these.
    #[command(flatten)]
    vault: Box<VaultArgs>,
}

/// The Transit key, and how to sign in.
#[derive(Clone, Debug, Default, clap::Args)]
struct VaultArgs {
    /// The Vault or OpenBao whose Transit engine holds the master key, such as https://vault.example:8200.
    #[arg(long, env = "NEXUS_VAULT_ADDR", value_name = "URL")]
    vault_addr: Option<url::Url>,
    /// The name of the Transit key.
    #[arg(long, env = "NEXUS_VAULT_KEY", value_name = "NAME", default_value = "nexus", value_parser = path_segments)]
    vault_key: String,
    /// Where the Transit engine is mounted.
    #[arg(long, env = "NEXUS_VAULT_MOUNT", value_name = "PATH", default_value = "transit", value_parser = path_segments)]
    vault_mount: String,
    /// The Vault namespace.
    #[arg(long, env = "NEXUS_VAULT_NAMESPACE", value_name = "PATH")]
    vault_namespace: Option<String>,
    /// The authorities (PEM) of which Vault has to show a certificate; those of the system if not given.
    #[arg(long, env = "NEXUS_VAULT_CA_FILE", value_name = "FILE")]
    vault_ca_file: Option<PathBuf>,
    /// A file with a token for Vault, such as a Vault Agent's sink.
    #[arg(long, env = "NEXUS_VAULT_TOKEN_FILE", value_name = "FILE")]
    vault_token_file: Option<PathBuf>,
    /// Where the auth method is mounted, if not at its default path: approle, or kubernetes.
    #[arg(long, env = "NEXUS_VAULT_AUTH_MOUNT", value_name = "PATH", value_parser = path_segments)]
    vault_auth_mount: Option<String>,
    /// Sign in to Vault with AppRole: the role id.
    #[arg(long, env = "NEXUS_VAULT_ROLE_ID", value_name = "ID")]
    vault_role_id: Option<String>,
    /// The file with AppRole's secret id.
    #[arg(long, env = "NEXUS_VAULT_SECRET_ID_FILE", value_name = "FILE")]
    vault_secret_id_file: Option<PathBuf>,
    /// Sign in to Vault with Kubernetes or JWT: the role.
    #[arg(long, env = "NEXUS_VAULT_ROLE", value_name = "NAME")]
    vault_role: Option<String>,
    /// The file with the token of this workload; that of a Kubernetes pod if not given.
    #[arg(long, env = "NEXUS_VAULT_JWT_FILE", value_name = "FILE", default_value = KUBERNETES_TOKEN_FILE)]
    vault_jwt_file: PathBuf,
}

impl MasterKeyArgs {
    /// Whether a master key is named at all.
    pub fn is_given(&self) -> bool {
        self.master_key_file.is_some() || self.vault.vault_addr.is_some()
    }

    /// The master key that these settings name. A file is read at once, so that a bad one is said at once; a Vault is
    /// not asked before it is needed.
    pub fn open(&self) -> Result<MasterKey, Error> {
        match (&self.master_key_file, self.vault()?) {
            (Some(path), None) => MasterKey::from_file(path),
            (None, Some(vault)) => Ok(vault),
            (None, None) => Err(refuse("no master key is named: give --master-key-file or --vault-addr")),
            (Some(_), Some(_)) => Err(refuse("two master keys are named: give --master-key-file or --vault-addr")),
        }
    }

    /// The master key in Vault, if one is named.
    pub fn vault(&self) -> Result<Option<MasterKey>, Error> {
        let vault = &self.vault;
        let Some(address) = &vault.vault_addr else { return Ok(None) };
        let settings = VaultSettings {
            address: address.clone(),
            mount: vault.vault_mount.clone(),
            key: vault.vault_key.clone(),
            namespace: vault.vault_namespace.clone(),
            authorities: vault.vault_ca_file.clone(),
            login: vault.login()?,
        };
        Ok(Some(MasterKey::of(VaultKey::try_new(settings)?)))
    }
}

impl VaultArgs {
    fn login(&self) -> Result<Login, Error> {
        let mount = |default: &str| self.vault_auth_mount.clone().unwrap_or(default.to_owned());
        match (&self.vault_token_file, &self.vault_role_id, &self.vault_role) {
            (Some(file), None, None) => Ok(Login::TokenFile(file.clone())),
            (None, Some(role_id), None) => {
                let secret_id_file = self.vault_secret_id_file.clone();
                let secret_id_file = secret_id_file.ok_or_else(|| refuse("AppRole needs --vault-secret-id-file"))?;
                Ok(Login::AppRole { mount: mount("approle"), role_id: role_id.clone(), secret_id_file })
            }
            (None, None, Some(role)) => {
                let (role, jwt_file) = (role.clone(), self.vault_jwt_file.clone());
                Ok(Login::Jwt { mount: mount("kubernetes"), role, jwt_file })
            }
            _ => Err(refuse("give one of --vault-token-file, --vault-role-id and --vault-role")),
        }
    }
}

fn refuse(why: &str) -> Error {
    MasterKeyError::Refused(why.to_owned()).into()
}

/// Names become part of a URL's path: nothing in them may lead elsewhere.
fn path_segments(text: &str) -> Result<String, String> {
    let is_plain = |segment: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !segment.is_empty() && segment.bytes().all(allowed) && segment.bytes().any(|byte| byte != b'.')
    };
    if text.split('/').all(is_plain) { Ok(text.to_owned()) } else { Err("letters, digits, - _ . and / only".into()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Process {
        #[command(flatten)]
        master_key: MasterKeyArgs,
    }

    fn opened(args: &[&str]) -> Result<String, String> {
        let process = Process::try_parse_from(std::iter::once(&"process").chain(args));
        let process = process.map_err(|error| error.to_string())?;
        let opened = process.master_key.open();
        opened.map(|key| key.place()).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        })
    }

    #[test]
    fn settings_that_make_no_sense_are_said_in_a_sentence() {
        let vault = ["--vault-addr", "http://127.0.0.1:8200"];
        let with = |more: &[&'static str]| opened(&[&vault[..], more].concat());
        assert!(opened(&[]).unwrap_err().contains("no master key is named"));
        assert!(with(&[]).unwrap_err().contains("one of --vault-token-file"));
        assert!(with(&["--vault-role-id", "r"]).unwrap_err().contains("--vault-secret-id-file"));
        assert!(with(&["--vault-role", "r", "--vault-token-file", "f"]).unwrap_err().contains("one of"));
        assert!(with(&["--vault-token-file", "f", "--master-key-file", "m"]).unwrap_err().contains("two master keys"));
        assert!(with(&["--vault-role", "r", "--vault-key", "../sys/x"]).unwrap_err().contains("letters, digits"));
        let place = with(&["--vault-role", "r", "--vault-key", "health", "--vault-mount", "a/transit"]).unwrap();
        assert_eq!(place, "the key a/transit/health of the Vault at http://127.0.0.1:8200/");
    }
}
