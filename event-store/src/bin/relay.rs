//! The relay process: publishes the log to Kafka. It holds no keys.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use nexus_event_store::kafka::KafkaArgs;
use nexus_event_store::relay::{Pace, Relay, RelayConfig};
use nexus_event_store::{ACCESS_SCHEMA, Error, database_options, in_schema};
use nexus_web::server::{self, GRACE_DEFAULT, Readiness};
use nexus_web::tls::TlsArgs;
use nexus_web::{shutdown, telemetry};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinSet;

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
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic that events are published to.
    #[arg(long, env = "NEXUS_TOPIC", default_value = "nexus.events.v1")]
    topic: String,
    /// The topic that the access log is published to; without one, it is left to another relay.
    #[arg(long, env = "NEXUS_ACCESS_TOPIC")]
    access_topic: Option<String>,
    #[command(flatten)]
    telemetry: telemetry::TelemetryArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _telemetry = telemetry::init("relay", &config.telemetry)?;
    let stop = shutdown::on_signal();
    // Progress is a hint, and Kafka's tail is the truth: its commits need not wait for the disk.
    config.kafka.check()?;
    let options = database_options(&config.log_url)?;
    let options = options.application_name("nexus-relay").options([("synchronous_commit", "off")]);
    let events = relay(options.clone(), &config.kafka, &config.topic, Pace::AtOnce)?;
    let access = config.access_topic.as_deref();
    let access_log = in_schema(options, ACCESS_SCHEMA);
    let access = access.map(|topic| relay(access_log, &config.kafka, topic, Pace::Gathering)).transpose()?;
    let mut readiness = Readiness::new().until(stop.clone());
    let mut relaying = JoinSet::new();
    for (name, relay) in [("leases", Some(events)), ("access_leases", access)] {
        let Some(relay) = relay else { continue };
        let in_touch = relay.ready();
        readiness = readiness.check(name, move || std::future::ready(*in_touch.borrow()));
        relaying.spawn(relay.run(stop.clone()));
    }
    let listener = server::listen(config.listen, &config.tls).await?;
    server::serve(listener, server::operational_routes(readiness), stop, GRACE_DEFAULT).await?;
    while let Some(ended) = relaying.join_next().await {
        ended?;
    }
    Ok(())
}

fn relay(log: PgConnectOptions, kafka: &KafkaArgs, topic: &str, pace: Pace) -> Result<Relay, Error> {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    Relay::try_new(RelayConfig { pace, ..RelayConfig::new(pool.connect_lazy_with(log), kafka, topic) })
}
