//! The projector process: keeps read models level with the log.

use clap::Parser;
use nexus_projections::engine::{Projector, ProjectorConfig};
use nexus_web::{server, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = ProjectorConfig::parse();
    let _telemetry = telemetry::init("projector", &config.telemetry)?;
    let stop = shutdown::on_signal();
    let listener = server::bind(config.listen).await?;
    Projector::try_new(config)?.run_until_stopped(listener, stop).await
}
