//! Makes the plan: compares, leaves out what must not be done, and looks again until the rest is sound.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::classify::{Edit, Findings, Frozen, Walk};
use super::desired::{Claim, Desired};
use super::guard::Guard;
use super::{Blocked, Class, Inputs, Keep, Ledger, Mark, Mode, Owner, Plan, Reason, align, batch};
use crate::config::rules::{self, Violation};
use crate::config::{Command, ConfigPath, Kind, Kinds, Node, SchemaError, Tree, diff};
use crate::secret::is_secret;

/// How often what is left is looked at again. Each time at least one object is left out.
const ROUNDS: usize = 12;

/// Containers that mean nothing when empty, and make a commit fail: they go with their last content.
const HOLLOW: [&[&str]; 7] = [
    &["service", "dhcp-server"],
    &["service", "dhcpv6-server"],
    &["service", "dhcp-relay"],
    &["service", "dhcpv6-relay"],
    &["nat", "source"],
    &["nat", "destination"],
    &["nat", "static"],
];

/// The plan for these inputs. The same inputs give the same plan, in whatever order the objects came.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let desired = align::desired(inputs.desired, inputs.running);
    let ledger = align::ledger(inputs.ledger, inputs.running);
    let planner = Planner {
        inputs,
        guard: Guard::new(&inputs.policy.protected, inputs.policy.management, inputs.running),
        broken_before: rules::check(inputs.running, inputs.dialect).into_iter().collect(),
        desired: &desired,
        ledger: &ledger,
        frozen: Frozen::default(),
        blocked: BTreeSet::new(),
    };
    planner.run()
}

struct Planner<'a> {
    inputs: &'a Inputs<'a>,
    desired: &'a Desired,
    ledger: &'a Ledger,
    guard: Guard,
    broken_before: BTreeSet<Violation>,
    frozen: Frozen,
    blocked: BTreeSet<Blocked>,
}

