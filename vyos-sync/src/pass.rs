//! One pass over one router: what was seen, and how it ended. Plain data for those who report and record.

use std::fmt;

use jiff::Timestamp;

use crate::{
    apply::{Applied, Failure},
    compile::Compiled,
    config::Tree,
    plan::{Ledger, Plan},
    probe::ProbeError,
    vyos::{ApiError, ClientError, TrustError},
};

/// How a pass ended.
#[derive(Debug)]
pub struct Report {
    /// What was compiled.
    pub compiled: Compiled,
    /// What was planned.
    pub plan: Plan,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a plan.
#[derive(Debug)]
pub enum Outcome {
    /// The router held all that may be done already.
    InSync,
    /// The change is in force.
    Applied(Box<Applied>),
    /// There is something to do and the mode says to leave it.
    Observed,
    /// Somebody else keeps changing what is ours; the repair waits until then.
    Waiting(Timestamp),
    /// This very plan failed before.
    Quarantined(String),
    /// It did not come out.
    Failed(Failure),
}

impl Outcome {
    /// One word, for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Applied(_) => "applied",
            Self::Observed => "observed",
            Self::Waiting(_) => "waiting",
            Self::Quarantined(_) => "quarantined",
            Self::Failed(Failure::NotSent(_)) => "not_sent",
            Self::Failed(Failure::Overtaken(_)) => "overtaken",
            Self::Failed(Failure::Refused(_)) => "refused",
            Self::Failed(Failure::RolledBack(_)) => "rolled_back",
            Self::Failed(Failure::Gone(_)) => "gone",
            Self::Failed(Failure::Unknown(_)) => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InSync => f.write_str("in sync: nothing to send"),
            Self::Applied(applied) => write!(f, "applied, verified, saved: {}", applied.record.name),
            Self::Observed => {
                f.write_str("observed only; set spec.mode to Upsert or Sync to have it applied")
            }
            Self::Waiting(until) => {
                write!(f, "somebody keeps changing what is ours; the repair waits until {until}")
            }
            Self::Quarantined(why) => write!(f, "held back: {why}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Why a pass came to no plan, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Router object does not say enough.
    #[error("Router/{router}: {field}: {what}")]
    Router {
        /// Its name.
        router: String,
        /// The field to mend.
        field: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The store that has the router's key does not give it.
    #[error("Router/{router}: spec.apiKey is not known: {what}")]
    Store {
        /// Its name.
        router: String,
        /// One word.
        reason: &'static str,
        /// What is the matter, and the way out.
        what: String,
    },
    /// The trust cannot be set up.
    #[error("Router/{router}: spec.tls")]
    Trust {
        /// Its name.
        router: String,
        /// Why.
        source: TrustError,
    },
    /// The client cannot be set up.
    #[error("Router/{router}: spec.endpoints")]
    Client {
        /// Its name.
        router: String,
        /// Why.
        source: ClientError,
    },
    /// The router's API.
    #[error("router `{router}`")]
    Api {
        /// Its name.
        router: String,
        /// What is the matter.
        source: ApiError,
    },
    /// A change that was left open cannot be ended yet.
    #[error("router `{router}`: the change left open is not ended: {why}")]
    Open {
        /// Its name.
        router: String,
        /// Why.
        why: String,
    },
    /// The state folder.
    #[error("the state folder")]
    State(#[from] std::io::Error),
    /// A probe of the Router object cannot be asked.
    #[error("Router/{router}: spec.probes")]
    Probes {
        /// Its name.
        router: String,
        /// Which, and why.
        source: ProbeError,
    },
}

impl Error {
    /// One word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => source.reason(),
            Self::Router { .. } | Self::Trust { .. } | Self::Client { .. } | Self::Probes { .. } => {
                "RouterInvalid"
            }
            Self::Store { reason, .. } => reason,
            Self::Open { .. } => "ChangeOpen",
            Self::State(_) => "StateFolder",
        }
    }

    /// Whether the router was reached.
    pub fn reached(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }
}

/// What was seen of a router, and what follows.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it holds.
    pub running: Tree,
    /// When that was read.
    pub read_at: Timestamp,
    /// What we applied last.
    pub ledger: Ledger,
    /// What it should hold.
    pub compiled: Compiled,
    /// What to do.
    pub plan: Plan,
}

/// Whether a person asks to try again what failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// A person asks.
    Yes,
    /// The loop does not.
    No,
}
