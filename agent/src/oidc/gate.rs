//! Lets a call through, or tells why not.

use std::{
    convert::Infallible,
    error::Error as _,
    iter::successors,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, Request, Response, header::AUTHORIZATION},
    server::NamedService,
};
use tower::Service;

pub use super::keys::Pace;
use super::{
    Settings, fetch,
    keys::{Found, Keys, Shelf, Token},
};
use crate::model::access::{Call, Grant, Refusal, grant};

/// Checks the callers of the gRPC interface.
pub struct Gate {
    settings: Settings,
    pace: Pace,
    shelf: Mutex<Shelf>,
    /// Held while the issuer is asked: whoever comes meanwhile waits for the same answer.
    asking: tokio::sync::Mutex<()>,
    refused: [AtomicU64; Refusal::WORDS.len()],
    fetched: AtomicU64,
    failed: AtomicU64,
}

/// How the gate does, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Calls refused, in the order of [`Refusal::WORDS`].
    pub refused: [u64; Refusal::WORDS.len()],
    /// Times that the issuer told its keys.
    pub fetched: u64,
    /// Times that it did not.
    pub failed: u64,
}

impl Gate {
    /// A gate with these settings. The issuer is asked when somebody comes.
    pub fn new(settings: Settings, pace: Pace) -> Arc<Self> {
        let refused = std::array::from_fn(|_| AtomicU64::default());
        let (shelf, asking, fetched, failed) = Default::default();
        Arc::new(Self { settings, pace, shelf, asking, refused, fetched, failed })
    }

    /// How it does.
    pub fn reading(&self) -> Reading {
        Reading {
            refused: self.refused.each_ref().map(|number| number.load(Relaxed)),
            fetched: self.fetched.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// Until when somebody with these headers may call this path; without end where no token is asked for.
    ///
    /// # Errors
    /// Not, with the code that gRPC has for it: `Unauthenticated` where the token is at fault, `PermissionDenied` where its
    /// roles are, `Unavailable` where nobody can be checked.
    pub async fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Deadline>, Status> {
        let refusal = match self.check(path, headers).await {
            Ok(grant) => return Ok(grant.map(|grant| Deadline::of(&grant))),
            Err(refusal) => refusal,
        };
        let word = refusal.word();
        if let Some(index) = Refusal::WORDS.iter().position(|it| *it == word) {
            self.refused[index].fetch_add(1, Relaxed);
        }
        tracing::info!(path, reason = word, "a call is refused");
        let text = refusal.to_string();
        Err(match refusal {
            Refusal::NoRole { .. } => Status::permission_denied(text),
            Refusal::NoKeys(_) => Status::unavailable(text),
            _ => Status::unauthenticated(text),
        })
    }

    async fn check(&self, path: &str, headers: &HeaderMap) -> Result<Option<Grant>, Refusal> {
        let needed = self.settings.rules.needed(Call::of(path));
        let Some(role) = needed.first() else { return Ok(None) };
        let terms = &self.settings.terms;
        let none = || Refusal::NoToken { issuer: terms.issuer.clone(), role: (*role).to_owned() };
        let claims = self.claims(bearer(headers).ok_or_else(none)?).await?;
        let grant = grant(&claims, terms, since_1970().as_secs())?;
        if needed.iter().any(|role| grant.roles.contains(*role)) {
            return Ok(Some(grant));
        }
        Err(Refusal::NoRole { role: (*role).to_owned(), claim: terms.roles_claim.clone() })
    }

    async fn claims(&self, text: &str) -> Result<Value, Refusal> {
        let token = Token::read(text)?;
        token.claims(&*self.keys(&token.key).await?)
    }

    /// The issuer's keys, with this one among them.
    async fn keys(&self, kid: &str) -> Result<Arc<Keys>, Refusal> {
        let mut found = self.shelf().find(kid, &self.pace, Instant::now());
        if matches!(found, Found::Ask) {
            let _alone = self.asking.lock().await;
            found = self.shelf().find(kid, &self.pace, Instant::now());
            if matches!(found, Found::Ask) {
                self.ask().await;
                // Keys that have just come are not asked for again, however short the pace is.
                found = self.shelf().find(kid, &Pace { between: Duration::MAX, ..self.pace }, Instant::now());
            }
        }
        let issuer = &self.settings.terms.issuer;
        match found {
            Found::Keys(keys) => Ok(keys),
            Found::Unknown => Err(Refusal::UnknownKey(issuer.clone())),
            Found::Absent(why) => Err(Refusal::NoKeys(why)),
            Found::Ask => Err(Refusal::NoKeys(format!("{issuer} was not asked"))),
        }
    }

    async fn ask(&self) {
        let answer = fetch::keys(&self.settings.terms.issuer, self.settings.ca.as_deref()).await;
        let count = if answer.is_ok() { &self.fetched } else { &self.failed };
        count.fetch_add(1, Relaxed);
        let answer = answer.map_err(|error| {
            let causes = successors(error.source(), |cause| (*cause).source());
            let why = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            tracing::warn!("the keys of tokens are not known: {why}");
            why
        });
        self.shelf().keep(answer, Instant::now());
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a stream that a token opened ends. It is among the extensions of the request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub tokio::time::Instant);

impl Deadline {
    fn of(grant: &Grant) -> Self {
        Self(tokio::time::Instant::now() + grant.left(since_1970()))
    }
}

fn since_1970() -> Duration {
    Timestamp::now().as_duration().try_into().unwrap_or_default()
}

/// The token of an `authorization` header (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// A service behind a gate.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> Guarded<S> {
    /// The service, behind the gate.
    pub fn new(inner: S, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready goes along; its clone is made ready next time.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            match gate.admit(request.uri().path(), request.headers()).await {
                Ok(deadline) => {
                    if let Some(deadline) = deadline {
                        request.extensions_mut().insert(deadline);
                    }
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
