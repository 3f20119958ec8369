//! Chromium without a window, driven through chromedriver (W3C WebDriver). Both end with the value.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How WebDriver marks an element in its answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    http: reqwest::Client,
    driver: Child,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser outlives a driver that is killed, so it is told to go first.
        let end = ["--silent", "--noproxy", "*", "--max-time", "10", "--request", "DELETE", &self.session];
        drop(Command::new("curl").args(end).stdout(Stdio::null()).status());
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

impl Browser {
    /// A browser that has been nowhere yet.
    pub async fn start() -> Self {
        let port = nexus_local::free_ports(1).unwrap()[0];
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = command.spawn().expect("chromedriver is installed (Debian: chromium-driver)");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut browser = Self { http, driver, session: format!("http://127.0.0.1:{port}") };
        let started = Instant::now();
        while browser.http.get(format!("{}/status", browser.session)).send().await.is_err() {
            assert!(started.elapsed() < DEADLINE, "chromedriver does not answer");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        // Root may not use the sandbox, and needs none to look at a page of this machine.
        // It does not know the stack's authority; that the certificate is good is for the doors to check.
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--ignore-certificate-errors"]});
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let session = browser.post("session", wanted).await.expect("Chromium starts");
        browser.session = format!("{}/session/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser
    }

    pub async fn go(&self, url: &str) {
        self.post("url", json!({"url": url})).await.expect("the page loads");
    }

    pub async fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("element/{element}/clear"), json!({})).await.expect("an input");
        self.post(&format!("element/{element}/value"), json!({"text": text})).await.expect("an input");
    }

    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.post(&format!("element/{element}/click"), json!({})).await.expect("something to click");
    }

    pub async fn text(&self, selector: &str) -> String {
        let element = self.find(selector).await;
        self.get(&format!("element/{element}/text")).await.as_str().unwrap().to_owned()
    }

    /// Waits until the address begins like this, and answers it.
    pub async fn wait_for_url(&self, prefix: &str) -> String {
        let started = Instant::now();
        loop {
            let url = self.get("url").await;
            let url = url.as_str().unwrap_or_default();
            if url.starts_with(prefix) {
                return url.to_owned();
            }
            assert!(started.elapsed() < DEADLINE, "still at {url}\n{}", self.get("source").await);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The code that an authenticator would show, in the time step that is `ahead` of the present one (RFC 6238). The
    /// browser knows HMAC-SHA-1, and so nothing else needs to.
    pub async fn totp(&self, secret: &str, ahead: i64) -> String {
        let script = r#"
            const [secret, ahead, done] = arguments;
            const bits = [...secret].map(c => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
            const key = new Uint8Array(bits.match(/.{8}/g).map(byte => parseInt(byte, 2)));
            const counter = new DataView(new ArrayBuffer(8));
            counter.setBigUint64(0, BigInt(Math.floor(Date.now() / 30000) + ahead));
            crypto.subtle.importKey('raw', key, {name: 'HMAC', hash: 'SHA-1'}, false, ['sign'])
                .then(key => crypto.subtle.sign('HMAC', key, counter.buffer))
                .then(signature => {
                    const view = new DataView(signature);
                    const number = view.getUint32(view.getUint8(19) & 15) & 0x7fffffff;
                    done(String(number % 1000000).padStart(6, '0'));
                });"#;
        let answer = self.post("execute/async", json!({"script": script, "args": [secret, ahead]})).await;
        answer.expect("the script runs").as_str().unwrap().to_owned()
    }

    /// Waits for the element, and answers its name.
    pub async fn find(&self, selector: &str) -> String {
        let started = Instant::now();
        loop {
            match self.post("element", json!({"using": "css selector", "value": selector})).await {
                Ok(element) => return element[ELEMENT].as_str().unwrap().to_owned(),
                Err(_) if started.elapsed() < DEADLINE => tokio::time::sleep(POLL_INTERVAL).await,
                Err(error) => {
                    panic!("no {selector} at {}: {error}\n{}", self.get("url").await, self.get("source").await)
                }
            }
        }
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}/{path}", self.session)).send().await.unwrap();
        response.json::<Value>().await.unwrap()["value"].take()
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        let response = self.http.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let (status, mut body) = (response.status(), response.json::<Value>().await.unwrap());
        let value = body["value"].take();
        if status.is_success() { Ok(value) } else { Err(value["message"].to_string()) }
    }
}
