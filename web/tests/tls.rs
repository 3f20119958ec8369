//! TLS on a listener, with certificates of the test's own authority.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::{Router, routing::get};
use nexus_web::server::{GRACE_DEFAULT, ListenError, listen, serve};
use nexus_web::tls::{LOOK_INTERVAL, TlsArgs, TlsError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for 127.0.0.1 and its key, as PEM.
fn issued(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn of(authority: &Authority) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.replace(authority);
        files
    }

    fn replace(&self, authority: &Authority) {
        let (certificate, key) = issued(authority);
        write(&self.path("key.pem"), &key);
        write(&self.path("cert.pem"), &certificate);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn args(&self) -> TlsArgs {
        TlsArgs {
            tls_cert_file: Some(self.path("cert.pem")),
            tls_key_file: Some(self.path("key.pem")),
            tls_client_ca_file: None,
        }
    }

    /// Clients must show a certificate of this authority.
    fn mutual(&self, authority: &Authority) -> TlsArgs {
        write(&self.path("clients.pem"), &authority.pem());
        TlsArgs { tls_client_ca_file: Some(self.path("clients.pem")), ..self.args() }
    }
}

async fn serving(args: &TlsArgs) -> SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap(), args).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "here" }));
    tokio::spawn(serve(listener, router, CancellationToken::new(), GRACE_DEFAULT));
    address
}

/// A client that trusts this authority alone, and shows a certificate if it has one.
fn client(trusted: &Authority, identity: Option<(String, String)>) -> Client {
    let builder = Client::builder().tls_certs_only([Certificate::from_pem(trusted.pem().as_bytes()).unwrap()]);
    let identity =
        identity.map(|(certificate, key)| Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
    identity.into_iter().fold(builder, reqwest::ClientBuilder::identity).no_proxy().build().unwrap()
}

async fn answers(client: &Client, address: SocketAddr) -> bool {
    match client.get(format!("https://{address}/")).send().await {
        Ok(answer) => answer.text().await.unwrap() == "here",
        Err(_) => false,
    }
}

#[tokio::test]
async fn only_who_trusts_the_authority_gets_through_and_nobody_without_tls() {
    let (ours, other) = (authority(), authority());
    let address = serving(&Files::of(&ours).args()).await;
    assert!(answers(&client(&ours, None), address).await);
    assert!(!answers(&client(&other, None), address).await);
    assert!(client(&ours, None).get(format!("http://{address}/")).send().await.is_err());
    let answer = client(&ours, None).get(format!("https://{address}/")).send().await.unwrap();
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=63072000", "a browser stays with TLS");
    let plain = serving(&TlsArgs::default()).await;
    let answer = client(&ours, None).get(format!("http://{plain}/")).send().await.unwrap();
    assert!(!answer.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn mutual_tls_asks_every_client_for_a_certificate_of_its_authority() {
    let (ours, clients, other) = (authority(), authority(), authority());
    let files = Files::of(&ours);
    let address = serving(&files.mutual(&clients)).await;
    assert!(answers(&client(&ours, Some(issued(&clients))), address).await);
    assert!(!answers(&client(&ours, None), address).await);
    assert!(!answers(&client(&ours, Some(issued(&other))), address).await);
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let (old, new) = (authority(), authority());
    let files = Files::of(&old);
    let address = serving(&files.args()).await;
    assert!(answers(&client(&old, None), address).await);

    files.replace(&new);
    until(|| async { answers(&client(&new, None), address).await }).await;
    assert!(!answers(&client(&old, None), address).await);

    // Now a key that does not belong to the certificate: for longer than the files are left alone, the old pair serves.
    write(&files.path("key.pem"), &issued(&new).1);
    let began = Instant::now();
    while began.elapsed() < 2 * LOOK_INTERVAL {
        assert!(answers(&client(&new, None), address).await);
    }
    let last = authority();
    files.replace(&last);
    until(|| async { answers(&client(&last, None), address).await }).await;
}

async fn until<F: Future<Output = bool>>(check: impl Fn() -> F) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it holds in time");
}

#[tokio::test]
async fn without_tls_a_process_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = listen(address.parse().unwrap(), &TlsArgs::default()).await;
        assert!(matches!(refused, Err(ListenError::Plaintext(_))), "{address}");
    }
    assert!(listen("127.0.0.1:0".parse().unwrap(), &TlsArgs::default()).await.is_ok());
}

#[tokio::test]
async fn files_that_can_not_be_right_are_refused_in_words() {
    let files = Files::of(&authority());
    let args = files.args();
    let at = || listen("127.0.0.1:0".parse().unwrap(), &args);

    std::fs::set_permissions(files.path("key.pem"), PermissionsExt::from_mode(0o640)).unwrap();
    let error = at().await.err().unwrap();
    assert!(matches!(error, ListenError::Tls(TlsError::OpenToOthers(_))) && error.to_string().contains("chmod 600"));

    write(&files.path("key.pem"), "nothing");
    let error = at().await.err().unwrap();
    assert!(matches!(error, ListenError::Tls(TlsError::NotPem { what: "private key", .. })), "{error}");

    write(&files.path("key.pem"), &issued(&authority()).1);
    let error = at().await.err().unwrap();
    assert!(matches!(error, ListenError::Tls(TlsError::Mismatch(_))), "{error}");

    std::fs::remove_file(files.path("cert.pem")).unwrap();
    let error = at().await.err().unwrap();
    assert!(matches!(error, ListenError::Tls(TlsError::Unreadable(..))), "{error}");
}
