//! The projector process: keeps read models level with the log. `projector parked` is what its operators have.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use nexus_projections::engine::parked::ParkedCommand;
use nexus_projections::engine::{Projector, ProjectorConfig};
use nexus_web::{server, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let command = ProjectorConfig::command().subcommand_negates_reqs(true).subcommand(ParkedCommand::command());
    let matches = command.get_matches();
    if let Some((_, parked)) = matches.subcommand() {
        return ParkedCommand::from_arg_matches(parked)?.run(&mut std::io::stdout()).await;
    }
    let config = ProjectorConfig::from_arg_matches(&matches)?;
    let _telemetry = telemetry::init("projector", &config.telemetry)?;
    let stop = shutdown::on_signal();
    let listener = server::listen(config.listen, &config.tls).await?;
    Projector::try_new(config)?.run_until_stopped(listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}
