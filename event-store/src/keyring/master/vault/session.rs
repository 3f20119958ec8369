//! A token for Vault: from a file that somebody else keeps fresh, or by signing in and renewing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::http::{Http, Refusal};

/// Names of credentials and settings are no longer than this.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// How a process shows Vault who it is.
#[derive(Clone, Debug)]
pub(in super::super) enum Login {
    /// A file with a token, such as the sink of a Vault Agent; read whenever a token is needed.
    TokenFile(PathBuf),
    /// AppRole: an id and a file with the secret id.
    AppRole { mount: String, role_id: String, secret_id_file: PathBuf },
    /// JWT, OIDC or Kubernetes: a role and a file with a signed token of the platform.
    Jwt { mount: String, role: String, jwt_file: PathBuf },
}

pub(super) struct Session {
    http: Http,
    login: Login,
    lease: Mutex<Option<Lease>>,
}

type Token = Zeroizing<String>;

struct Lease {
    token: Token,
    /// From here on it is renewed before it is used; past the second, a new one is asked for.
    renew_at: Instant,
    ends_at: Instant,
    is_renewable: bool,
}

impl Lease {
    fn of(granted: &Granted<'_>) -> Self {
        let now = Instant::now();
        let lasts = match granted.lease_duration {
            // A root token never ends; it is asked for anew as any other.
            0 => Duration::from_secs(3_600),
            seconds => Duration::from_secs(seconds),
        };
        let token = Zeroizing::new(granted.client_token.to_owned());
        Self { token, renew_at: now + lasts / 2, ends_at: now + lasts * 9 / 10, is_renewable: granted.renewable }
    }
}

impl Session {
    pub(super) fn new(http: Http, login: Login) -> Self {
        Self { http, login, lease: Mutex::new(None) }
    }

    /// A token that is good now. Calls are rare, so that nothing is renewed on the side: a lease that ran out between two
    /// of them costs one more request.
    pub(super) async fn token(&self) -> Result<Token, Refusal> {
        if let Login::TokenFile(path) = &self.login {
            return secret(path);
        }
        let mut lease = self.lease.lock().await;
        let now = Instant::now();
        let fresh = match lease.take() {
            Some(held) if now < held.renew_at => held,
            Some(held) if now < held.ends_at && held.is_renewable => match self.renew(&held.token).await {
                Ok(renewed) => renewed,
                Err(Refusal::Away(_) | Refusal::Sealed) => held,
                Err(_) => self.sign_in().await?,
            },
            _ => self.sign_in().await?,
        };
        Ok(lease.insert(fresh).token.clone())
    }

    /// Drops a token that Vault denied. Whether asking for another makes sense.
    pub(super) async fn forget(&self, token: &Token) -> bool {
        let mut lease = self.lease.lock().await;
        if lease.as_ref().is_some_and(|held| held.token == *token) {
            *lease = None;
        }
        !matches!(self.login, Login::TokenFile(_))
    }

    async fn sign_in(&self) -> Result<Lease, Refusal> {
        let answer = match &self.login {
            Login::TokenFile(_) => return Err(Refusal::Setting("a token file is not signed in with".into())),
            Login::AppRole { mount, role_id, secret_id_file } => {
                let secret_id = secret(secret_id_file)?;
                let body = AppRole { role_id, secret_id: &secret_id };
                self.http.post(&format!("auth/{mount}/login"), None, &body).await?
            }
            Login::Jwt { mount, role, jwt_file } => {
                let jwt = text(jwt_file)?;
                self.http.post(&format!("auth/{mount}/login"), None, &Jwt { role, jwt: &jwt }).await?
            }
        };
        granted(&answer)
    }

    async fn renew(&self, token: &Token) -> Result<Lease, Refusal> {
        let answer = self.http.post("auth/token/renew-self", Some(token), &serde_json::json!({})).await?;
        granted(&answer)
    }
}

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct Jwt<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Deserialize)]
struct SignedIn<'a> {
    #[serde(borrow)]
    auth: Granted<'a>,
}

#[derive(Deserialize)]
struct Granted<'a> {
    client_token: &'a str,
    /// Seconds.
    lease_duration: u64,
    renewable: bool,
}

fn granted(answer: &[u8]) -> Result<Lease, Refusal> {
    let answer: SignedIn<'_> =
        serde_json::from_slice(answer).map_err(|_| Refusal::Invalid("an answer without a token".into()))?;
    Ok(Lease::of(&answer.auth))
}

/// A file that only its owner and group may read.
fn secret(path: &Path) -> Result<Token, Refusal> {
    let mode = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(Refusal::Setting(format!("{}: anybody has access to it; chmod it", path.display())));
    }
    text(path)
}

/// The platform that mounts its tokens decides who may read them.
fn text(path: &Path) -> Result<Token, Refusal> {
    use std::io::Read;
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::Setting(format!("{}: {error}", path.display()))
}
