//! Plan to Applied: recorded, armed, committed, verified, then confirmed and saved; or undone.
//!
//! Each step is a type that only the step before it can give, so a change cannot be confirmed that was not verified,
//! nor sent that was not recorded. When anything is unclear the router is read again and the router decides.

mod batch;
mod record;
mod resume;
mod sessions;
mod step;
mod verify;
mod world;

use std::time::Duration;

use jiff::Timestamp;

pub use batch::{Pace, batches};
pub use record::{Guard, Record};
pub use resume::{Found, resume};
pub use step::Applied;
pub use verify::{Differences, Touched, differences};
pub use world::{Fault, Landed, Saved, World};

use crate::config::{Command, Kinds, Tree};
use step::Recorded;

/// What is to be done to a router.
#[derive(Debug, Clone)]
pub struct Change {
    /// Name of its record.
    pub name: String,
    /// The router.
    pub router: String,
    /// SHA-256 of the plan.
    pub plan_hash: String,
    /// The commands, each list one commit, in order.
    pub batches: Vec<Vec<Command>>,
    /// The configuration that the plan was made against.
    pub before: Tree,
    /// When that was read.
    pub read_at: Timestamp,
    /// The objects that asked for it.
    pub owners: Vec<String>,
}

impl Change {
    /// All commands in order.
    pub fn commands(&self) -> Vec<Command> {
        self.batches.concat()
    }
}

/// How far a change may go, and how long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What undoes it by itself.
    pub guard: Guard,
    /// Minutes until then.
    pub minutes: u16,
    /// How long sessions and probes may take to come back after the commit.
    pub settle: Duration,
}

/// How a change ended that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing was sent, or nothing of it was taken. The same plan may be tried again.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Others edited the router since the plan was made; nothing of it is live. A new plan takes its place.
    #[error("others edited the router since it was read: {0}")]
    Overtaken(String),
    /// The router refused it; what was live of it is undone.
    #[error("the router refused the change, and what was live of it is undone: {0}")]
    Refused(String),
    /// It was live, failed its checks, and is undone.
    #[error("undone, because {0}")]
    RolledBack(String),
    /// The API is gone. The router undoes the change by itself; nothing else should be done until it is back.
    #[error("the API does not answer after the commit ({0}); the router reverts by itself")]
    Gone(String),
    /// Nobody knows yet. The next read of the router tells.
    #[error("it is not known what the router did: {0}")]
    Unknown(String),
}

impl Failure {
    /// Whether the very same plan must not be sent again.
    pub fn quarantines(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::RolledBack(_))
    }

    /// Whether some of it may be live all the same.
    pub fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Unknown(_))
    }
}

/// Applies one change.
///
/// # Errors
/// [`Failure`] says what the router holds now, as far as that is known. The record says the same, durably.
pub async fn apply<W: World + Sync, K: Kinds + Sync>(
    world: &W,
    change: Change,
    policy: Policy,
    kinds: &K,
) -> Result<Applied, Failure> {
    let recorded = Recorded::write(world, change, policy, kinds).await?;
    let armed = recorded.arm().await?;
    let current = armed.look_again().await?;
    let committed = current.commit().await?;
    let verified = committed.verify().await?;
    verified.settle().await
}
