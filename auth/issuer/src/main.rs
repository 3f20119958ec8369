//! The built-in authentication service: demo and service accounts for one machine.

mod config;

use anyhow::Context;
use clap::Parser;
use nexus_auth::issuer::{ClientsFile, Issuer, IssuerConfig, SigningKeys};
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

    let keys = SigningKeys::load_or_generate(&config.key_file).context("the signing key")?;
    let clients = ClientsFile::open(&config.clients_file).context("the accounts")?;
    let listener = server::bind(config.listen.0).await.context("the listening address")?;
    let issuer = IssuerConfig {
        issuer: config.issuer.unwrap_or(format!("http://{}", listener.local_addr()?)),
        audience: config.audience,
        token_lifetime: config.token_lifetime,
    };
    let router = pipeline::bound(Issuer::new(issuer, keys, clients).router(), Limits::default());
    let router = router.merge(server::operational_routes(Readiness::new().until(stop.clone())));

    server::serve(listener, router, stop, GRACE_DEFAULT).await.context("serving")
}
