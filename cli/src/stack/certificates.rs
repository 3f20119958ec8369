//! The certificates of one stack: an authority of its own, and short-lived certificates for everybody who serves or connects.
//!
//! A name is a file `secrets/tls/NAME.pem` with certificate and private key, and the name is what Kafka knows its owner by.
//! Files are replaced whole. Who reads them when is written down in `docs/adr/0013-transport.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use clap::{Args, Subcommand};
use nexus_local::{TlsFiles, kafka, write_private};
use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::state::State;
use super::{Secrets, Service, Stack};
use crate::home::make_folder;
use crate::output;

/// Everybody who has a certificate: servers, services, and the commands of this program (`admin`).
fn names() -> impl Iterator<Item = &'static str> {
    // Keycloak stands in for `auth`, under its name.
    let services = Service::ALL.into_iter().filter(|service| *service != Service::Keycloak);
    services.map(Service::name).chain([kafka::ADMINISTRATOR])
}

/// Kafka's link to itself. Kafka reads this one at its start only, so it lasts as long as the authority; it is shown on no
/// other listener.
const CONTROLLER: &str = "kafka-controller";
const LIFETIME_DAYS: i64 = 30;
/// A certificate is replaced when less than a third of its life is left.
const RENEWED_WITHIN_DAYS: i64 = LIFETIME_DAYS / 3;
const AUTHORITY_LIFETIME_DAYS: i64 = 3_653;

#[derive(Subcommand)]
pub enum Certificates {
    /// Show when each certificate ends.
    #[command(after_help = "Example:\n  ./nexus certificates status --json | jq '.[].not_after'")]
    Status(Options),
    /// Replace every certificate but the authority's now, while everything runs.
    #[command(after_help = "Example:\n  ./nexus certificates renew && ./nexus certificates status")]
    Renew(Options),
}

#[derive(Args)]
pub struct Options {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `nexus certificates`.
pub fn run(stack: &Stack, command: &Certificates) -> Result<ExitCode> {
    let (options, is_renewal) = match command {
        Certificates::Status(options) => (options, false),
        Certificates::Renew(options) => (options, true),
    };
    if !stack.authority_file().exists() {
        bail!("this stack has no certificates; run `./nexus up` first");
    }
    if is_renewal {
        replace(stack, |_| true)?;
        announce(stack)?;
    }
    let report = report(stack)?;
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    for certificate in report {
        let days = (certificate.not_after - Utc::now()).num_days();
        let (name, end) = (certificate.name, certificate.not_after.format("%Y-%m-%d %H:%M"));
        output::line(format_args!("  {name:<17} ends {end} UTC, in {days} days"));
    }
    Ok(ExitCode::SUCCESS)
}

/// One certificate, as an operator sees it.
#[derive(Serialize)]
struct CertificateReport {
    name: String,
    file: PathBuf,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
}

impl Stack {
    /// The authority's certificate: public, for `curl --cacert`.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The files of one of those who have a certificate.
    pub fn tls_files(&self, name: &str) -> TlsFiles {
        let identity = self.secret_file("tls").join(format!("{name}.pem"));
        TlsFiles { authority: self.authority_file(), identity }
    }

    pub fn kafka_tls(&self) -> kafka::Tls {
        kafka::Tls {
            broker: self.tls_files("kafka"),
            controller: self.tls_files(CONTROLLER),
            administrator: self.tls_files(kafka::ADMINISTRATOR),
        }
    }
}

/// Makes what is missing, and replaces what ends soon. Answers the names of what is new.
pub fn ensure(stack: &Stack) -> Result<Vec<&'static str>> {
    replace(stack, |not_after| not_after - Utc::now() < TimeDelta::days(RENEWED_WITHIN_DAYS))
}

/// The same for a stack that runs.
pub fn keep(stack: &Stack) -> Result<()> {
    if ensure(stack)?.is_empty() { Ok(()) } else { announce(stack) }
}

