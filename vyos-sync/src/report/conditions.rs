//! What a pass says of each object, in the conditions that kstatus and Argo CD read. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::apply::Failure;
use crate::inputs::{Inputs, Kind, Meta, ObjectId, Snapshot, SourceState};
use crate::pass::{Error, Outcome, Report};
use crate::plan::{Class, Plan};
use crate::status::{Holds, Statuses, condition, statuses};

/// A status that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Of which object.
    pub object: ObjectId,
    /// What it says.
    pub word: Word,
}

/// The words of a status.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The generation that it speaks of.
    pub generation: Option<i64>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Further fields.
    pub fields: BTreeMap<&'static str, String>,
}

impl Word {
    /// As the object's `status`.
    pub fn status(&self) -> Value {
        let mut status = json!({"observedGeneration": self.generation, "conditions": self.conditions});
        for (field, value) in &self.fields {
            status[*field] = value.clone().into();
        }
        status
    }

    /// Whether the object's status says so already.
    pub(super) fn is_said_by(&self, meta: &Meta) -> bool {
        let same = |a: &Condition| {
            meta.conditions.iter().any(|b| {
                (&a.type_, &a.status, &a.reason, &a.message) == (&b.type_, &b.status, &b.reason, &b.message)
            })
        };
        self.fields.is_empty()
            && meta.observed_generation == self.generation
            && meta.conditions.len() == self.conditions.len()
            && self.conditions.iter().all(same)
    }
}

/// What one pass says of the Router and of all objects that are meant for it.
pub fn say(
    router: &ObjectId,
    pass: Result<&Report, &Error>,
    shot: &Snapshot,
    inputs: &Inputs,
    now: Timestamp,
) -> Vec<Said> {
    let last = before(router, shot);
    let said = statuses(pass, inputs.store.state.as_ref(), now, &last);
    let mut words: Vec<Said> = objects(&router.name, shot)
        .into_iter()
        .filter_map(|id| {
            let meta = shot.metas.get(&id)?;
            let about = About { id: &id, meta, pass, said: &said, now };
            let conditions = about.conditions();
            Some(Said {
                object: id.clone(),
                word: Word { generation: meta.generation, conditions, fields: BTreeMap::new() },
            })
        })
        .collect();
    words.extend(of_router(router, pass, shot, inputs, &said, now));
    words
}

/// What was said before, as far as `statuses` looks at it.
fn before(router: &ObjectId, shot: &Snapshot) -> Statuses {
    let mut last = Statuses::default();
    last.router.conditions = shot.metas.get(router).map(|meta| meta.conditions.clone()).unwrap_or_default();
    let objects = shot.metas.iter().filter(|(id, _)| id.cluster.is_local());
    last.objects = objects
        .map(|(id, meta)| {
            let status =
                crate::crd::IntentStatus { observed_generation: None, conditions: meta.conditions.clone() };
            (id.to_string(), status)
        })
        .collect();
    last
}

/// The objects of ours that are meant for a router, and those that cannot be read at all.
fn objects(router: &str, shot: &Snapshot) -> BTreeSet<ObjectId> {
    let inputs = &shot.inputs;
    let mut all = BTreeSet::new();
    macro_rules! of {
        ($($list:ident)+) => {
            $(all.extend(inputs.$list.iter().filter(|each| each.spec.router_ref.name == router).map(|each| each.id.clone()));)+
        };
    }
    of!(networks peerings publications configs);
    let for_it = |routers: &[String]| routers.is_empty() || routers.iter().any(|name| name == router);
    all.extend(inputs.grants.iter().filter(|each| for_it(&each.spec.routers)).map(|each| each.id.clone()));
    let ours = |id: &&ObjectId| {
        id.cluster.is_local() && id.kind.group() == "weir.dev" && id.kind != Kind::NodeDatapath
    };
    all.extend(inputs.faults.iter().filter_map(|fault| fault.object.as_ref()).filter(ours).cloned());
    all
}

struct About<'a> {
    id: &'a ObjectId,
    meta: &'a Meta,
    pass: Result<&'a Report, &'a Error>,
    said: &'a Statuses,
    now: Timestamp,
}

