//! A plain client for tests: the API's answers as status and data or error.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::Duration;

use serde_json::{Value, json};
use vyos_router::Router;

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Client {
    pub(crate) fn of(router: &Router) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = reqwest::Certificate::from_pem(router.ca_pem().as_bytes()).unwrap();
        let http =
            reqwest::Client::builder().tls_certs_only([ca]).timeout(Duration::from_secs(20)).build().unwrap();
        Self { http, url: router.url(), key: router.key().to_owned() }
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = key.to_owned();
        self
    }

    /// A JSON body with the key put in: status, and data or error.
    pub(crate) async fn json(&self, endpoint: &str, body: Value) -> (u16, Value) {
        self.try_json(endpoint, body).await.unwrap()
    }

    pub(crate) async fn try_json(
        &self,
        endpoint: &str,
        mut body: Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        body["key"] = json!(self.key);
        let answer = self.http.post(format!("{}{endpoint}", self.url)).json(&body).send().await?;
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null);
        let said = if body["success"] == json!(true) { "data" } else { "error" };
        Ok((status, body[said].clone()))
    }

    /// Raw bytes under a content type: status, content type, body.
    pub(crate) async fn raw(
        &self,
        endpoint: &str,
        kind: Option<&str>,
        body: Vec<u8>,
    ) -> (u16, String, String) {
        let mut request = self.http.post(format!("{}{endpoint}", self.url)).body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let answer = request.send().await.unwrap();
        let kind = answer.headers().get("content-type").map(|k| k.to_str().unwrap().to_owned());
        (answer.status().as_u16(), kind.unwrap_or_default(), answer.text().await.unwrap())
    }

    pub(crate) async fn configure(&self, commands: &[Value]) -> (u16, Value) {
        self.try_configure(commands).await.unwrap()
    }

    pub(crate) async fn try_configure(&self, commands: &[Value]) -> Result<(u16, Value), reqwest::Error> {
        self.try_json("/configure", json!({"commands": commands})).await
    }

    pub(crate) async fn show_config(&self, path: &[&str]) -> (u16, Value) {
        self.json("/retrieve", json!({"op": "showConfig", "path": path})).await
    }

    pub(crate) async fn show(&self, path: &str) -> (u16, Value) {
        self.json("/show", json!({"op": "show", "path": path.split(' ').collect::<Vec<_>>()})).await
    }

    pub(crate) async fn exists(&self, path: &str) -> Value {
        let path: Vec<_> = path.split(' ').collect();
        self.json("/retrieve", json!({"op": "exists", "path": path})).await.1
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) async fn post_text(&self, url: &str, body: &str) -> u16 {
        self.http.post(url).body(body.to_owned()).send().await.unwrap().status().as_u16()
    }

    /// Waits until the router has restarted so often and answers again.
    pub(crate) async fn until_boots(&self, router: &Router, boots: u32) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while router.boots() < boots
            || self.try_json("/retrieve", json!({"op": "exists", "path": ["x"]})).await.is_err()
        {
            assert!(tokio::time::Instant::now() < deadline, "the router did not come back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
