//! What we applied last: the memory without which "ours" and "somebody's" look the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::numbers::Numbers;
use super::owner::{Mark, NAME_PREFIX};
use super::{Class, Plan};
use crate::config::{Command, ConfigPath, Node, Tree};
use crate::secret::Seal;

/// What we hold on one router. Losing it is mild: [`Ledger::recover`] finds the marked part again, the rest is adopted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Every statement that we made or adopted.
    pub owned: Tree,
    /// What a plan that was begun and not finished may have made.
    #[serde(default, skip_serializing_if = "Tree::is_empty")]
    pub pending: Tree,
    /// The subtrees that we claimed, with the mark of who wanted them.
    #[serde(default, with = "pairs")]
    pub claims: BTreeMap<ConfigPath, Mark>,
    /// Shared containers that were not there before us.
    #[serde(default)]
    pub made: BTreeSet<ConfigPath>,
    /// Rule numbers and subnet ids once given.
    #[serde(default)]
    pub numbers: Numbers,
}

impl Ledger {
    /// The ledger that the marks on the router tell of.
    pub fn recover(running: &Tree) -> Self {
        let mut ledger = Self::default();
        for (name, node) in running.children() {
            ledger.find_marks(&mut vec![name.clone()], node);
        }
        ledger
    }

    /// To be stored before anything of the plan is sent: what it sets may be on the router from then on.
    #[must_use]
    pub fn begun(&self, plan: &Plan) -> Self {
        let mut begun = self.clone();
        for command in &plan.commands {
            if let Command::Set { path, value } = command {
                // Where the shape changes, the old statement is on its way out and the new one is remembered here.
                let _ = match value {
                    Some(value) => begun.pending.add(path, value),
                    None => begun.pending.set_flag(path),
                };
            }
        }
        begun.claims.extend(plan.claims.iter().cloned());
        begun.made.extend(plan.made.iter().cloned());
        begun
    }

    /// To be stored when the whole plan is on the router and verified.
    #[must_use]
    pub fn settled(&self, plan: &Plan) -> Self {
        let mut settled = Self { pending: Tree::new(), ..self.clone() };
        for entry in &plan.entries {
            match entry.class {
                Class::Prune | Class::Gone => settled.disown(&entry.path, entry.had.as_deref()),
                Class::Create | Class::Change | Class::Drift | Class::Adopt => {
                    if entry.had.is_some() {
                        settled.owned.remove(&entry.path);
                    }
                    settled.own(&entry.path, entry.want.as_deref());
                }
                Class::Conflict | Class::ForeignEdit | Class::Extra | Class::Kept | Class::Reported => {}
            }
        }
        settled.claims.extend(plan.claims.iter().cloned());
        settled.made.extend(plan.made.iter().cloned());
        settled.drop_unused();
        settled
    }

    /// As it may be stored: no secret in it.
    #[must_use]
    pub fn closed(&self, seal: &Seal) -> Self {
        Self { owned: seal.close(&self.owned), pending: seal.close(&self.pending), ..self.clone() }
    }

    /// As it can be compared: with the secrets that are on the router or wanted there.
    #[must_use]
    pub fn opened(&self, seal: &Seal, known: &[&Tree]) -> Self {
        Self {
            owned: seal.open(&self.owned, known),
            pending: seal.open(&self.pending, known),
            ..self.clone()
        }
    }

    /// Whether nothing is ours.
    pub fn is_empty(&self) -> bool {
        self.owned.is_empty() && self.pending.is_empty()
    }

    fn own(&mut self, path: &ConfigPath, value: Option<&str>) {
        // A statement of the other shape at this place is no longer ours, since the plan replaced it.
        let added = |owned: &mut Tree| match value {
            Some(value) => owned.add(path, value),
            None => owned.set_flag(path),
        };
        if added(&mut self.owned).is_err() {
            self.owned.remove(path);
            let _ = added(&mut self.owned);
        }
    }

    fn disown(&mut self, path: &ConfigPath, value: Option<&str>) {
        match value {
            Some(value) => {
                self.owned.remove_value(path, value);
            }
            None => {
                self.owned.remove(path);
            }
        }
        let mut above = path.parent();
        while let Some(path) = above {
            if !self.owned.at(&path).is_some_and(Node::is_bare) {
                break;
            }
            self.owned.remove(&path);
            above = path.parent();
        }
    }

    fn drop_unused(&mut self) {
        let owned = &self.owned;
        self.claims.retain(|path, _| owned.at(path).is_some());
        self.made.retain(|path| owned.at(path).is_some());
    }

    fn find_marks(&mut self, at: &mut Vec<String>, node: &Node) {
        if let Some(mark) = mark_of(at, node) {
            let path = ConfigPath::from_walk(at);
            // Marked nodes do not lie in each other's way: the outermost takes all.
            let _ = self.owned.put(&path, node.clone());
            self.claims.insert(path, mark);
            return;
        }
        for (name, node) in node.children().into_iter().flatten() {
            at.push(name.clone());
            self.find_marks(at, node);
            at.pop();
        }
    }
}

/// The mark that a node carries: in its description, or in its name where it has none.
pub(super) fn mark_of(at: &[String], node: &Node) -> Option<Mark> {
    let by_name = || {
        let (name, above) = at.split_last()?;
        let mapping = above.last().is_some_and(|tag| tag == "static-mapping");
        (mapping && name.starts_with(NAME_PREFIX)).then(|| Mark::of_name(name))
    };
    node.text("description").and_then(Mark::read).or_else(by_name)
}

/// Maps with paths for keys, as lists of pairs: JSON keys are strings only.
mod pairs {
    use super::{BTreeMap, ConfigPath, Mark};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<ConfigPath, Mark>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<ConfigPath, Mark>, D::Error> {
        Ok(Vec::<(ConfigPath, Mark)>::deserialize(from)?.into_iter().collect())
    }
}
