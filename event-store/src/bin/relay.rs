//! The relay process: publishes the log to Kafka. It holds no keys.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_web::server::{self, GRACE_DEFAULT, Readiness};
use nexus_web::tls::TlsArgs;
use nexus_web::{shutdown, telemetry};
use sqlx::postgres::PgPoolOptions;

/// What waits for Postgres longer than this is tried again, so that a signal is heard in between.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECTIONS_MAX: u32 = 4;

/// Publishes the event log to Kafka, in order, partition by partition.
#[derive(Parser)]
#[command(name = "relay", version)]
struct Config {
    /// Where health and metrics are served.
    #[arg(long, env = "NEXUS_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    tls: TlsArgs,
    /// The log database.
    #[arg(long, env = "NEXUS_LOG_URL", hide_env_values = true)]
    log_url: String,
    /// Kafka's bootstrap servers.
    #[arg(long, env = "NEXUS_KAFKA")]
    kafka: String,
    /// The topic that events are published to.
    #[arg(long, env = "NEXUS_TOPIC", default_value = "nexus.events.v1")]
    topic: String,
    #[command(flatten)]
    telemetry: telemetry::TelemetryArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _telemetry = telemetry::init("relay", &config.telemetry)?;
    let stop = shutdown::on_signal();
    // Progress is a hint, and Kafka's tail is the truth: its commits need not wait for the disk.
    let options = config.log_url.parse::<sqlx::postgres::PgConnectOptions>()?;
    let options = options.application_name("nexus-relay").options([("synchronous_commit", "off")]);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    let relay = Relay::try_new(RelayConfig::new(pool.connect_lazy_with(options), config.kafka, config.topic))?;
    let in_touch = relay.ready();
    let readiness =
        Readiness::new().check("leases", move || std::future::ready(*in_touch.borrow())).until(stop.clone());
    let listener = server::listen(config.listen, &config.tls).await?;
    let serving = server::serve(listener, server::operational_routes(readiness), stop.clone(), GRACE_DEFAULT);
    let relaying = tokio::spawn(relay.run(stop));
    serving.await?;
    relaying.await?;
    Ok(())
}
