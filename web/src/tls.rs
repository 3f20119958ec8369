//! TLS on a listener: rustls, certificates read again when their files change, and client certificates where asked for.
//!
//! TLS 1.2 and 1.3 with rustls' own choice of suites (RFC 9325). Without a certificate a process listens on loopback only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at, at most.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The protocol that our listeners speak (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Where a listener's certificate is.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// The certificate chain of this listener (PEM); without one, it listens on loopback only. Read again when it changes.
    #[arg(long, env = "NEXUS_TLS_CERT_FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of that certificate (PEM); readable by its owner only.
    #[arg(long, env = "NEXUS_TLS_KEY_FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// The authorities (PEM) of which every client must show a certificate: mutual TLS.
    #[arg(long, env = "NEXUS_TLS_CLIENT_CA_FILE", requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,
}

impl TlsArgs {
    /// What the URL of this listener begins with.
    pub fn scheme(&self) -> &'static str {
        if self.tls_cert_file.is_some() { "https" } else { "http" }
    }
}

/// Why a listener can't do TLS. Tells the file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} can't be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} is open to group or others; chmod 600 it", .0.display())]
    OpenToOthers(PathBuf),
    #[error("{} holds no {what} in PEM form", .file.display())]
    NotPem { file: PathBuf, what: &'static str },
    #[error("certificate, key and authorities don't go together")]
    Mismatch(#[source] rustls::Error),
    #[error("the authorities of clients can't be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

/// The TLS of one listener.
pub struct Tls {
    files: Files,
    current: Mutex<Current>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_authorities: Option<PathBuf>,
}

struct Current {
    config: Arc<ServerConfig>,
    changed: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Tls {
    /// The TLS that the settings ask for, if any.
    ///
    /// # Errors
    /// If a file can't be read, does not hold what it should, or does not go with the others.
    pub fn from_args(args: &TlsArgs) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (args.tls_cert_file.clone(), args.tls_key_file.clone()) else {
            return Ok(None);
        };
        let files = Files { certificate, key, client_authorities: args.tls_client_ca_file.clone() };
        let changed = files.changed();
        let current = Current { config: Arc::new(files.read()?), changed, looked: Instant::now() };
        Ok(Some(Self { files, current: Mutex::new(current) }))
    }

    /// What accepts the next connection. Certificates that changed are used from here on; new ones that can't be used are
    /// reported, and the old ones stay.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_INTERVAL {
            current.looked = Instant::now();
            let changed = self.files.changed();
            if changed != current.changed {
                match self.files.read() {
                    Ok(config) => {
                        tracing::info!("the listener's certificate was read again");
                        (current.config, current.changed) = (Arc::new(config), changed);
                    }
                    Err(error) => tracing::warn!(error = %error, "the listener's new certificate can't be used"),
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

impl Files {
    /// When each file was written last: two writes within a tick of that clock pass for one.
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()];
        files.map(|file| std::fs::metadata(file?).and_then(|it| it.modified()).ok()).into()
    }

    fn read(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let builder = ServerConfig::builder();
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(TlsError::Mismatch)?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(TlsError::Authorities)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(config)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = std::fs::read(file).map_err(|error| TlsError::Unreadable(file.to_owned(), error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    let missing = || TlsError::NotPem { file: file.to_owned(), what: "certificate" };
    if certificates.is_empty() { Err(missing()) } else { Ok(certificates) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    use std::os::unix::fs::PermissionsExt;
    let unreadable = |error| TlsError::Unreadable(file.to_owned(), error);
    if std::fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
        return Err(TlsError::OpenToOthers(file.to_owned()));
    }
    let bytes = zeroize::Zeroizing::new(std::fs::read(file).map_err(unreadable)?);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::NotPem { file: file.to_owned(), what: "private key" })
}
