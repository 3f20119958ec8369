//! The projector process: keeps read models level with the log. `projector parked` and `projector versions` are what its
//! operators have.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use nexus_projections::engine::parked::ParkedCommand;
use nexus_projections::engine::rebuild::VersionsCommand;
use nexus_projections::engine::{Projector, ProjectorConfig};
use nexus_web::{server, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let command = ProjectorConfig::command().subcommand_negates_reqs(true);
    let command = command.subcommands([ParkedCommand::command(), VersionsCommand::command()]);
    let matches = command.get_matches();
    match matches.subcommand() {
        Some(("parked", parked)) => return ParkedCommand::from_arg_matches(parked)?.run(&mut std::io::stdout()).await,
        Some((_, versions)) => {
            let command = VersionsCommand::from_arg_matches(versions)?;
            return command.run(&mut std::io::stdout(), &shutdown::on_signal()).await;
        }
        None => {}
    }
    let config = ProjectorConfig::from_arg_matches(&matches)?;
    let _telemetry = telemetry::init("projector", &config.telemetry)?;
    let stop = shutdown::on_signal();
    let listener = server::listen(config.listen, &config.tls).await?;
    Projector::try_new(config)?.run_until_stopped(listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}
