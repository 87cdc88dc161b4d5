//! What a program shows to those who connect: a certificate that follows its files.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clap::ValueEnum;
use rustls::{ServerConfig, pki_types::UnixTime};
use serde::Deserialize;

use crate::{
    Protocol,
    files::{Files, Stamp},
    pair::{Pair, PairError},
};

/// Who may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// Anybody.
    #[default]
    Anybody,
    /// Whoever has a certificate of the authority in `ca.crt`.
    Certified,
}

/// A certificate that follows its files. They are looked at when somebody connects, so nothing runs when nobody does, and
/// whoever connects is never offered a certificate that the files no longer hold.
pub struct Identity {
    files: Files,
    clients: Clients,
    served: Mutex<Served>,
    swapped: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

struct Served {
    stamp: Stamp,
    pair: Pair,
    newest_refused: bool,
}

/// How an identity does, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// When the certificate that is served ends, since 1970.
    pub not_after: Duration,
    /// Whether the files hold a pair that cannot be used, and an older one is served.
    pub newest_refused: bool,
    /// New pairs that were taken.
    pub swapped: u64,
    /// New pairs that could not be used.
    pub refused: u64,
    /// Handshakes that failed.
    pub failed: u64,
}

impl Identity {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They hold no usable pair, or no authority where clients are to be certified.
    pub fn read(files: Files, clients: Clients) -> Result<Arc<Self>, PairError> {
        let (stamp, texts) = files.read();
        let pair = Pair::new(&files, &texts?, clients, UnixTime::now())?;
        let served = Mutex::new(Served { stamp, pair, newest_refused: false });
        let zero = AtomicU64::default;
        Ok(Arc::new(Self { files, clients, served, swapped: zero(), refused: zero(), failed: zero() }))
    }

    /// How it does. Looks at the files as a connection would.
    pub fn reading(&self) -> Reading {
        let served = self.look();
        Reading {
            not_after: served.pair.not_after,
            newest_refused: served.newest_refused,
            swapped: self.swapped.load(Relaxed),
            refused: self.refused.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// What is offered to somebody who connects now.
    pub(crate) fn offer(&self, protocol: Protocol) -> Arc<ServerConfig> {
        let served = self.look();
        Arc::clone(match protocol {
            Protocol::Pages => &served.pair.pages,
            Protocol::Calls => &served.pair.calls,
        })
    }

    pub(crate) fn clients(&self) -> Clients {
        self.clients
    }

    pub(crate) fn handshake_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Takes what the files hold where that is new and can be used.
    fn look(&self) -> MutexGuard<'_, Served> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.stamp() == served.stamp {
            return served;
        }
        let (stamp, texts) = self.files.read();
        let pair = texts
            .map_err(PairError::from)
            .and_then(|texts| Pair::new(&self.files, &texts, self.clients, UnixTime::now()));
        served.stamp = stamp;
        served.newest_refused = pair.is_err();
        match pair {
            Ok(pair) => {
                served.pair = pair;
                self.swapped.fetch_add(1, Relaxed);
                tracing::info!("a new certificate is served; connections that are there keep theirs");
            }
            Err(error) => {
                self.refused.fetch_add(1, Relaxed);
                let cause = error.source().map(ToString::to_string);
                tracing::error!(cause, "the certificate before is still served: {error}");
            }
        }
        served
    }
}
