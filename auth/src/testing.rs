//! Callers and tokens for tests: an issuer in this process, and tokens that a real one would never sign.
//!
//! Behind the `testing` feature, which no service enables.

mod routes;

use std::collections::HashMap;

use axum::Router;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use uuid::Uuid;

use crate::{
    caller::{Caller, Identity, Role},
    issuer::{Client, ClientsFile, Issuer, IssuerConfig, SigningKey, SigningKeys, TOKEN_LIFETIME_DEFAULT, secret_hash},
    verifier::{Verifier, VerifierConfig},
};

pub use routes::{About, Door, ROUTES, Route, Standing};

/// The audience of every test.
pub const AUDIENCE: &str = "nexushealth";
/// The secret of every account of a [`TestIssuer`]; the accounts are named after the roles.
pub const SECRET: &str = "test-secret-0123456789abcdef";

/// The organization that the clinicians among [`TestIssuer::token`]'s callers work for.
pub const ORGANIZATION: Uuid = Uuid::from_u128(0x0a9a_0000_0000_4000_8000_0000_0000_0001);

/// A caller without a token. Everything outside tests gets its callers from the verifier.
pub fn caller_for_test(id: &str, roles: &[Role], patient: Option<Uuid>) -> Caller {
    Caller::new(Identity {
        id: id.to_owned(),
        roles: roles.iter().copied().collect(),
        patient,
        practitioner: None,
        organization: None,
        scopes: Vec::new(),
        client_id: Some(id.to_owned()),
        expires_at: i64::MAX,
    })
}

/// The issuer on a free port of this machine. Stops when dropped.
pub struct TestIssuer {
    issuer: Issuer,
    listening: Option<JoinHandle<()>>,
}

impl TestIssuer {
    /// Starts an issuer with an account per role.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let config = IssuerConfig {
            issuer: format!("http://{address}"),
            audience: AUDIENCE.to_owned(),
            token_lifetime: TOKEN_LIFETIME_DEFAULT,
        };
        let keys = SigningKeys::ephemeral().expect("the system has randomness");
        let issuer = Issuer::new(config, keys, ClientsFile::in_memory(account_per_role()));
        let listening = Some(serve(listener, issuer.router()));
        Self { issuer, listening }
    }

    /// The `iss` of its tokens.
    pub fn url(&self) -> &str {
        self.issuer.url()
    }

    /// The issuer behind the port, for its keys and routes.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// A verifier that trusts this issuer and knows its keys.
    pub async fn verifier(&self) -> Verifier {
        let config = VerifierConfig { issuer: self.url().to_owned(), audience: AUDIENCE.to_owned(), authorities: None };
        let verifier = Verifier::connect(config).await.expect("a valid configuration");
        let token = self.token(Role::Operator);
        verifier.verify(&token).await.expect("the issuer is up");
        verifier
    }

    /// A valid token with one role; `sub` is `test-<role>`. Whoever cares for patients works for [`ORGANIZATION`].
    pub fn token(&self, role: Role) -> String {
        let mut claims = self.claims(&format!("test-{role}"), &[role], None);
        if matches!(role, Role::Nurse | Role::Physician | Role::Pharmacist) {
            claims["organization"] = json!(ORGANIZATION);
        }
        self.mint(&claims)
    }

    /// A valid token with one role of somebody who is in the directory, and who may work for an organization.
    pub fn token_of(&self, role: Role, practitioner: Uuid, organization: Option<Uuid>) -> String {
        let mut claims = self.claims(&format!("{role}-{practitioner}"), &[role], None);
        claims["fhirUser"] = json!(format!("Practitioner/{practitioner}"));
        if let Some(organization) = organization {
            claims["organization"] = json!(organization);
        }
        self.mint(&claims)
    }

    /// A valid token with one role that is bound to the holder's key.
    pub fn bound_token(&self, role: Role, holder: &Holder) -> String {
        let mut claims = self.claims(&format!("test-{role}"), &[role], None);
        claims["cnf"] = holder.confirmation();
        self.mint(&claims)
    }

    /// A valid token of a patient for their own record.
    pub fn patient_token(&self, patient: Uuid) -> String {
        self.mint(&self.claims(&format!("patient-{patient}"), &[Role::Patient], Some(patient)))
    }

    /// Valid claims, to be changed by the test before they are minted.
    pub fn claims(&self, id: &str, roles: &[Role], patient: Option<Uuid>) -> Value {
        let now = crate::verifier::now_seconds();
        let mut claims = json!({
            "iss": self.url(), "sub": id, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3600,
            "jti": Uuid::now_v7(), "client_id": id, "roles": roles,
        });
        if let Some(patient) = patient {
            claims["patient"] = json!(patient);
        }
        claims
    }

    /// Signs any claims with the issuer's current key.
    pub fn mint(&self, claims: &Value) -> String {
        let key = self.issuer.keys().current();
        mint_with(&key, &json!({"alg": "ES256", "typ": "at+jwt", "kid": key.id()}), claims)
    }

    /// Goes away, as far as the network can tell. The keys stay for [`TestIssuer::restart`].
    pub async fn stop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            // The only possible error is the cancellation just asked for.
            drop(listening.await);
        }
    }

    /// Comes back under the same address.
    pub async fn restart(&mut self) {
        self.stop().await;
        let address = self.url().trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(address).await.expect("the former port is still free");
        self.listening = Some(serve(listener, self.issuer.router()));
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

/// A client with a key of its own, to which tokens can be bound.
pub struct Holder(SigningKey);

impl Holder {
    /// A client with a fresh key.
    pub fn generate() -> Self {
        Self(SigningKey::generate().expect("the system has randomness"))
    }

    /// The key, for tokens and proofs of any shape.
    pub fn key(&self) -> &SigningKey {
        &self.0
    }

    /// What a token says that is bound to this key: the claim `cnf`.
    pub fn confirmation(&self) -> Value {
        json!({"jkt": self.0.id()})
    }

    /// The header of a valid proof, to be changed by the test.
    pub fn proof_header(&self) -> Value {
        let public = self.0.public_jwk();
        let key = json!({"kty": public["kty"], "crv": public["crv"], "x": public["x"], "y": public["y"]});
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key})
    }

    /// The claims of a valid proof, to be changed by the test.
    pub fn proof_claims(&self, method: &str, url: &str, token: Option<&str>) -> Value {
        let mut claims =
            json!({"jti": Uuid::now_v7(), "htm": method, "htu": url, "iat": crate::verifier::now_seconds()});
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into();
        }
        claims
    }

    /// A valid proof for a request with a token.
    pub fn proof(&self, method: &str, url: &str, token: &str) -> String {
        mint_with(&self.0, &self.proof_header(), &self.proof_claims(method, url, Some(token)))
    }
}

/// Signs any header and claims with any key.
pub fn mint_with(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let signed = unsigned(header, claims);
    let signature = URL_SAFE_NO_PAD.encode(key.sign_bytes(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// `header.payload` without a signature: append `.` for an `alg:none` token, or a signature of the test's own.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn account_per_role() -> HashMap<String, Client> {
    let account = |role: Role| Client {
        secret_sha256: Some(secret_hash(SECRET)),
        roles: vec![role],
        person: true,
        ..Client::default()
    };
    Role::ALL.into_iter().map(|role| (role.as_str().to_owned(), account(role))).collect()
}

fn serve(listener: TcpListener, router: Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        axum::serve(listener, router).await.expect("serving never ends by itself");
    })
}
