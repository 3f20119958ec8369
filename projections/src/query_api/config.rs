//! The settings of the read door; `query-api --help` is their reference.

use std::net::SocketAddr;

use nexus_event_store::MasterKeyArgs;
use nexus_event_store::kafka::KafkaArgs;
use nexus_web::authenticate::DpopArgs;
use nexus_web::cors::CorsArgs;
use nexus_web::rate_limit::RateLimitArgs;
use nexus_web::telemetry::TelemetryArgs;
use nexus_web::tls::TlsArgs;

use super::FeedArgs;

/// The read door: serves the read models over HTTP.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "query-api", version)]
pub struct QueryConfig {
    /// Where to listen.
    #[arg(long, env = "NEXUS_LISTEN", default_value = "127.0.0.1:7402")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The read database.
    #[arg(long, env = "NEXUS_READ_URL", hide_env_values = true)]
    pub read_url: String,
    /// The key database.
    #[arg(long, env = "NEXUS_KEYS_URL", hide_env_values = true)]
    pub keys_url: String,
    /// The log database, for the access log: every request is recorded before it is answered.
    #[arg(long, env = "NEXUS_LOG_URL", hide_env_values = true)]
    pub log_url: String,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The topic that the access log is published to.
    #[arg(long, env = "NEXUS_ACCESS_TOPIC", default_value = "nexus.access.v1")]
    pub access_topic: String,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    /// The issuer whose tokens count.
    #[arg(long, env = "NEXUS_ISSUER")]
    pub issuer: String,
    /// The audience that tokens must be made for.
    #[arg(long, env = "NEXUS_AUDIENCE", default_value = "nexushealth")]
    pub audience: String,
    /// Counts of people below this are not told.
    #[arg(long, env = "NEXUS_SMALL_CELL", default_value_t = 5, value_parser = clap::value_parser!(i64).range(1..=1_000))]
    pub small_cell: i64,
    /// Connections to the read database, per read model.
    #[arg(long, env = "NEXUS_READ_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub connections: u32,
    #[command(flatten)]
    pub feeds: FeedArgs,
    #[command(flatten)]
    pub dpop: DpopArgs,
    #[command(flatten)]
    pub rate_limit: RateLimitArgs,
    #[command(flatten)]
    pub cors: CorsArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}
