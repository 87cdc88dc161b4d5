//! What people and other controllers read: RouterChanges and conditions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    apply::{Guard, Record},
    crd::{RouterChange, RouterChangeSpec, RouterChangeStatus, RouterRef},
};

/// Annotation that keeps what guards the change.
const GUARD: &str = "weir.dev/guard";

/// A record as the object that is shown.
pub fn router_change(record: &Record) -> RouterChange {
    let spec = RouterChangeSpec {
        router_ref: RouterRef { name: record.router.clone() },
        plan_hash: record.plan_hash.clone(),
        commands: record.commands.clone(),
        undo: record.undo.clone(),
        owners: record.owners.clone(),
        deadline: Some(record.deadline.to_string()),
    };
    let mut change = RouterChange::new(&record.name, spec);
    let guard = match record.guard {
        Guard::Confirm => "Confirm",
        Guard::Reboot => "Reboot",
    };
    change.metadata.annotations = Some(BTreeMap::from([(GUARD.to_owned(), guard.to_owned())]));
    change.status = Some(RouterChangeStatus {
        phase: record.phase,
        result: record.result,
        message: (!record.message.is_empty()).then(|| record.message.clone()),
        started_at: Some(record.started.to_string()),
        finished_at: record.ended.map(|t| t.to_string()),
        conditions: Vec::new(),
    });
    change
}

/// The record in an object that [`router_change`] made.
pub fn record(change: &RouterChange) -> Option<Record> {
    let status = change.status.clone()?;
    let guard = match change.metadata.annotations.as_ref()?.get(GUARD)?.as_str() {
        "Confirm" => Guard::Confirm,
        "Reboot" => Guard::Reboot,
        _ => return None,
    };
    let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<Timestamp>().ok());
    let spec = &change.spec;
    Some(Record {
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

/// One condition. The transition time moves only when the status does.
pub fn condition(
    kind: &str,
    holds: Holds,
    reason: &str,
    message: &str,
    now: Timestamp,
    last: &[Condition],
) -> Condition {
    let status = holds.as_str();
    let unchanged = last.iter().find(|c| c.type_ == kind && c.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: unchanged.map_or(Time(now), |c| c.last_transition_time.clone()),
        observed_generation: None,
    }
}

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// `True`.
    Yes,
    /// `False`.
    No,
    /// `Unknown`.
    Unknown,
}

impl Holds {
    fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "True",
            Self::No => "False",
            Self::Unknown => "Unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_times_move_only_with_the_status() {
        let (then, now) =
            (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1));
        let first = condition("Ready", Holds::No, "Busy", "wait", then, &[]);
        let same = condition("Ready", Holds::No, "Refused", "no", now, std::slice::from_ref(&first));
        assert_eq!(same.last_transition_time, first.last_transition_time);
        let turned = condition("Ready", Holds::Yes, "Synced", "all", now, &[first]);
        assert_eq!(turned.last_transition_time, Time(now));
    }
}
