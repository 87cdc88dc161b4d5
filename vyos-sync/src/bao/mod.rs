//! Edge: OpenBAO, where the routers' keys and the peers' passwords may be kept (KV version 2). Vault speaks the same.
//!
//! Entries are read before a pass, each as often as a period says; the token is renewed on the way, and got anew when it has
//! ended. A server that is sealed, away or unwilling changes nothing: what was read before stays in force, and one condition
//! says so. Nothing that was read is ever written anywhere.

mod client;
mod settings;
mod token;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex as Plain, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::inputs::{Entry, Inputs, Secret, StoreState};
use client::Client;
pub use settings::{Options, OptionsError, Settings};
use token::{Next, Token};
pub use wire::{Trouble, read_entry};

/// How often the server is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// An entry is read again after so long.
    pub period: Duration,
    /// After it failed the server is left alone for so long.
    pub rest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { period: Duration::from_secs(60), rest: Duration::from_secs(5) }
    }
}

/// The store, with what was read of it. One for all routers.
pub struct Bao {
    client: Client,
    pace: Pace,
    known: Mutex<Known>,
    /// For metrics, which wait for nobody.
    reachable: Plain<Option<bool>>,
    asked: [AtomicU64; Trouble::WORDS.len()],
}

#[derive(Default)]
struct Known {
    token: Option<Token>,
    entries: BTreeMap<Entry, (Secret, Instant)>,
    failed: Option<(Instant, StoreState)>,
}

/// How the store does, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether all that is wanted was read; nothing before the first time.
    pub reachable: Option<bool>,
    /// Requests, in the order of [`Trouble::WORDS`].
    pub asked: [u64; Trouble::WORDS.len()],
}

impl Bao {
    /// A store that is asked when something is wanted of it.
    pub fn new(settings: Settings, pace: Pace) -> Self {
        let asked = std::array::from_fn(|_| AtomicU64::default());
        Self {
            client: Client::new(settings),
            pace,
            known: Mutex::default(),
            reachable: Plain::default(),
            asked,
        }
    }

    /// How it does.
    pub fn reading(&self) -> Reading {
        let reachable = *self.reachable.lock().unwrap_or_else(PoisonError::into_inner);
        Reading { reachable, asked: self.asked.each_ref().map(|number| number.load(Relaxed)) }
    }

    /// Gives the inputs what they want of the store, as far as it is known.
    pub async fn supply(&self, inputs: &mut Inputs) {
        let wanted = inputs.wanted_of_store();
        if wanted.is_empty() {
            return;
        }
        let mut known = self.known.lock().await;
        let now = Instant::now();
        let rests = known.failed.as_ref().is_some_and(|(at, _)| now.duration_since(*at) < self.pace.rest);
        let mut trouble = None;
        for entry in wanted.iter().filter(|_| !rests) {
            let fresh = |(_, at): &(Secret, Instant)| now.duration_since(*at) < self.pace.period;
            if known.failed.is_none() && known.entries.get(entry).is_some_and(fresh) {
                continue;
            }
            match self.read(&mut known, entry).await {
                Ok(Some(secret)) => drop(known.entries.insert(entry.clone(), (secret, now))),
                // It says itself that there is none: that is an answer, not a fault.
                Ok(None) => drop(known.entries.remove(entry)),
                Err(what) => {
                    let everywhere = what.concerns_all();
                    trouble.get_or_insert(what);
                    if everywhere {
                        break;
                    }
                }
            }
        }
        if !rests {
            known.failed = trouble.map(|trouble| (Instant::now(), self.kept(&trouble)));
        }
        let state = known.failed.as_ref().map_or(StoreState::Answers, |(_, state)| state.clone());
        *self.reachable.lock().unwrap_or_else(PoisonError::into_inner) = Some(state == StoreState::Answers);
        inputs.store.state = Some(state);
        let of = |entry: &Entry| Some((entry.clone(), known.entries.get(entry)?.0.clone()));
        inputs.store.entries = wanted.iter().filter_map(of).collect();
    }

    fn kept(&self, trouble: &Trouble) -> StoreState {
        let server = self.client.server();
        let text = format!("{server}: {trouble}; what was read of it before stays in force");
        tracing::warn!(reason = trouble.word(), "{text}");
        StoreState::Kept { reason: trouble.reason(), text }
    }

    async fn read(&self, known: &mut Known, entry: &Entry) -> Result<Option<Secret>, Trouble> {
        let (token, new) = self.token(known).await?;
        match self.count(self.client.read(&token, entry).await) {
            // Tokens end early when they are revoked, and with the server's memory.
            Err(Trouble::Denied(_)) if !new => {
                known.token = None;
                let (token, _) = self.token(known).await?;
                self.count(self.client.read(&token, entry).await)
            }
            read => read,
        }
    }

    /// A token that serves, and whether it is new.
    async fn token(&self, known: &mut Known) -> Result<(String, bool), Trouble> {
        let now = Instant::now();
        let next = known.token.as_ref().map_or(Next::Login, |token| token.next(now));
        if let (Next::Renew, Some(token)) = (next, &known.token) {
            match self.count(self.client.renew(token.value()).await) {
                Ok(renewed) => known.token = Some(renewed.into_token(now)),
                Err(Trouble::Denied(_)) => known.token = None,
                // It serves for a while yet.
                Err(trouble) => tracing::debug!(reason = trouble.word(), "the token is not renewed"),
            }
        }
        if let Some(token) = known.token.as_ref().filter(|token| token.next(now) != Next::Login) {
            return Ok((token.value().to_owned(), false));
        }
        let login = self.count(self.client.login().await)?;
        let token = known.token.insert(login.into_token(now));
        Ok((token.value().to_owned(), true))
    }

    fn count<T>(&self, answer: Result<T, Trouble>) -> Result<T, Trouble> {
        let word = answer.as_ref().err().map_or(Trouble::WORDS[0], Trouble::word);
        if let Some(index) = Trouble::WORDS.iter().position(|it| *it == word) {
            self.asked[index].fetch_add(1, Relaxed);
        }
        answer
    }
}
