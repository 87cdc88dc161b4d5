//! The one configuration session that all API requests share: what runs, what is proposed, what is poisoned.
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

use vyos_sync::config::{Command, ConfigPath, Node, Tree};

use crate::http::call::{Op, Section, SectionVerb, Verb};
use crate::model::{Model, Resolved};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    running: Tree,
    proposed: Tree,
    poison: Vec<(ConfigPath, Instant)>,
    poison_lasts: Duration,
    /// A failed load leaves the session so that `showConfig` cannot print it.
    broken: bool,
}

/// What the router says when a change cannot even be staged.
pub(crate) type SetFailure = String;

const BARE_FAILURE: &str = "Set failed\n";
const BARE_DELETE_FAILURE: &str = "Failed to delete specified config path\nDelete failed\n";

impl Session {
    pub(crate) fn new(running: Tree, poison_lasts: Duration) -> Self {
        let proposed = running.clone();
        Self { running, proposed, poison: Vec::new(), poison_lasts, broken: false }
    }

    pub(crate) fn running(&self) -> &Tree {
        &self.running
    }

    /// What the next commit would make of it; equal to `running` when nothing is staged.
    pub(crate) fn proposed(&self) -> &Tree {
        &self.proposed
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Stages every op, or none: after a failure the session is discarded.
    pub(crate) fn stage(&mut self, ops: &[Op], model: &Model, now: Instant) -> Result<(), SetFailure> {
        self.poison.retain(|(_, until)| *until > now);
        for op in ops {
            if let Err(failure) = self.stage_one(op, model) {
                self.refuse(ops, model, now);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Stages subtrees.
    pub(crate) fn stage_sections(
        &mut self,
        verb: SectionVerb,
        sections: &[Section],
        model: &Model,
        now: Instant,
    ) -> Result<(), SetFailure> {
        let mut ops = Vec::new();
        for section in sections {
            if verb == SectionVerb::Load {
                ops.push(Op { verb: Verb::Delete, words: section.at.clone(), value: None });
            }
            statements(section, &mut ops);
        }
        self.stage(&ops, model, now)
    }

    /// Stages a whole configuration. A failure is *not* discarded: what was staged stays, as on the real router.
    pub(crate) fn stage_load(&mut self, tree: Tree, model: &Model) -> Result<(), SetFailure> {
        self.proposed = Tree::new();
        for leaf in tree.leaves() {
            let op = Op { verb: Verb::Set, words: leaf.path.to_vec(), value: leaf.value };
            if let Err(failure) = self.stage_one(&op, model) {
                self.broken = true;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Drops what is staged. The paths that were touched stay poisoned for a while.
    pub(crate) fn refuse(&mut self, ops: &[Op], model: &Model, now: Instant) {
        let until = now + self.poison_lasts;
        let touched = ops.iter().filter_map(|op| model.place(op));
        self.poison.extend(touched.map(|path| (path, until)));
        self.discard();
    }

    /// Drops what is staged.
    pub(crate) fn discard(&mut self) {
        self.proposed = self.running.clone();
        self.broken = false;
    }

    /// Makes `live` what runs, and the session clean.
    pub(crate) fn settle(&mut self, live: Tree) {
        self.running = live;
        self.discard();
    }

    /// A commit of another session: changes what runs. What is staged here keeps its own differences.
    pub(crate) fn foreign(&mut self, commands: &[Command], model: &Model) -> Result<(), String> {
        for tree in [&mut self.running, &mut self.proposed] {
            for command in commands {
                tree.apply(command, model).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    fn stage_one(&mut self, op: &Op, model: &Model) -> Result<(), SetFailure> {
        let Resolved { path, value } = model.resolve(op)?;
        if self.is_poisoned(&path) {
            return Err(if op.verb == Verb::Delete { BARE_DELETE_FAILURE } else { BARE_FAILURE }.to_owned());
        }
        let command = match op.verb {
            // Comments are kept by the printed form only, which the stand-in does not keep.
            Verb::Comment => return Ok(()),
            Verb::Set => Command::Set { path, value },
            Verb::Delete => Command::Delete { path, value },
        };
        self.proposed.apply(&command, model).map_err(|_| BARE_FAILURE.to_owned())
    }

    fn is_poisoned(&self, path: &ConfigPath) -> bool {
        self.poison.iter().any(|(poisoned, _)| poisoned.is_within(path) || path.is_within(poisoned))
    }
}

/// Every statement of a subtree as a `set`; a bare subtree makes its own node.
fn statements(section: &Section, ops: &mut Vec<Op>) {
    let mut at = section.at.clone();
    section.node.walk(&mut at, &mut |words, value| {
        if !words.is_empty() {
            let value = value.map(str::to_owned);
            ops.push(Op { verb: Verb::Set, words: words.to_vec(), value });
        }
    });
}

/// The node at these words; the top is a branch like any other.
pub(crate) fn node_at(tree: &Tree, words: &[String]) -> Option<Node> {
    if words.is_empty() { Some(Node::Branch(tree.children().clone())) } else { tree.at(words).cloned() }
}
