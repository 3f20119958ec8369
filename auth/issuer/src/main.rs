//! The built-in authentication service: demo and service accounts for one machine.

mod config;
mod rotation;

use anyhow::Context;
use clap::Parser;
use nexus_auth::issuer::{ClientsFile, Issuer, IssuerConfig, Rotation, SigningKeys};
use nexus_web::{
    pipeline::{self, Limits},
    server::{self, GRACE_DEFAULT, Readiness},
    shutdown, telemetry,
};

use config::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _telemetry = telemetry::init("auth", &config.telemetry)?;
    let stop = shutdown::on_signal();
    let hangup = rotation::on_hangup().context("SIGHUP")?;

    let keys = SigningKeys::load_or_generate(&config.key_file).context("the signing key")?;
    let clients = ClientsFile::open(&config.clients_file).context("the accounts")?;
    let listener = server::listen(config.listen.0, &config.tls).await.context("the listening address")?;
    let rotation = Rotation { period: config.key_period, lead: config.key_lead, token_lifetime: config.token_lifetime };
    let issuer = IssuerConfig {
        issuer: config.issuer.unwrap_or(format!("{}://{}", config.tls.scheme(), listener.local_addr()?)),
        audience: config.audience,
        token_lifetime: config.token_lifetime,
    };
    let issuer = Issuer::new(issuer, keys, clients);
    let router = pipeline::bound(issuer.router(), Limits::default());
    let router = router.merge(server::operational_routes(Readiness::new().until(stop.clone())));

    tokio::select! {
        served = server::serve(listener, router, stop, GRACE_DEFAULT) => served.context("serving"),
        () = rotation::run(issuer, rotation, hangup) => Ok(()),
    }
}
