//! What people and other controllers read of a pass: conditions on the Router and on its objects. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use serde::{Deserialize, Serialize};

use crate::{
    apply::Failure,
    crd::{IntentStatus, RouterStatus},
    inputs::{Look, StoreState},
    intent::{Effect, Problem},
    pass::{Error, Outcome, Report},
    plan::Keep,
};

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

/// The conditions of everything that one pass spoke of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statuses {
    /// Of the Router.
    pub router: RouterStatus,
    /// Of each object with something to say, by kind, namespace and name.
    pub objects: BTreeMap<String, IntentStatus>,
}

/// What a pass says of the Router and of its objects, and how its store of secrets stands. `last` is what was said before.
pub fn statuses(
    pass: Result<&Report, &Error>,
    store: Option<&StoreState>,
    now: Timestamp,
    last: &Statuses,
) -> Statuses {
    let before = &last.router.conditions;
    let say =
        |kind: &str, holds, reason: &str, message: &str| condition(kind, holds, reason, message, now, before);
    let mut router = RouterStatus { conditions: Vec::new(), ..last.router.clone() };
    router.conditions.extend(store.map(|state| match state {
        StoreState::Answers => {
            say(STORE, Holds::Yes, "Answers", "every secret that is wanted of it was read")
        }
        StoreState::Kept { reason, text } => say(STORE, Holds::No, reason, text),
    }));
    let report = match pass {
        Ok(report) => report,
        Err(error) => {
            let (reason, text) = (error.reason(), chain(error));
            let reached = if error.reached() { Holds::Unknown } else { Holds::No };
            router.conditions.push(say("Reachable", reached, reason, &text));
            router.conditions.push(say("Synced", Holds::Unknown, reason, &text));
            router.conditions.push(say("Ready", Holds::No, reason, &text));
            return Statuses { router, objects: last.objects.clone() };
        }
    };
    router.conditions.push(say("Reachable", Holds::Yes, "Answers", "the API answers"));
    let faults: Vec<String> = report.compiled.intent.faults.iter().map(ToString::to_string).collect();
    router.conditions.push(match faults.is_empty() {
        true => say("SourcesComplete", Holds::Yes, "AllRead", "all of the source was read"),
        false => say("SourcesComplete", Holds::No, "Unreadable", &faults.join("; ")),
    });
    router.conditions.push(match &report.compiled.keep {
        Keep::Nothing | Keep::NotEvenTheLast => {
            say("PruneAllowed", Holds::Yes, "AllKnown", "what is no longer wanted is removed")
        }
        Keep::All(why) => {
            let text =
                format!("nothing of the source is removed, because it is not known what it wants: {why}");
            say("PruneAllowed", Holds::No, "SourceUnreadable", &text)
        }
        Keep::Of { because, .. } => {
            let names: Vec<String> = because.iter().map(ToString::to_string).collect();
            let mut text =
                format!("nothing is removed of these objects, or made from them: {}", names.join(", "));
            let in_use = &report.compiled.in_use;
            in_use.values().take(NAMED).for_each(|problem| text.push_str(&format!("; {problem}")));
            let reason = if in_use.is_empty() { "ObjectsRefused" } else { "InUse" };
            say("PruneAllowed", Holds::No, reason, &text)
        }
    });
    router.conditions.extend(report.compiled.intent.misplaced.as_ref().map(|look| {
        let (holds, reason, text) = in_place(look);
        say(IN_PLACE, holds, reason, &text)
    }));
    let (synced, reason) = match &report.outcome {
        Outcome::InSync | Outcome::Applied(_) => (Holds::Yes, "InSync"),
        Outcome::Failed(Failure::Gone(_) | Failure::Unknown(_)) => (Holds::Unknown, "Unknown"),
        Outcome::Observed => (Holds::No, "Observed"),
        Outcome::Waiting(_) => (Holds::No, "Contested"),
        Outcome::Quarantined(_) => (Holds::No, "Quarantined"),
        Outcome::Failed(_) => (Holds::No, "Failed"),
    };
    router.conditions.push(say("Synced", synced, reason, &report.outcome.to_string()));
    router.conditions.push(say("Ready", synced, reason, &report.outcome.to_string()));
    if let Outcome::Applied(applied) = &report.outcome {
        router.last_change = Some(applied.record.name.clone());
    }
    Statuses { router, objects: objects(report, now, last) }
}

