//! The settings of the issuer; `auth --help` is their reference.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::Parser;
use nexus_auth::issuer::TOKEN_LIFETIME_MAX;
use nexus_web::telemetry::TelemetryArgs;
use nexus_web::tls::TlsArgs;

/// NexusHealth's built-in issuer of access tokens, for demo and service accounts on one machine.
///
/// It is not an identity provider for people: its sign-in page is for demo accounts whose secrets a program made, there is
/// no second factor, and it refuses to listen beyond loopback. Point the doors' --issuer at an OpenID Connect provider instead where people sign in.
#[derive(Debug, Parser)]
#[command(name = "auth", version)]
pub struct Config {
    /// Where to listen; a loopback address.
    #[arg(long, env = "NEXUS_LISTEN", default_value = "127.0.0.1:7400")]
    pub listen: Loopback,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The URL that tokens name as their issuer, if it is not the listening address.
    #[arg(long, env = "NEXUS_ISSUER", value_parser = parse_issuer)]
    pub issuer: Option<String>,
    /// Whom the tokens are for.
    #[arg(long, env = "NEXUS_AUDIENCE", default_value = "nexushealth")]
    pub audience: String,
    /// The signing keys (PEM), made with mode 600 at the first start. SIGHUP asks for a new one.
    #[arg(long, env = "NEXUS_SIGNING_KEY_FILE")]
    pub key_file: PathBuf,
    /// The accounts: JSON {id: {secret_sha256?, jwks?, roles, person?, redirect_uris?, patient?, scope?, name?}}, read again
    /// when it changes.
    #[arg(long, env = "NEXUS_CLIENTS_FILE")]
    pub clients_file: PathBuf,
    /// How long a token is valid, in seconds; at most a day.
    #[arg(long = "token-lifetime-s", env = "NEXUS_TOKEN_LIFETIME_S", default_value = "3600", value_parser = parse_lifetime)]
    pub token_lifetime: Duration,
    /// How long a signing key is used before the next one, in seconds.
    #[arg(long = "key-period-s", env = "NEXUS_KEY_PERIOD_S", default_value = "2592000", value_parser = parse_key_period)]
    pub key_period: Duration,
    /// How long a new key is published before it signs, in seconds; the doors look for new keys every 300.
    #[arg(long = "key-lead-s", env = "NEXUS_KEY_LEAD_S", default_value = "600", value_parser = parse_key_lead)]
    pub key_lead: Duration,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// An address that only this machine can reach.
#[derive(Clone, Copy, Debug)]
pub struct Loopback(pub SocketAddr);

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text.parse().map_err(|_| "expected ADDRESS:PORT".to_owned())?;
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err("the built-in issuer listens on loopback only; beyond one machine, use an OpenID Connect provider"
                .to_owned())
        }
    }
}

fn parse_issuer(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    if is_url { Ok(text.trim_end_matches('/').to_owned()) } else { Err("expected an http or https URL".to_owned()) }
}

/// A shorter period than the longest life of a token would leave too many keys published.
fn parse_key_period(text: &str) -> Result<Duration, String> {
    parse_seconds(text, TOKEN_LIFETIME_MAX.as_secs(), 10 * 366 * 24 * 3600)
}

fn parse_key_lead(text: &str) -> Result<Duration, String> {
    parse_seconds(text, 0, 24 * 3600)
}

fn parse_seconds(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (min..=max).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("expected {min} to {max} seconds"))
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    let lifetime = Duration::from_secs(seconds);
    if lifetime.is_zero() || lifetime > TOKEN_LIFETIME_MAX {
        return Err(format!("expected 1 to {} seconds", TOKEN_LIFETIME_MAX.as_secs()));
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn only_loopback_will_do() {
        for refused in ["0.0.0.0:7400", "[::]:7400", "192.168.1.5:7400", "10.0.0.1:80", "localhost"] {
            assert!(refused.parse::<Loopback>().is_err(), "{refused}");
        }
        for accepted in ["127.0.0.1:7400", "[::1]:7400", "127.0.0.2:0"] {
            assert!(accepted.parse::<Loopback>().is_ok(), "{accepted}");
        }
    }

    #[test]
    fn a_lifetime_is_bounded() {
        assert!(parse_lifetime("0").is_err());
        assert!(parse_lifetime("86401").is_err());
        assert!(parse_lifetime("-1").is_err());
        assert_eq!(parse_lifetime("900"), Ok(Duration::from_secs(900)));
    }
}