/// Tells the servers that run about new certificates; our own processes look by themselves.
pub fn announce(stack: &Stack) -> Result<()> {
    stack.postgres(&Secrets::load(stack)?).install_certificate()?;
    let state = State::load(stack);
    if let Some(process) = state.process(Service::Postgres) {
        process.signal(Signal::SIGHUP);
    }
    let kafka = stack.kafka()?;
    kafka.install_certificates()?;
    if state.process(Service::Kafka).is_some() {
        kafka.reload_certificates()?;
    }
    Ok(())
}

/// Every certificate of the stack, the authority's first.
fn report(stack: &Stack) -> Result<Vec<CertificateReport>> {
    let authority = std::iter::once(("authority", stack.authority_file()));
    let names = [CONTROLLER].into_iter().chain(names()).map(|name| (name, stack.tls_files(name).identity));
    authority.chain(names).map(|(name, file)| read(name, file)).collect()
}

fn replace(stack: &Stack, is_due: impl Fn(DateTime<Utc>) -> bool) -> Result<Vec<&'static str>> {
    make_folder(&stack.secret_file("tls"), 0o700)?;
    let authority = authority(stack)?;
    let mut replaced = Vec::new();
    for name in names() {
        let file = stack.tls_files(name).identity;
        if !file.exists() || is_due(read(name, file)?.not_after) {
            issue(stack, &authority, name, name, LIFETIME_DAYS)?;
            replaced.push(name);
        }
    }
    if !stack.tls_files(CONTROLLER).identity.exists() {
        issue(stack, &authority, CONTROLLER, "kafka", AUTHORITY_LIFETIME_DAYS)?;
    }
    Ok(replaced)
}

/// The authority, made now if the stack is new.
fn authority(stack: &Stack) -> Result<Issuer<'static, KeyPair>> {
    let key_file = stack.secret_file("authority.key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "NexusHealth on this machine");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live(&mut params, AUTHORITY_LIFETIME_DAYS);
    if !key_file.exists() || !stack.authority_file().exists() {
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        write_private(&key_file, key.serialize_pem().as_bytes())?;
        let draft = stack.authority_file().with_extension("draft");
        std::fs::write(&draft, certificate.pem())?;
        std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        std::fs::rename(draft, stack.authority_file())?;
        // What another authority signed is worth nothing any more.
        std::fs::remove_dir_all(stack.secret_file("tls"))?;
        make_folder(&stack.secret_file("tls"), 0o700)?;
    }
    let key = KeyPair::from_pem(&std::fs::read_to_string(&key_file)?);
    Ok(Issuer::new(params, key.with_context(|| format!("{} is damaged", key_file.display()))?))
}

/// Signs a new key: for both ends of a connection, on this machine only.
fn issue(
    stack: &Stack,
    authority: &Issuer<'static, KeyPair>,
    file_name: &str,
    common_name: &str,
    days: i64,
) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, days);
    let certificate = params.signed_by(&key, authority)?;
    let content = format!("{}{}", key.serialize_pem(), certificate.pem());
    write_private(&stack.tls_files(file_name).identity, content.as_bytes())
}

/// From the beginning of this day on, in whole days (UTC).
fn live(params: &mut CertificateParams, days: i64) {
    let narrow = |number: u32| u8::try_from(number).unwrap_or(1);
    let midnight = |date: NaiveDate| date_time_ymd(date.year(), narrow(date.month()), narrow(date.day()));
    let today = Utc::now().date_naive();
    (params.not_before, params.not_after) = (midnight(today), midnight(today + TimeDelta::days(days)));
}

fn read(name: &str, file: PathBuf) -> Result<CertificateReport> {
    let damaged = || format!("{} holds no certificate", file.display());
    let pem = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let blocks = x509_parser::pem::Pem::iter_from_buffer(&pem).filter_map(Result::ok);
    let block = blocks.into_iter().find(|block| block.label == "CERTIFICATE").with_context(damaged)?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok().with_context(damaged)?;
    let moment = |seconds: i64| DateTime::from_timestamp(seconds, 0).with_context(damaged);
    let validity = certificate.validity();
    let (not_before, not_after) = (moment(validity.not_before.timestamp())?, moment(validity.not_after.timestamp())?);
    Ok(CertificateReport { name: name.to_owned(), file, not_before, not_after })
}