/// Whether the store of secrets answers.
const STORE: &str = "SecretStoreReachable";

/// Whether all that an object asks for could be rendered, without doubt. It may be `Ready` all the same.
const COMPLETE: &str = "Complete";

/// Whether the router sees no machine in a VLAN where it does not belong.
const IN_PLACE: &str = "MachinesInPlace";
/// So many are named in one condition.
const NAMED: usize = 10;

fn in_place(look: &Look<Problem>) -> (Holds, &'static str, String) {
    match look {
        Err(why) => (Holds::Unknown, "NotSeen", format!("the router does not say whom it sees: {why}")),
        Ok(found) if found.is_empty() => {
            (Holds::Yes, "AllInPlace", "no machine is seen in a VLAN where it does not belong".to_owned())
        }
        Ok(found) => {
            let named: Vec<String> = found.iter().take(NAMED).map(ToString::to_string).collect();
            let more = match found.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            (Holds::No, "WrongVlan", format!("{}{more}", named.join("; ")))
        }
    }
}

fn objects(report: &Report, now: Timestamp, last: &Statuses) -> BTreeMap<String, IntentStatus> {
    let mut found: BTreeMap<String, Vec<(&str, String, String)>> = BTreeMap::new();
    let misplaced = report.compiled.intent.misplaced.iter().flatten().flatten();
    for problem in report.compiled.problems().chain(misplaced) {
        let text = format!("{}: {}; {}", problem.field, problem.what, problem.way_out);
        let (kind, reason) = match problem.effect {
            Effect::Refused => ("Accepted", "Refused"),
            Effect::Noted => (COMPLETE, "Noted"),
        };
        found.entry(problem.object.to_string()).or_default().push((kind, reason.to_owned(), text));
    }
    for blocked in &report.plan.blocked {
        for object in &blocked.objects {
            let said =
                ("Synced", format!("{:?}", blocked.reason), format!("{}: {}", blocked.path, blocked.text));
            found.entry(object.to_string()).or_default().push(said);
        }
    }
    let status = |(object, said): (String, Vec<(&str, String, String)>)| {
        let before = last.objects.get(&object).map_or(&[][..], |s| &s.conditions);
        let mut conditions: Vec<Condition> = Vec::new();
        for (kind, reason, text) in &said {
            match conditions.iter_mut().find(|c| c.type_ == *kind) {
                Some(held) => held.message = format!("{}; {text}", held.message),
                None => conditions.push(condition(kind, Holds::No, reason, text, now, before)),
            }
        }
        if let Some((_, reason, text)) = said.iter().find(|(kind, ..)| *kind != COMPLETE) {
            conditions.push(condition("Ready", Holds::No, reason, text, now, before));
        }
        (object, IntentStatus { observed_generation: None, conditions })
    };
    found.into_iter().map(status).collect()
}

/// An error with its causes, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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

    #[test]
    fn a_condition_names_so_many_machines_and_counts_the_rest() {
        let problem = |number: usize| Problem {
            object: crate::inputs::ObjectId {
                kind: crate::inputs::Kind::Hardware,
                cluster: crate::inputs::ClusterName::local(),
                namespace: Some("t".to_owned()),
                name: format!("machine-{number}"),
            },
            field: "spec".to_owned(),
            what: "elsewhere".to_owned(),
            way_out: "move it".to_owned(),
            effect: Effect::Noted,
        };
        let said = |look: &Look<Problem>| {
            let (holds, reason, text) = in_place(look);
            (holds, reason, text.matches("Hardware t/machine-").count(), text)
        };
        let (holds, reason, named, _) = said(&Ok((0..3).map(problem).collect()));
        assert_eq!((holds, reason, named), (Holds::No, "WrongVlan", 3));
        let (_, _, named, text) = said(&Ok((0..NAMED + 5).map(problem).collect()));
        assert!(named == NAMED && text.ends_with("; and 5 more"), "{text}");
        assert_eq!(said(&Ok(Vec::new())).0, Holds::Yes);
        let (holds, _, _, text) = said(&Err("it is away".to_owned()));
        assert!(holds == Holds::Unknown && text.ends_with("it is away"), "{text}");
    }
}
