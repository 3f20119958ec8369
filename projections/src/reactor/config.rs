//! The settings of the reactor; `reactor --help` is their reference.

use std::net::SocketAddr;
use std::path::PathBuf;

use nexus_web::telemetry::TelemetryArgs;
use nexus_web::tls::TlsArgs;
use nexus_web::transport::ClientTlsArgs;
use url::Url;

/// Carries out what reactors order: alerts, reminders, appointments that nobody came to.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "reactor", version)]
pub struct ReactorConfig {
    /// Where health and metrics are served.
    #[arg(long, env = "NEXUS_LISTEN")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The read database, which holds the orders.
    #[arg(long, env = "NEXUS_READ_URL", hide_env_values = true)]
    pub read_url: String,
    /// The write door.
    #[arg(long, env = "NEXUS_COMMAND_URL")]
    pub command_url: Url,
    /// The issuer of this process's tokens.
    #[arg(long, env = "NEXUS_ISSUER")]
    pub issuer: Url,
    /// The account at the issuer.
    #[arg(long, env = "NEXUS_CLIENT_ID", default_value = "reactor")]
    pub client_id: String,
    #[command(flatten)]
    pub proof: ProofArgs,
    #[command(flatten)]
    pub client_tls: ClientTlsArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// How the account proves itself.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct ProofArgs {
    /// The account's secret.
    #[arg(long, env = "NEXUS_CLIENT_SECRET", hide_env_values = true)]
    pub client_secret: Option<String>,
    /// A file with the account's private key (PKCS #8, PEM), for issuers that want a signed assertion (RFC 7523).
    #[arg(long, env = "NEXUS_CLIENT_ASSERTION_KEY_FILE")]
    pub client_assertion_key_file: Option<PathBuf>,
}
