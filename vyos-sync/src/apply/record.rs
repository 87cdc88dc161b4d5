//! The record of a change: written before anything is sent, and at every step. Holds no secret.

use jiff::Timestamp;

use crate::crd::{ChangePhase, ChangeResult};

/// What undoes a change by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The router's commit-confirm.
    Confirm,
    /// A set reboot to the saved configuration.
    Reboot,
}

/// One change, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name: unique, and in the order of time.
    pub name: String,
    /// The router.
    pub router: String,
    /// SHA-256 of the plan.
    pub plan_hash: String,
    /// The commands, secrets redacted.
    pub commands: Vec<String>,
    /// What takes them back, secrets redacted.
    pub undo: Vec<String>,
    /// The objects that asked for it.
    pub owners: Vec<String>,
    /// What undoes it by itself.
    pub guard: Guard,
    /// When it began.
    pub started: Timestamp,
    /// When the router undoes it, unless confirmed before.
    pub deadline: Timestamp,
    /// How far it came.
    pub phase: ChangePhase,
    /// What became of it; nothing while it is under way.
    pub result: Option<ChangeResult>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What happened, in plain words.
    pub message: String,
}

impl Record {
    /// Whether it still waits for an end.
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether any of it may be on the router.
    pub fn may_be_live(&self) -> bool {
        !matches!(self.phase, ChangePhase::Planned | ChangePhase::Armed | ChangePhase::RolledBack)
    }

    /// Whether something may be armed for it.
    pub fn may_be_armed(&self) -> bool {
        self.is_open() && self.phase != ChangePhase::Planned
    }
}
