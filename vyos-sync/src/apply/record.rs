//! The record of a change: written before anything is sent, and at every step. Holds no secret.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::crd::{ChangePhase, ChangeResult, RouterChange, RouterChangeSpec, RouterChangeStatus, RouterRef};

/// Annotation that keeps what guards the change.
const GUARD: &str = "weir.dev/guard";

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

    /// The record as the object that is shown.
    pub fn to_object(&self) -> RouterChange {
        let spec = RouterChangeSpec {
            router_ref: RouterRef { name: self.router.clone() },
            plan_hash: self.plan_hash.clone(),
            commands: self.commands.clone(),
            undo: self.undo.clone(),
            owners: self.owners.clone(),
            deadline: Some(self.deadline.to_string()),
        };
        let mut change = RouterChange::new(&self.name, spec);
        let guard = match self.guard {
            Guard::Confirm => "Confirm",
            Guard::Reboot => "Reboot",
        };
        change.metadata.annotations = Some(BTreeMap::from([(GUARD.to_owned(), guard.to_owned())]));
        change.status = Some(RouterChangeStatus {
            phase: self.phase,
            result: self.result,
            message: (!self.message.is_empty()).then(|| self.message.clone()),
            started_at: Some(self.started.to_string()),
            finished_at: self.ended.map(|t| t.to_string()),
            conditions: Vec::new(),
        });
        change
    }

    /// The record in an object that [`Self::to_object`] made.
    pub fn of_object(change: &RouterChange) -> Option<Self> {
        let status = change.status.clone()?;
        let guard = match change.metadata.annotations.as_ref()?.get(GUARD)?.as_str() {
            "Confirm" => Guard::Confirm,
            "Reboot" => Guard::Reboot,
            _ => return None,
        };
        let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<Timestamp>().ok());
        let spec = &change.spec;
        Some(Self {
            name: change.metadata.name.clone()?,
            router: spec.router_ref.name.clone(),
            plan_hash: spec.plan_hash.clone(),
            commands: spec.commands.clone(),
            undo: spec.undo.clone(),
            owners: spec.owners.clone(),
            guard,
            started: time(&status.started_at)?,
            deadline: time(&spec.deadline)?,
            phase: status.phase,
            result: status.result,
            ended: time(&status.finished_at),
            message: status.message.unwrap_or_default(),
        })
    }
}