/// How an object stands.
struct Standing {
    accepted: Holds,
    synced: Holds,
    going: Holds,
    stuck: Holds,
    reason: String,
    text: String,
}

impl About<'_> {
    fn conditions(&self) -> Vec<Condition> {
        let standing = self.standing();
        let Standing { accepted, synced, going, stuck, reason, text } = &standing;
        let ready = match (accepted, synced) {
            (Holds::Yes, Holds::Yes) => Holds::Yes,
            (_, Holds::Unknown) => Holds::Unknown,
            _ => Holds::No,
        };
        let fine = |holds: &Holds, good: &str, text_: &str| match holds {
            Holds::Yes => (good.to_owned(), text_.to_owned()),
            _ => (reason.clone(), text.clone()),
        };
        let (a, s) =
            (fine(accepted, "Valid", "the spec makes sense"), fine(synced, "InSync", "the router holds it"));
        let r = fine(&ready, "InSync", "the router holds it");
        let not = |holds: &Holds| match holds {
            Holds::Yes => (reason.clone(), text.clone()),
            _ => ("No".to_owned(), String::new()),
        };
        let (g, k) = (not(going), not(stuck));
        let mut all: Vec<Condition> = [
            ("Accepted", accepted, a),
            ("Synced", synced, s),
            ("Ready", &ready, r),
            ("Reconciling", going, g),
            ("Stalled", stuck, k),
        ]
        .into_iter()
        .map(|(kind, holds, (reason, text))| {
            let mut made = condition(kind, *holds, &reason, &text, self.now, &self.meta.conditions);
            made.observed_generation = self.meta.generation;
            made
        })
        .collect();
        // Doubts that do not stand in the way.
        let noted =
            self.said.objects.get(&self.id.to_string()).into_iter().flat_map(|status| &status.conditions);
        all.extend(
            noted
                .filter(|each| each.type_ == "Complete")
                .map(|each| Condition { observed_generation: self.meta.generation, ..each.clone() }),
        );
        if self.id.kind == Kind::RouterGrant {
            all.retain(|each| each.type_ != "Synced");
        }
        all
    }

    fn standing(&self) -> Standing {
        let bad = |kind: &str| {
            let status = self.said.objects.get(&self.id.to_string())?;
            let found = status.conditions.iter().find(|each| each.type_ == kind && each.status == "False")?;
            Some((found.reason.clone(), found.message.clone()))
        };
        let standing = |accepted, synced, going, stuck, (reason, text): (String, String)| Standing {
            accepted,
            synced,
            going,
            stuck,
            reason,
            text,
        };
        let report = match self.pass {
            Ok(report) => report,
            Err(error) => {
                let text = (error.reason().to_owned(), error.to_string());
                return standing(Holds::Yes, Holds::Unknown, Holds::Yes, Holds::No, text);
            }
        };
        let fault = report.compiled.intent.faults.iter().find(|fault| fault.object.as_ref() == Some(self.id));
        if let Some(fault) = fault {
            let text = ("Unreadable".to_owned(), format!("{}; {}", fault.what, fault.way_out));
            return standing(Holds::No, Holds::No, Holds::No, Holds::Yes, text);
        }
        if let Some(text) = bad("Accepted") {
            return standing(Holds::No, Holds::No, Holds::No, Holds::Yes, text);
        }
        if let Some(text) = bad("Synced") {
            return standing(Holds::Yes, Holds::No, Holds::No, Holds::Yes, text);
        }
        if !wants(&report.plan, self.id) {
            return standing(Holds::Yes, Holds::Yes, Holds::No, Holds::No, Default::default());
        }
        let text = report.outcome.to_string();
        match &report.outcome {
            Outcome::InSync | Outcome::Applied(_) => {
                standing(Holds::Yes, Holds::Yes, Holds::No, Holds::No, Default::default())
            }
            Outcome::Observed => {
                standing(Holds::Yes, Holds::No, Holds::No, Holds::Yes, ("Observed".to_owned(), text))
            }
            Outcome::Quarantined(_) => {
                standing(Holds::Yes, Holds::No, Holds::No, Holds::Yes, ("Quarantined".to_owned(), text))
            }
            Outcome::Waiting(_) => {
                standing(Holds::Yes, Holds::No, Holds::Yes, Holds::No, ("Contested".to_owned(), text))
            }
            Outcome::Failed(Failure::Gone(_) | Failure::Unknown(_)) => {
                standing(Holds::Yes, Holds::Unknown, Holds::Yes, Holds::No, ("Unknown".to_owned(), text))
            }
            Outcome::Failed(_) => {
                standing(Holds::Yes, Holds::No, Holds::Yes, Holds::No, ("Failed".to_owned(), text))
            }
        }
    }
}

