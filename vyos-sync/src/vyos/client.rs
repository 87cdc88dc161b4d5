//! The client: one connection's worth of politeness towards one router.

use std::{
    error::Error as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    error::{ApiError, Fate},
    generation::{self, Generation, Release},
    key::{ApiKey, KeySource, Redactor},
    trust::{Trust, TrustError},
    wire,
};
use crate::config::Command;

/// Where a router's API is and how it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host[:port]`. Nothing else is spoken.
    pub url: String,
    /// How the certificate is checked.
    pub trust: Trust,
    /// The API key.
    pub key: KeySource,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// To a TCP and TLS connection.
    pub connect: Duration,
    /// A read, from sent to answered.
    pub read: Duration,
    /// A commit. nginx on the router cuts at 600 s, so longer makes no sense.
    pub commit: Duration,
    /// How long a busy router, or a read that fails because of one, is tried again.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            commit: Duration::from_secs(610),
            patience: Duration::from_secs(60),
        }
    }
}

/// A path touched by a refused request stays closed for about this long on the real router.
const CLOSED_AFTER_REFUSAL: Duration = Duration::from_millis(1_500);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A whole configuration is a few MiB; more is not a router.
const LARGEST_ANSWER: usize = 64 << 20;

/// A client of one router's API. All requests go one after the other.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: KeySource,
    timing: Timing,
    /// Held while a request is in flight; inside, the moment until which no change should be sent.
    gate: Mutex<Option<Instant>>,
    requests: AtomicU64,
    commits: AtomicU64,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an https address.
    #[error("endpoint `{0}` must start with https:// (the API key would travel in clear)")]
    NotHttps(String),
    /// The trust is unusable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The HTTP library refuses.
    #[error("the HTTP client cannot be set up")]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// A client for this endpoint. Nothing is sent yet.
    ///
    /// # Errors
    /// The address or the trust is unusable.
    pub fn new(endpoint: Endpoint, timing: Timing) -> Result<Self, ClientError> {
        if !endpoint.url.starts_with("https://") {
            return Err(ClientError::NotHttps(endpoint.url));
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(endpoint.trust.config()?)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timing.connect)
            .pool_idle_timeout(Duration::from_secs(15))
            .build()?;
        let base = endpoint.url.trim_end_matches('/').to_owned();
        let counters = (AtomicU64::new(0), AtomicU64::new(0));
        let (requests, commits) = counters;
        Ok(Self { http, base, key: endpoint.key, timing, gate: Mutex::new(None), requests, commits })
    }

    /// Requests and commits sent so far.
    pub fn sent(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.commits.load(Ordering::Relaxed))
    }

    /// `showConfig` of a path; the empty path is the whole configuration. `None` where there is nothing.
    ///
    /// # Errors
    /// Any [`ApiError`], after retries of those that pass.
    pub async fn show_config(&self, path: &[String]) -> Result<Option<Value>, ApiError> {
        match self.read("/retrieve", json!({"op": "showConfig", "path": path})).await {
            Ok(value) => Ok(Some(value)),
            Err(e) if wire::says_empty(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The text of an op-mode `show` command.
    ///
    /// # Errors
    /// Any [`ApiError`]; an unknown command is `Refused`.
    pub async fn show(&self, path: &[&str]) -> Result<String, ApiError> {
        self.read("/show", json!({"op": "show", "path": path})).await.map(text)
    }

    /// The release, from `show version`.
    ///
    /// # Errors
    /// Any [`ApiError`]; a text without a version is `NotVyos`.
    pub async fn release(&self) -> Result<Release, ApiError> {
        let text = self.show(&["version"]).await?;
        Release::parse(&text)
            .ok_or_else(|| ApiError::NotVyos { what: "`show version` names no version".to_owned() })
    }

    /// Which generation of the API answers. Only for a router with no pending confirm of ours: it asks `confirm`,
    /// which does nothing when nothing waits.
    ///
    /// # Errors
    /// Any [`ApiError`] that says nothing about the generation.
    pub async fn generation(&self) -> Result<Generation, ApiError> {
        let confirm = self.confirm().await;
        let background = match confirm {
            Ok(_) => self.has_background_operations().await,
            Err(_) => false,
        };
        Generation::judge(confirm, background)
    }

    async fn has_background_operations(&self) -> bool {
        let asked = json!({"op": "show"});
        let answer =
            self.send("/retrieve/background-operations", asked, self.timing.read, &Redactor::default()).await;
        // Where there is no such place, what answers is not the API's own envelope.
        matches!(answer, Ok(_) | Err(ApiError::Refused { .. } | ApiError::Malformed { .. }))
    }

    /// One `/configure` list: one commit. Gives the router's warnings. Secrets in the commands belong in `clean`.
    ///
    /// # Errors
    /// [`ApiError`]; see [`ApiError::fate`] for what it says. Busy and closed paths were tried again already.
    pub async fn configure(
        &self,
        commands: &[Command],
        clean: &Redactor,
    ) -> Result<Option<String>, ApiError> {
        self.commit(json!({"commands": commands}), clean).await
    }

    /// The same, armed: the router undoes it after `minutes` unless confirmed. `false` when the router did not
    /// answer that the timer runs: then the commit is permanent.
    ///
    /// # Errors
    /// As [`Self::configure`].
    pub async fn configure_armed(
        &self,
        commands: &[Command],
        minutes: u16,
        clean: &Redactor,
    ) -> Result<bool, ApiError> {
        let answer = self.commit(json!({"commands": commands, "confirm_time": minutes}), clean).await?;
        Ok(generation::is_armed(answer.as_deref()))
    }

    /// Confirms a pending armed commit. Does nothing where none is pending.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn confirm(&self) -> Result<Option<String>, ApiError> {
        self.settle("/configure", json!({"op": "confirm"})).await.map(some_text)
    }

    /// Saves the running configuration as the one to boot.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn save(&self) -> Result<(), ApiError> {
        self.settle("/config-file", json!({"op": "save"})).await.map(drop)
    }

    /// Sets a reboot in so many minutes; gives the router's text.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn reboot_in(&self, minutes: u16) -> Result<String, ApiError> {
        let request = json!({"op": "reboot", "path": ["in", minutes.to_string()]});
        self.change("/reboot", request, &Redactor::default()).await.map(text)
    }

    /// Takes back a set reboot; gives the router's text.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn reboot_cancel(&self) -> Result<String, ApiError> {
        self.settle("/reboot", json!({"op": "reboot", "path": ["cancel"]})).await.map(text)
    }

    async fn commit(&self, request: Value, clean: &Redactor) -> Result<Option<String>, ApiError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.change("/configure", request, clean).await.map(some_text)
    }

    async fn read(&self, path: &str, request: Value) -> Result<Value, ApiError> {
        let mut pause = Pause::new(self.timing.patience);
        loop {
            match self.send(path, request.clone(), self.timing.read, &Redactor::default()).await {
                Err(e) if e.read_is_retryable() && pause.wait().await => {
                    tracing::debug!(path, reason = e.reason(), "the read is tried again");
                }
                done => return done,
            }
        }
    }

    /// A change that may be sent twice without harm: a lost answer is no reason to give up.
    async fn settle(&self, path: &str, request: Value) -> Result<Value, ApiError> {
        let mut pause = Pause::new(self.timing.patience);
        loop {
            match self.send(path, request.clone(), self.timing.commit, &Redactor::default()).await {
                Err(e) if (e.read_is_retryable() || e.change_is_retryable()) && pause.wait().await => {
                    tracing::debug!(path, reason = e.reason(), "tried again");
                }
                done => return done,
            }
        }
    }

    async fn change(&self, path: &str, request: Value, clean: &Redactor) -> Result<Value, ApiError> {
        let mut pause = Pause::new(self.timing.patience);
        loop {
            match self.send(path, request.clone(), self.timing.commit, clean).await {
                Err(e) if e.change_is_retryable() && pause.wait().await => {
                    tracing::debug!(path, reason = e.reason(), "the change is tried again");
                }
                done => return done,
            }
        }
    }

    /// One request, alone on the wire.
    async fn send(
        &self,
        path: &str,
        request: Value,
        limit: Duration,
        clean: &Redactor,
    ) -> Result<Value, ApiError> {
        let mut closed_until = self.gate.lock().await;
        let key = self.key.read().map_err(|e| ApiError::NoKey { why: e.to_string() })?;
        let clean = clean.with_key(&key);
        if let (Some(until), "/configure") = (*closed_until, path) {
            tokio::time::sleep_until(until).await;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.post(path, request, limit, &key, &clean).await;
        let refused = matches!(&answer, Err(e) if e.fate() == Fate::PerhapsPartly || e.change_is_retryable());
        *closed_until = (refused && path == "/configure").then(|| Instant::now() + CLOSED_AFTER_REFUSAL);
        answer
    }

    async fn post(
        &self,
        path: &str,
        request: Value,
        limit: Duration,
        key: &ApiKey,
        clean: &Redactor,
    ) -> Result<Value, ApiError> {
        let url = format!("{}{path}", self.base);
        let request = self.http.post(url).timeout(limit).json(&wire::body(request, key));
        let response = request.send().await.map_err(|e| transport(&e))?;
        let status = response.status().as_u16();
        let body = collect(response).await?;
        wire::read(status, &body, clean)
    }
}

async fn collect(mut response: reqwest::Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(&e))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(ApiError::NotVyos { what: format!("an answer of more than {LARGEST_ANSWER} bytes") });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Sorts a transport error: was the request sent or not?
fn transport(error: &reqwest::Error) -> ApiError {
    let why = chain(error);
    match (error.is_connect(), why.contains("certificate") || why.contains("Certificate")) {
        (true, true) => ApiError::Untrusted { why },
        (true, false) => ApiError::Unreachable { why },
        (false, _) => ApiError::Lost { why },
    }
}

/// The causes of an error, outermost first, without the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    if texts.is_empty() {
        texts.push(if error.is_timeout() { "timed out".to_owned() } else { "connection failed".to_owned() });
    }
    texts.dedup();
    texts.join(": ")
}

fn text(value: Value) -> String {
    some_text(value).unwrap_or_default()
}

fn some_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// Growing pauses, until patience ends.
struct Pause {
    next: Duration,
    until: Instant,
}

impl Pause {
    fn new(patience: Duration) -> Self {
        Self { next: FIRST_PAUSE, until: Instant::now() + patience }
    }

    /// Waits; `false` when patience is at its end.
    async fn wait(&mut self) -> bool {
        if Instant::now() + self.next > self.until {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}
