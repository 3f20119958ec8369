//! The write door's process.

use clap::Parser;
use nexus_command_api::Service;
use nexus_command_api::config::Config;
use nexus_web::{shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _telemetry = telemetry::init("command-api", &config.telemetry)?;
    let shutdown = shutdown::on_signal();
    Service::start(&config, shutdown).await?.run().await
}
