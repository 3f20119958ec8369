//! A development server of Vault or OpenBao, in memory, for the life of a test.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use uuid::Uuid;

use crate::common::eventually;

pub struct Server {
    process: Child,
    pub address: String,
    pub token: String,
}

impl Server {
    pub async fn start(program: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (listen, token) = (format!("127.0.0.1:{port}"), Uuid::new_v4().to_string());
        let process = Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id", &token])
            .args(["-dev-listen-address", &listen])
            .env("HOME", std::env::temp_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, address: format!("http://{listen}"), token };
        let health = format!("{}/v1/sys/health", server.address);
        eventually("the server is unsealed", || async {
            reqwest::get(&health).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A role that may do what a service needs, and nothing else.
pub async fn app_role(vault: &super::Vault) -> (String, String) {
    let policy = "path \"transit/encrypt/nexus\" { capabilities = [\"update\"] }
                  path \"transit/decrypt/nexus\" { capabilities = [\"update\"] }";
    vault.post("sys/policies/acl/nexus", json!({"policy": policy})).await;
    vault.post("sys/auth/approle", json!({"type": "approle"})).await;
    vault.post("auth/approle/role/nexus", json!({"token_policies": "nexus", "token_ttl": "1h"})).await;
    let role = reqwest::Client::new().get(format!("{}/v1/auth/approle/role/nexus/role-id", vault.address));
    let role = role.header("X-Vault-Token", &vault.token).send().await.unwrap().bytes().await.unwrap();
    let role: serde_json::Value = serde_json::from_slice(&role).unwrap();
    let secret = vault.post("auth/approle/role/nexus/secret-id", json!({})).await;
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&role["data"]["role_id"]), text(&secret["data"]["secret_id"]))
}