/// Whether the plan still has something to do for an object.
fn wants(plan: &Plan, id: &ObjectId) -> bool {
    let (name, open) = (id.to_string(), |class: Class| {
        matches!(class, Class::Create | Class::Change | Class::Drift | Class::Prune | Class::Conflict)
    });
    plan.entries.iter().any(|entry| open(entry.class) && entry.by.contains(&name))
}

fn of_router(
    router: &ObjectId,
    pass: Result<&Report, &Error>,
    shot: &Snapshot,
    inputs: &Inputs,
    said: &Statuses,
    now: Timestamp,
) -> Option<Said> {
    let meta = shot.metas.get(router)?;
    let mut conditions = said.router.conditions.clone();
    let before = &meta.conditions;
    let mut push = |kind: &str, holds, reason: &str, text: &str| {
        conditions.push(condition(kind, holds, reason, text, now, before))
    };
    match inputs.stale.is_empty() {
        true => push("ClustersReachable", Holds::Yes, "AllAnswer", "every cluster that is followed answers"),
        false => {
            let names: Vec<String> =
                inputs.stale.iter().map(|(cluster, why)| format!("{cluster}: {why}")).collect();
            let text = format!("what is made from these clusters stays as last known: {}", names.join("; "));
            push("ClustersReachable", Holds::No, "Unreachable", &text);
        }
    }
    let off: BTreeSet<&str> = shot
        .sources
        .iter()
        .filter(|(cluster, _, state)| cluster.is_local() && *state == SourceState::Off)
        .map(|(_, name, _)| name.as_str())
        .collect();
    let off: Vec<&str> = off.into_iter().collect();
    let text = match off.is_empty() {
        true => "every kind that is followed is there".to_owned(),
        false => format!("not installed, so not followed: {}", off.join(", ")),
    };
    push(
        "SourcesInstalled",
        if off.is_empty() { Holds::Yes } else { Holds::No },
        if off.is_empty() { "All" } else { "SomeOff" },
        &text,
    );
    let (going, stuck) = match pass {
        Err(error) => {
            (error.reached() && error.reason() != "RouterInvalid", error.reason() == "RouterInvalid")
        }
        Ok(report) => match &report.outcome {
            Outcome::InSync | Outcome::Applied(_) => (false, false),
            Outcome::Quarantined(_) | Outcome::Observed => (false, true),
            Outcome::Waiting(_) | Outcome::Failed(_) => (true, false),
        },
    };
    let text = conditions_text(pass);
    for (kind, holds) in [("Reconciling", going || (pass.is_err() && !stuck)), ("Stalled", stuck)] {
        let holds_ = if holds { Holds::Yes } else { Holds::No };
        let (reason, text) = if holds { ("See", text.as_str()) } else { ("No", "") };
        conditions.push(condition(kind, holds_, reason, text, now, before));
    }
    conditions.iter_mut().for_each(|each| each.observed_generation = meta.generation);
    let mut fields = BTreeMap::new();
    fields.extend(said.router.last_change.clone().map(|name| ("lastChange", name)));
    fields.extend(said.router.release.clone().map(|release| ("release", release)));
    let word = Word { generation: meta.generation, conditions, fields };
    Some(Said { object: router.clone(), word })
}

fn conditions_text(pass: Result<&Report, &Error>) -> String {
    match pass {
        Ok(report) => report.outcome.to_string(),
        Err(error) => error.to_string(),
    }
}
