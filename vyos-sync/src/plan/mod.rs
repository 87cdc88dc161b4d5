//! Desired, running and what we applied last, turned into an immutable plan. Pure: no clock, no I/O.

mod align;
mod batch;
mod classify;
mod guard;
mod settle;
mod text;

pub mod desired;
pub mod ledger;
pub mod numbers;
pub mod owner;
#[expect(clippy::result_large_err, reason = "as in `desired`")]
pub mod sample;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use align::canonical;
pub use batch::{Batch, Limits};
pub use desired::{Claim, Contested, Desired};
pub use guard::management_paths;
pub use ledger::Ledger;
pub use owner::{Mark, Owner};
pub use settle::plan;

use crate::config::rules::Violation;
use crate::config::{Command, ConfigPath, Dialect, Schema, Tree};
use crate::secret::{is_secret, redacted};

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the router should hold.
    pub desired: &'a Desired,
    /// What it holds.
    pub running: &'a Tree,
    /// What we applied last.
    pub ledger: &'a Ledger,
    /// What is allowed.
    pub policy: &'a Policy,
    /// The router's syntax.
    pub dialect: Dialect,
    /// What the router accepts: a full schema, or [`Schema::built_in`].
    pub schema: &'a Schema,
}

/// What a Router object allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How far to go.
    pub mode: Mode,
    /// What to do where ours was changed by others.
    pub drift: Drift,
    /// What to do where what we want is there already, made by others.
    pub adoption: Adoption,
    /// How many statements one plan may remove; more, and it removes none.
    pub deletion_budget: Option<usize>,
    /// What may not be removed now.
    pub keep: Keep,
    /// Never touched.
    pub protected: Vec<ConfigPath>,
    /// The address at which we reach the router: its interface and the API are protected.
    pub management: Option<IpAddr>,
    /// How much one request may hold.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Sync,
            drift: Drift::Revert,
            adoption: Adoption::Equal,
            deletion_budget: None,
            keep: Keep::Nothing,
            protected: Vec::new(),
            management: None,
            limits: Limits::default(),
        }
    }
}

/// What may not be removed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All that is no longer wanted may go.
    Nothing,
    /// All may go, also where nothing at all is wanted any more: the router is given up, or its cluster has no such object.
    NotEvenTheLast,
    /// What carries these marks, lies inside such a place, or cannot be told to be somebody else's.
    Of {
        /// The marks.
        marks: BTreeSet<Mark>,
        /// The objects that something is wrong with.
        because: BTreeSet<Owner>,
    },
    /// Nothing may go at all, with the reason.
    All(String),
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Say what would be done, and do nothing.
    Observe,
    /// Create and change, remove nothing.
    Upsert,
    /// Create, change and remove.
    Sync,
}

/// What to do where ours was changed by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drift {
    /// Set it again.
    Revert,
    /// Say so.
    Report,
}

/// What to do where what we want is there already, made by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adoption {
    /// Take it as ours.
    Equal,
    /// Leave it theirs: it will not be removed with the object.
    Never,
}

/// What is the matter with one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Wanted, not there, never made by us.
    Create,
    /// Wanted otherwise than we made it last.
    Change,
    /// Made by us, and since changed or removed by others.
    Drift,
    /// Wanted and there; from now on ours.
    Adopt,
    /// Made by us, no longer wanted.
    Prune,
    /// Made by us, no longer wanted, and already removed by others.
    Gone,
    /// Wanted, but others hold the place with something else.
    Conflict,
    /// No longer wanted, but others have changed what we made.
    ForeignEdit,
    /// Added by others inside what is ours.
    Extra,
    /// Would be removed or adopted, but the mode or a guard says no.
    Kept,
    /// Drift that is only reported.
    Reported,
}

/// One place and what is the matter with it. Places in step are not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub path: ConfigPath,
    /// What is the matter.
    pub class: Class,
    /// What is wanted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<String>,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<String>,
    /// What we had put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub had: Option<String>,
    /// The objects behind it, or the mark of the one that was.
    pub by: String,
}

/// Something that is not done, why, and the objects to mend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    /// Where.
    pub path: ConfigPath,
    /// Why.
    pub reason: Reason,
    /// The words for it.
    pub text: String,
    /// The objects to mend.
    pub objects: Vec<Owner>,
}

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Others hold the place with something else.
    Conflict,
    /// Others have changed what we would remove.
    ForeignEdit,
    /// The router does not know the path, or not the value.
    Schema,
    /// The router's commit would fail.
    CommitRule,
    /// The path is protected by the Router object.
    Protected,
    /// It would cut the way by which we reach the router.
    Management,
    /// Too much would be removed.
    Budget,
    /// Nothing may be removed now.
    Keep,
    /// No order of requests is safe at each step.
    Order,
}

/// What to do, and why. It never changes once made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The hash of all that would be sent: a plan that failed is known again by it.
    pub id: String,
    /// The mode it was made in.
    pub mode: Mode,
    /// The router's syntax.
    pub dialect: Dialect,
    /// All commands in order. In [`Mode::Observe`] they are what would be sent.
    pub commands: Vec<Command>,
    /// What to send, each one request and one commit. Empty in [`Mode::Observe`].
    pub batches: Vec<Batch>,
    /// The commands that undo it all.
    pub inverse: Vec<Command>,
    /// What is the matter, place by place.
    pub entries: Vec<Entry>,
    /// What is not done, and why.
    pub blocked: Vec<Blocked>,
    /// Commit rules that the router's own configuration breaks already: commits of the same script will fail.
    pub warnings: Vec<Violation>,
    /// The subtrees that are ours from now on, and the marks of those who want them.
    pub claims: Vec<(ConfigPath, Mark)>,
    /// Shared containers that come into being.
    pub made: Vec<ConfigPath>,
}

impl Plan {
    /// Whether there is nothing to send and nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && !self.entries.iter().any(|entry| entry.class.is_remembered())
    }

    /// The numbers of entries of each class.
    pub fn count(&self, class: Class) -> usize {
        self.entries.iter().filter(|entry| entry.class == class).count()
    }

    /// The plan as people may read it: without secrets.
    #[must_use]
    pub fn shown(mut self) -> Self {
        let batches = self.batches.iter_mut().flat_map(|batch| &mut batch.commands);
        let commands = self.commands.iter_mut().chain(&mut self.inverse).chain(batches);
        commands.filter(|command| is_secret(command.path())).for_each(|command| *command = redacted(command));
        for entry in self.entries.iter_mut().filter(|e| is_secret(&e.path)) {
            let values = [&mut entry.want, &mut entry.have, &mut entry.had];
            values.into_iter().flatten().for_each(|value| *value = "[hidden]".to_owned());
        }
        self
    }
}

impl Class {
    /// Whether a settled plan changes the ledger by it.
    fn is_remembered(self) -> bool {
        matches!(self, Self::Create | Self::Change | Self::Drift | Self::Adopt | Self::Prune | Self::Gone)
    }
}

#[cfg(test)]
mod tests;
