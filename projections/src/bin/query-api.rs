//! The read door as a process.

use clap::Parser;
use nexus_projections::query_api::{QueryConfig, QueryService};
use nexus_web::{server, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = QueryConfig::parse();
    let _telemetry = telemetry::init("query-api", &config.telemetry)?;
    let stop = shutdown::on_signal();
    let service = QueryService::connect(&config).await?;
    let listener = server::listen(config.listen, &config.tls).await?;
    service.run_until_stopped(listener, stop).await?;
    Ok(())
}
