//! A small stand-in of OpenBAO 2: Kubernetes authentication, tokens with leases, KV version 2, the seal; with the documents and
//! the errors that the real one answers with, over TLS.
#![allow(unreachable_pub, reason = "it is a part of one test")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::IntoResponse,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use weir_tls::{Caller, Clients, Files, Identity, Listener, Protocol};

use super::secret::{Authority, Mounted};

/// The token of the service account that the role is bound to.
pub const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.projected-1.sig";

/// A running server; it ends with this value.
pub struct OpenBao {
    pub url: String,
    pub mounted: Mounted,
    shared: Arc<Mutex<Vault>>,
    task: JoinHandle<()>,
}

/// What it holds and does.
pub struct Vault {
    pub sealed: bool,
    /// Whether the role's policy lets its entries be read.
    pub allowed: bool,
    pub jwt: String,
    /// Lease of a token in seconds, and whether it may be renewed.
    pub lease: (u64, bool),
    pub entries: BTreeMap<String, Value>,
    tokens: BTreeMap<String, Instant>,
    pub logins: u32,
    pub renewals: u32,
    pub reads: u32,
}

impl OpenBao {
    pub async fn start() -> Self {
        let authority = Authority::new("openbao");
        let mounted = Mounted::new(&authority.sign(), &authority);
        let identity = Identity::read(Files::in_folder(mounted.path()), Clients::Anybody).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", tcp.local_addr().unwrap().port());
        let vault = Vault {
            sealed: false,
            allowed: true,
            jwt: JWT.to_owned(),
            lease: (3600, true),
            entries: BTreeMap::new(),
            tokens: BTreeMap::new(),
            logins: 0,
            renewals: 0,
            reads: 0,
        };
        let shared = Arc::new(Mutex::new(vault));
        let pages = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Caller>();
        let listener = Listener::new(tcp, Some(identity), Protocol::Pages);
        let task = tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        std::fs::write(mounted.path().join("jwt"), format!("{JWT}\n")).unwrap();
        Self { url, mounted, shared, task }
    }

    pub fn vault(&self) -> MutexGuard<'_, Vault> {
        self.shared.lock().unwrap()
    }

    /// Writes an entry as `bao kv put -mount=secret weir/PATH` does.
    pub fn put(&self, path: &str, data: Value) {
        self.vault().entries.insert(format!("weir/{path}"), data);
    }

    /// A token that somebody else got.
    pub fn token(&self, seconds: u64) -> String {
        self.vault().issue(seconds)
    }

    /// Takes every token back, as a restart with another storage or an administrator does.
    pub fn revoke(&self) {
        self.vault().tokens.clear();
    }

    pub async fn stop(self) -> Mounted {
        self.task.abort();
        let _ = self.task.await;
        self.mounted
    }
}

impl Vault {
    fn issue(&mut self, seconds: u64) -> String {
        let token = format!("s.stand-in-token-{}-{}", self.logins, self.tokens.len());
        self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(seconds));
        token
    }

    fn auth(&self, token: &str) -> Value {
        let (seconds, renewable) = self.lease;
        let auth = json!({
            "client_token": token, "accessor": "accessor", "policies": ["default", "vyos-sync"],
            "token_policies": ["default", "vyos-sync"], "identity_policies": null,
            "metadata": {"role": "vyos-sync", "service_account_name": "vyos-sync",
                "service_account_namespace": "weir-system", "service_account_secret_name": "", "service_account_uid": "1"},
            "orphan": true, "entity_id": "entity", "lease_duration": seconds, "renewable": renewable,
            "token_type": "service", "mfa_requirement": null, "num_uses": 0,
        });
        envelope("auth", auth)
    }

    fn login(&mut self, body: &[u8]) -> (u16, Value) {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        if asked["role"] != "vyos-sync" {
            return (400, errors(&format!("invalid role name {}", asked["role"])));
        }
        if asked["jwt"] != self.jwt {
            return denied();
        }
        self.logins += 1;
        let token = self.issue(self.lease.0);
        (200, self.auth(&token))
    }

    fn with_token(&mut self, method: &Method, path: &str, token: &str) -> (u16, Value) {
        let now = Instant::now();
        if self.tokens.get(token).is_none_or(|ends| *ends <= now) {
            return denied();
        }
        match (method, path) {
            (&Method::POST, "auth/token/renew-self") => {
                if !self.lease.1 {
                    return (400, errors("lease is not renewable"));
                }
                self.renewals += 1;
                self.tokens.insert(token.to_owned(), now + Duration::from_secs(self.lease.0));
                (200, self.auth(token))
            }
            (&Method::GET, "auth/token/lookup-self") => {
                let ttl = self.tokens[token].duration_since(now).as_secs();
                (
                    200,
                    envelope(
                        "data",
                        json!({"ttl": ttl, "renewable": self.lease.1, "type": "service", "policies": ["vyos-sync"]}),
                    ),
                )
            }
            (&Method::GET, path) if path.starts_with("secret/data/") => {
                self.reads += 1;
                let place = path.trim_start_matches("secret/data/");
                if !self.allowed || !place.starts_with("weir/") {
                    return denied();
                }
                match self.entries.get(place) {
                    None => (404, json!({"errors": []})),
                    Some(data) => (
                        200,
                        envelope(
                            "data",
                            json!({"data": data, "metadata": {
                        "created_time": "2026-11-01T10:00:00.123456789Z", "custom_metadata": null, "deletion_time": "",
                        "destroyed": false, "version": 1}}),
                        ),
                    ),
                }
            }
            _ => (404, errors(&format!("no handler for route \"{path}\". route entry not found."))),
        }
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Vault>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let mut vault = shared.lock().unwrap();
    let path = uri.path().trim_start_matches("/v1/").to_owned();
    let (status, document) = match (vault.sealed, path.as_str()) {
        (true, _) => (503, errors("Vault is sealed")),
        (false, "auth/kubernetes/login") => vault.login(&body),
        (false, path) => {
            let token =
                headers.get("X-Vault-Token").and_then(|token| token.to_str().ok()).unwrap_or_default();
            vault.with_token(&method, path, token)
        }
    };
    (StatusCode::from_u16(status).unwrap(), document.to_string())
}

fn envelope(part: &str, content: Value) -> Value {
    let mut document = json!({
        "request_id": "9f2c1f0e-0b0e-4a8e-8a67-3f8a4a7f0b11", "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": null, "wrap_info": null, "warnings": null, "auth": null,
    });
    document[part] = content;
    document
}

fn errors(text: &str) -> Value {
    json!({"errors": [text]})
}

fn denied() -> (u16, Value) {
    (403, errors("1 error occurred:\n\t* permission denied\n\n"))
}
