//! The record of a change: written before anything is sent, and at every step. Holds no secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Written, nothing sent.
    Planned,
    /// The undo is being armed, or is.
    Armed,
    /// The commands are being sent, or were; the reply may be lost.
    Sent,
    /// The router runs it.
    Committed,
    /// The checks passed.
    Verified,
    /// Confirmed and saved.
    Saved,
    /// Undone, by us or by the router.
    RolledBack,
    /// Ended with nothing of it on the router: refused, or overtaken by a newer plan.
    Ended,
}

/// What undoes a change by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    /// The router's commit-confirm.
    Confirm,
    /// A set reboot to the saved configuration.
    Reboot,
}

/// One change, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub phase: Phase,
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
        self.phase >= Phase::Sent
    }
}
