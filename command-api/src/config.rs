//! The settings of the write door: command line and environment. `--help` is the reference.

use std::net::SocketAddr;

use clap::Parser;
use nexus_event_store::MasterKeyArgs;
use nexus_event_store::kafka::KafkaArgs;
use nexus_web::authenticate::DpopArgs;
use nexus_web::cors::CorsArgs;
use nexus_web::rate_limit::RateLimitArgs;
use nexus_web::telemetry::TelemetryArgs;
use nexus_web::tls::TlsArgs;

/// Takes commands over HTTP and stores what they decide.
#[derive(Clone, Debug, Parser)]
#[command(name = "command-api", version)]
pub struct Config {
    /// Where to listen.
    #[arg(long, env = "NEXUS_LISTEN", default_value = "127.0.0.1:7401")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The log's database.
    #[arg(long, env = "NEXUS_LOG_URL", hide_env_values = true)]
    pub log_url: String,
    /// The keys' database.
    #[arg(long, env = "NEXUS_KEYS_URL", hide_env_values = true)]
    pub keys_url: String,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The topic of events.
    #[arg(long, env = "NEXUS_TOPIC", default_value = "nexus.events.v1")]
    pub topic: String,
    /// The topic of the access log, which takes what this door refuses.
    #[arg(long, env = "NEXUS_ACCESS_TOPIC", default_value = "nexus.access.v1")]
    pub access_topic: String,
    /// Who signs tokens (URL).
    #[arg(long, env = "NEXUS_ISSUER")]
    pub issuer: String,
    /// For whom tokens have to be.
    #[arg(long, env = "NEXUS_AUDIENCE", default_value = "nexushealth")]
    pub audience: String,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    /// How many connections to the log's database are kept for reading.
    #[arg(long, env = "NEXUS_LOG_CONNECTIONS", default_value_t = 16)]
    pub log_connections: u32,
    /// Further URLs, joined by commas, that references to this platform's own resources may begin with, such as
    /// `https://read.example/fhir`: those of the read door, and names that callers used before. This door's own, below its
    /// public URL, is known.
    #[arg(long, env = "NEXUS_FHIR_BASES", value_delimiter = ',')]
    pub fhir_bases: Vec<String>,
    #[command(flatten)]
    pub dpop: DpopArgs,
    #[command(flatten)]
    pub rate_limit: RateLimitArgs,
    #[command(flatten)]
    pub cors: CorsArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}
