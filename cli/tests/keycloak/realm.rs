//! Keycloak as an administrator and as an application see it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nexus_auth::testing::{Holder, mint_with};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use crate::browser::Browser;
use crate::stack::Stack;

const NAME: &str = "nexushealth";

pub struct Realm {
    http: Client,
    server: String,
    admin_token: String,
    /// Where the application of the test takes people back.
    redirect_uri: String,
    application: JoinHandle<()>,
}

impl Drop for Realm {
    fn drop(&mut self) {
        self.application.abort();
    }
}

impl Realm {
    /// Signs in as administrator, and gives the application an address that answers.
    pub async fn of(stack: &Stack) -> Self {
        let secrets = std::fs::read(stack.folder.join("secrets/keycloak.json")).unwrap();
        let secrets: Value = serde_json::from_slice(&secrets).unwrap();
        let (http, server) = (stack.http.clone(), format!("https://127.0.0.1:{}", stack.port_base));
        let password = secrets["admin"].as_str().unwrap();
        let form =
            [("grant_type", "password"), ("client_id", "admin-cli"), ("username", "admin"), ("password", password)];
        let url = format!("{server}/realms/master/protocol/openid-connect/token");
        let tokens: Value = http.post(url).form(&form).send().await.unwrap().json().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let redirect_uri = format!("http://{}/callback", listener.local_addr().unwrap());
        let application = tokio::spawn(answer_anything(listener));
        let admin_token = tokens["access_token"].as_str().unwrap().to_owned();
        let realm = Self { http, server, admin_token, redirect_uri, application };
        realm.let_application_redirect().await;
        realm
    }

    pub fn issuer(&self) -> String {
        format!("{}/realms/{NAME}", self.server)
    }

    fn token_endpoint(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.issuer())
    }

    /// Somebody who works at this organization.
    pub async fn add_person(&self, name: &str, password: &str, role: &str, organization: &str) {
        let credential = json!({"type": "password", "value": password, "temporary": false});
        let attributes = json!({"organization": [organization]});
        let person = json!({"username": name, "enabled": true, "credentials": [credential], "attributes": attributes});
        self.admin(Method::POST, "users", Some(person)).await;
        let found = self.admin(Method::GET, &format!("users?exact=true&username={name}"), None).await;
        let id = found[0]["id"].as_str().unwrap().to_owned();
        let role = self.admin(Method::GET, &format!("roles/{role}"), None).await;
        self.admin(Method::POST, &format!("users/{id}/role-mappings/realm"), Some(json!([role]))).await;
    }

    /// A new key that signs from now on; the former one stays published.
    pub async fn add_signing_key(&self) {
        let realm = self.admin(Method::GET, "", None).await;
        let config = json!({
            "priority": ["200"], "enabled": ["true"], "active": ["true"], "ecdsaEllipticCurveKey": ["P-256"],
        });
        let component = json!({
            "name": "next", "providerId": "ecdsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"], "config": config,
        });
        self.admin(Method::POST, "components", Some(component)).await;
    }

    /// The status of an attempt to get a token with a password and without the page.
    pub async fn by_password_alone(&self, name: &str, password: &str) -> u16 {
        let form = [("grant_type", "password"), ("client_id", "admin-cli"), ("username", name), ("password", password)];
        self.http.post(self.token_endpoint()).form(&form).send().await.unwrap().status().as_u16()
    }

    pub async fn refresh(&self, token: &str, holder: &Holder) -> u16 {
        let form = [("grant_type", "refresh_token"), ("client_id", "frontend"), ("refresh_token", token)];
        let request = self.http.post(self.token_endpoint()).form(&form).header("dpop", self.proof(holder));
        request.send().await.unwrap().status().as_u16()
    }

    fn proof(&self, holder: &Holder) -> String {
        let claims = holder.proof_claims("POST", &self.token_endpoint(), None);
        mint_with(holder.key(), &holder.proof_header(), &claims)
    }

    async fn let_application_redirect(&self) {
        let mut client = self.admin(Method::GET, "clients?clientId=frontend", None).await[0].take();
        client["redirectUris"] = json!([self.redirect_uri]);
        let id = client["id"].as_str().unwrap().to_owned();
        self.admin(Method::PUT, &format!("clients/{id}"), Some(client)).await;
    }

    async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/admin/realms/{NAME}/{path}", self.server);
        let mut request = self.http.request(method, url.trim_end_matches('/')).bearer_auth(&self.admin_token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// One run of the code flow with PKCE, as an application does it.
pub struct SignIn {
    pub url: String,
    verifier: String,
    state: String,
    nonce: String,
}

impl SignIn {
    pub fn begin(realm: &Realm, holder: Option<&Holder>) -> Self {
        let secret = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let (verifier, state, nonce) = (secret(), secret(), secret());
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let mut url = Url::parse(&format!("{}/protocol/openid-connect/auth", realm.issuer())).unwrap();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", "frontend"),
            ("redirect_uri", &realm.redirect_uri),
            ("scope", "openid user/*.cruds"),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        if let Some(holder) = holder {
            url.query_pairs_mut().append_pair("dpop_jkt", holder.key().id());
        }
        Self { url: url.into(), verifier, state, nonce }
    }

    /// Waits until the browser is sent back, and exchanges the code.
    pub async fn finish(self, realm: &Realm, browser: &Browser, holder: Option<&Holder>) -> Value {
        let answer = self.answer(realm, browser).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "frontend"),
            ("redirect_uri", &realm.redirect_uri),
            ("code", &answer["code"]),
            ("code_verifier", &self.verifier),
        ];
        let mut request = realm.http.post(realm.token_endpoint()).form(&form);
        if let Some(holder) = holder {
            request = request.header("dpop", realm.proof(holder));
        }
        let tokens: Value = request.send().await.unwrap().json().await.unwrap();
        let access = claims_of(tokens["access_token"].as_str().unwrap_or_else(|| panic!("{tokens}")));
        assert_eq!(access["aud"], "nexushealth");
        assert!(access["roles"].as_array().unwrap().contains(&json!("nurse")), "{access}");
        assert!(access["scope"].as_str().unwrap().contains("user/*.cruds"), "{access}");
        assert_eq!(access["cnf"]["jkt"].as_str(), holder.map(|holder| holder.key().id()));
        assert_eq!(claims_of(tokens["id_token"].as_str().unwrap())["nonce"], self.nonce);
        tokens
    }

    async fn answer(&self, realm: &Realm, browser: &Browser) -> HashMap<String, String> {
        let url = browser.wait_for_url(&realm.redirect_uri).await;
        let answer: HashMap<String, String> = Url::parse(&url).unwrap().query_pairs().into_owned().collect();
        assert_eq!((&answer["state"], &answer["iss"]), (&self.state, &realm.issuer()));
        answer
    }
}

/// The application's page: what matters is its address.
async fn answer_anything(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_err() {
            continue;
        }
        // A browser that went away is not missed.
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await.ok();
    }
}

pub fn key_id(token: &str) -> String {
    part_of(token, 0)["kid"].as_str().unwrap().to_owned()
}

fn claims_of(token: &str) -> Value {
    part_of(token, 1)
}

fn part_of(token: &str, number: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap()).unwrap()
}
