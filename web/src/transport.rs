//! How a process protects the connections that it opens, and the one rule for those that it does not protect.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use nexus_auth::VerifierConfig;

pub use nexus_auth::read_authorities;
use url::Url;

/// Whom this process believes when it connects to others, and how it proves who it is.
#[derive(Clone, Debug, Default, Args)]
pub struct ClientTlsArgs {
    /// The authorities (PEM) that the issuer's and Kafka's certificates must come from; the system's when not given.
    /// (Databases have `sslrootcert`, `sslcert` and `sslkey` in their URLs.)
    #[arg(long, env = "NEXUS_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// The certificate (PEM) that this process shows to Kafka. With one, Kafka is spoken to over mutual TLS; without,
    /// in the clear, and on this machine only.
    #[arg(long, env = "NEXUS_CLIENT_CERT_FILE", requires = "client_key_file")]
    pub client_cert_file: Option<PathBuf>,
    /// The private key of that certificate (PEM); may be the same file.
    #[arg(long, env = "NEXUS_CLIENT_KEY_FILE", requires = "client_cert_file")]
    pub client_key_file: Option<PathBuf>,
}

/// A connection that would leave this machine in the clear.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {host} is not on this machine, and there it needs TLS: {remedy}")]
pub struct PlaintextRefused {
    pub what: &'static str,
    pub host: String,
    /// What to set.
    pub remedy: &'static str,
}

/// Whether a host is `localhost` or a loopback address, IPv6 in brackets or without. Any other name may be anywhere.
pub fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets a connection pass if it is protected, or goes to this machine.
///
/// # Errors
/// With what to set, if it is neither.
pub fn refuse_plaintext(
    what: &'static str,
    host: &str,
    protected: bool,
    remedy: &'static str,
) -> Result<(), PlaintextRefused> {
    if protected || is_this_machine(host) {
        Ok(())
    } else {
        Err(PlaintextRefused { what, host: host.to_owned(), remedy })
    }
}

/// Whose tokens a door believes, with the authorities that it knows. What is no URL is left to the verifier to refuse.
///
/// # Errors
/// If the issuer's keys would come over the network in the clear.
pub fn verifier_config(issuer: &str, audience: &str, tls: &ClientTlsArgs) -> Result<VerifierConfig, PlaintextRefused> {
    if let Ok(url) = Url::parse(issuer) {
        refuse_plaintext(
            "the issuer",
            url.host_str().unwrap_or_default(),
            url.scheme() == "https",
            "give it an https URL",
        )?;
    }
    Ok(VerifierConfig { issuer: issuer.to_owned(), audience: audience.to_owned(), authorities: tls.ca_file.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        for (host, protected, passes) in [
            ("127.0.0.1", false, true),
            ("127.8.9.1", false, true),
            ("::1", false, true),
            ("[::1]", false, true),
            ("localhost", false, true),
            ("localhost.example.org", false, false),
            ("0.0.0.0", false, false),
            ("10.0.0.1", false, false),
            ("::ffff:10.0.0.1", false, false),
            ("kafka", false, false),
            ("", false, false),
            ("kafka", true, true),
            ("10.0.0.1", true, true),
        ] {
            assert_eq!(refuse_plaintext("Kafka", host, protected, "").is_ok(), passes, "{host} {protected}");
        }
    }

    #[test]
    fn an_issuer_elsewhere_needs_https() {
        let issuer = |url: &str| verifier_config(url, "us", &ClientTlsArgs::default());
        assert!(issuer("http://127.0.0.1:7400").is_ok());
        assert!(issuer("http://[::1]:7400").is_ok());
        assert!(issuer("https://id.example.org").is_ok());
        let refused = issuer("http://id.example.org/realms/x").expect_err("it would go in the clear").to_string();
        assert_eq!(
            refused,
            "the issuer at id.example.org is not on this machine, and there it needs TLS: give it an https URL"
        );
    }
}
