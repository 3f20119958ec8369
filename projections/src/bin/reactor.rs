//! The reactor as a process: carries out what follows from what was recorded.

use clap::Parser;
use nexus_projections::reactor::{Reactor, ReactorConfig};
use nexus_web::{server, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = ReactorConfig::parse();
    let _telemetry = telemetry::init("reactor", &config.telemetry)?;
    let stop = shutdown::on_signal();
    let reactor = Reactor::try_new(&config)?;
    let listener = server::listen(config.listen, &config.tls).await?;
    reactor.run_until_stopped(listener, stop).await?;
    Ok(())
}