impl Planner<'_> {
    fn run(mut self) -> Plan {
        self.refuse_unknown();
        self.keep_if_told();
        for _ in 0..ROUNDS {
            let found = self.compare();
            if self.refuse_guarded(&found) || self.refuse_over_budget(&found) {
                continue;
            }
            let next = self.next(&found.edits);
            if !self.refuse_broken(&found, &next) {
                return self.finish(found, &next);
            }
        }
        let nothing = Findings { edits: Vec::new(), ..self.compare() };
        let running = self.inputs.running;
        self.finish(nothing, running)
    }

    fn compare(&self) -> Findings {
        let walk = Walk {
            desired: self.desired,
            ledger: self.ledger,
            policy: self.inputs.policy,
            frozen: &self.frozen,
            kinds: self.inputs.schema,
            at: Vec::new(),
            by: String::new(),
            found: Findings::default(),
        };
        walk.run(self.inputs.running)
    }

    /// Leaves out the objects with a path or value that the router would refuse.
    fn refuse_unknown(&mut self) {
        for error in self.inputs.schema.validate(self.desired.tree()) {
            if self.inputs.schema.covers(error.path()) || matches!(error, SchemaError::Quote { .. }) {
                let path = error.path().clone();
                let value = match &error {
                    SchemaError::Value { value, .. } | SchemaError::Quote { value, .. } => {
                        Some(value.as_str())
                    }
                    SchemaError::Path { .. } => None,
                };
                let text = match value {
                    Some(_) if is_secret(&path) => {
                        "the value, a secret, is not one that the router takes".to_owned()
                    }
                    _ => error.to_string(),
                };
                self.freeze(&path, value, Reason::Schema, text);
            }
        }
    }

    fn keep_if_told(&mut self) {
        let because = match &self.inputs.policy.keep {
            Keep::All(because) => because.clone(),
            Keep::NotEvenTheLast => return,
            _ if self.wants_nothing() && !self.ledger.is_empty() => {
                "the source holds no object for this router, which never means to delete all; remove what is left \
                 on the router itself, if that is meant"
                    .to_owned()
            }
            _ => return,
        };
        self.frozen.no_prune = true;
        if let Some(path) = self.ledger.claims.keys().next().cloned() {
            let text = format!("nothing is removed: {because}");
            self.blocked.insert(Blocked { path, reason: Reason::Keep, text, objects: Vec::new() });
        }
    }

    /// Whether nobody but the Router object itself wants anything. A source with a refused object is not empty.
    fn wants_nothing(&self) -> bool {
        let of_router = |owner: &Owner| owner.kind == "Router";
        let claims = self.desired.claims();
        claims.is_empty()
            || self.inputs.policy.keep == Keep::Nothing
                && claims.values().all(|claim| claim.owners().into_iter().all(of_router))
    }

    /// Leaves out the claims that would change a protected place. Says whether there was one.
    fn refuse_guarded(&mut self, found: &Findings) -> bool {
        let hits: Vec<(ConfigPath, Reason)> = found
            .edits
            .iter()
            .filter_map(|edit| Some((edit.path().clone(), self.guard.forbids(edit.path())?)))
            .collect();
        for (path, reason) in &hits {
            let text = match reason {
                Reason::Management => {
                    "this would cut the way by which the router is reached; use another interface".to_owned()
                }
                _ => "the path is in the Router's protectedPaths".to_owned(),
            };
            self.freeze(path, None, *reason, text);
        }
        !hits.is_empty()
    }

    fn refuse_over_budget(&mut self, found: &Findings) -> bool {
        let Some(budget) = self.inputs.policy.deletion_budget else { return false };
        let prunes: Vec<_> = found.entries.iter().filter(|entry| entry.class == Class::Prune).collect();
        if prunes.len() <= budget || self.frozen.no_prune {
            return false;
        }
        self.frozen.no_prune = true;
        let text =
            format!("{} statements would be removed, the deletion budget is {budget}: none is", prunes.len());
        let (path, objects) = (prunes[0].path.clone(), Vec::new());
        self.blocked.insert(Blocked { path, reason: Reason::Budget, text, objects });
        true
    }

    /// Leaves out what makes the router's commit fail. Says whether there was anything.
    fn refuse_broken(&mut self, found: &Findings, next: &Tree) -> bool {
        let broken: Vec<Violation> = rules::check(next, self.inputs.dialect)
            .into_iter()
            .filter(|v| !self.broken_before.contains(v))
            .collect();
        for violation in &broken {
            let text = violation.to_string();
            let guilty = self.guilty(found, violation);
            if guilty.is_empty() {
                self.frozen.no_prune = true;
                let path = violation.path.clone();
                self.blocked.insert(Blocked { path, reason: Reason::CommitRule, text, objects: Vec::new() });
            } else {
                guilty.iter().for_each(|path| self.freeze(path, None, Reason::CommitRule, text.clone()));
            }
        }
        !broken.is_empty()
    }

    /// The places of ours whose change breaks the rule: the claim at or above the violation, else all that is changed
    /// below it, else what it refers to.
    fn guilty(&self, found: &Findings, violation: &Violation) -> Vec<ConfigPath> {
        let edited = |at: &ConfigPath| -> Vec<ConfigPath> {
            let touches = |path: &&ConfigPath| path.is_within(at) || at.is_within(path);
            let claim_of =
                |path: &ConfigPath| self.desired.claim_above(path).map_or(path, |(claim, _)| claim).clone();
            found
                .edits
                .iter()
                .map(Edit::path)
                .filter(touches)
                .map(claim_of)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let above = self.desired.claim_above(&violation.path).map(|(path, _)| path.clone());
        if let Some(claim) = above.filter(|claim| !edited(claim).is_empty()) {
            return vec![claim];
        }
        let below = edited(&violation.path);
        if below.is_empty() { violation.about.as_ref().map(edited).unwrap_or_default() } else { below }
    }

    /// Leaves out the claim at or above the path, and says why.
    fn freeze(&mut self, path: &ConfigPath, value: Option<&str>, reason: Reason, text: String) {
        let objects: Vec<Owner> = self.desired.owners_of(path, value).into_iter().cloned().collect();
        match self.desired.claim_above(path) {
            Some((at, Claim::Subtree(_))) => drop(self.frozen.paths.insert(at.clone())),
            Some((at, Claim::Members(members))) => match value.filter(|value| members.contains_key(*value)) {
                Some(value) => drop(self.frozen.members.insert((at.clone(), value.to_owned()))),
                None => drop(self.frozen.paths.insert(at.clone())),
            },
            None => {
                let claimed = (1..=path.len()).find_map(|n| self.ledger.claims.get_key_value(&path[..n]));
                self.frozen.paths.insert(claimed.map_or_else(|| path.clone(), |(at, _)| at.clone()));
            }
        }
        self.blocked.insert(Blocked { path: path.clone(), reason, text, objects });
    }

    /// The running tree after the edits.
    fn next(&self, edits: &[Edit]) -> Tree {
        let mut next = self.inputs.running.clone();
        for edit in edits {
            if let Edit::Unset(path, value) = edit {
                match value {
                    Some(value) => drop(next.remove_value(path, value)),
                    None => drop(next.remove(path)),
                }
                self.remove_emptied(&mut next, path);
            }
        }
        for edit in edits {
            if let Edit::Set(path, value) = edit {
                // The comparison has seen that nothing of another shape is in the way.
                let _ = match value {
                    Some(value) => next.add(path, value),
                    None => next.set_flag(path),
                };
            }
        }
        next
    }

    /// Removes the nodes above that are left empty and are ours, or mean nothing when empty.
    fn remove_emptied(&self, next: &mut Tree, path: &ConfigPath) {
        let mut above = path.parent();
        while let Some(at) = above {
            if !next.at(&at).is_some_and(Node::is_bare)
                || self.desired.tree().at(&at).is_some()
                || !self.may_go(&at)
            {
                break;
            }
            next.remove(&at);
            above = at.parent();
        }
    }

    fn may_go(&self, at: &ConfigPath) -> bool {
        let claimed = || {
            (1..=at.len()).any(|n| {
                self.ledger.claims.contains_key(&at[..n]) || self.desired.claims().contains_key(&at[..n])
            })
        };
        let hollow = || HOLLOW.iter().any(|words| words.len() == at.len() && at.begins(words));
        self.ledger.made.contains(at)
            || self.inputs.schema.kind(at) == Some(Kind::Tag)
            || claimed()
            || hollow()
    }

    fn finish(mut self, found: Findings, next: &Tree) -> Plan {
        let inputs = self.inputs;
        self.block_conflicts(&found);
        self.block_kept(&found);
        let changes = diff(inputs.running, next, inputs.schema);
        let (commands, batches) = match batch::order(changes, inputs) {
            Ok(batches) => (batches.iter().flat_map(|batch| batch.commands.clone()).collect(), batches),
            Err(stuck) => {
                let objects = Vec::new();
                self.blocked.insert(Blocked {
                    path: stuck.path.clone(),
                    reason: Reason::Order,
                    text: stuck.to_string(),
                    objects,
                });
                (Vec::new(), Vec::new())
            }
        };
        let inverse =
            if commands.is_empty() { Vec::new() } else { diff(next, inputs.running, inputs.schema) };
        Plan {
            id: id(&commands),
            mode: inputs.policy.mode,
            dialect: inputs.dialect,
            batches: if inputs.policy.mode == Mode::Observe { Vec::new() } else { batches },
            commands,
            inverse,
            warnings: self.warnings(next),
            claims: self.new_claims(),
            made: self.new_containers(next),
            entries: found.entries,
            blocked: self.blocked.into_iter().collect(),
        }
    }

    fn block_conflicts(&mut self, found: &Findings) {
        for entry in &found.entries {
            let (reason, text) = match entry.class {
                Class::Conflict => (
                    Reason::Conflict,
                    "others hold this place with something else; remove it there, or let the object take over",
                ),
                Class::ForeignEdit => (
                    Reason::ForeignEdit,
                    "no longer wanted, but others have changed it since; remove it by hand",
                ),
                _ => continue,
            };
            let mut objects: BTreeSet<&Owner> = self.desired.owners_of(&entry.path, entry.want.as_deref());
            let below = self
                .desired
                .claims()
                .range(entry.path.clone()..)
                .take_while(|(path, _)| path.is_within(&entry.path));
            objects.extend(below.flat_map(|(_, claim)| claim.owners()));
            let objects = objects.into_iter().cloned().collect();
            self.blocked.insert(Blocked { path: entry.path.clone(), reason, text: text.to_owned(), objects });
        }
    }

    /// Says what is kept for the sake of objects that something is wrong with.
    fn block_kept(&mut self, found: &Findings) {
        let (Keep::Of { because, .. }, Some(first)) = (
            &self.inputs.policy.keep,
            found.entries.iter().find(|entry| found.kept > 0 && entry.class == Class::Kept),
        ) else {
            return;
        };
        let text = format!("{} statements are not removed until these objects are mended", found.kept);
        let (path, objects) = (first.path.clone(), because.iter().cloned().collect());
        self.blocked.insert(Blocked { path, reason: Reason::Keep, text, objects });
    }

    /// Rules that were broken before and still are.
    fn warnings(&self, next: &Tree) -> Vec<Violation> {
        if self.broken_before.is_empty() {
            return Vec::new();
        }
        rules::check(next, self.inputs.dialect)
            .into_iter()
            .filter(|v| self.broken_before.contains(v))
            .collect()
    }

    fn new_claims(&self) -> Vec<(ConfigPath, Mark)> {
        let subtrees = self.desired.claims().iter().filter(|(_, claim)| matches!(claim, Claim::Subtree(_)));
        let free =
            subtrees.filter(|(path, _)| !(1..=path.len()).any(|n| self.frozen.paths.contains(&path[..n])));
        let marked = free.filter_map(|(path, claim)| Some((path.clone(), claim.owners().first()?.mark())));
        marked.filter(|(path, mark)| self.ledger.claims.get(path) != Some(mark)).collect()
    }

    /// The nodes above claims that the router does not have yet.
    fn new_containers(&self, next: &Tree) -> Vec<ConfigPath> {
        let mut made = BTreeMap::new();
        for path in self.desired.claims().keys() {
            let mut above = path.parent();
            while let Some(at) = above {
                if made.contains_key(&at) || self.inputs.running.at(&at).is_some() || next.at(&at).is_none() {
                    break;
                }
                above = at.parent();
                made.insert(at, ());
            }
        }
        made.into_keys().collect()
    }
}

/// A hash of what would be sent.
fn id(commands: &[Command]) -> String {
    let mut hash = Sha256::new();
    for command in commands {
        hash.update(command.to_string());
        hash.update("\n");
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
