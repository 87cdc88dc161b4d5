//! What must be sent to make one tree the other, with as few commands as the tree allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Kinds};
use super::path::{ConfigPath, quoted};
use super::tree::{Children, Node, ShapeError, Tree};
use super::values::Values;

/// One operation of the router's `/configure`. It serialises to what the API reads: `{"op", "path", "value"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Command {
    /// Make the leaf hold the value, or the node exist.
    Set {
        /// The node.
        path: ConfigPath,
        /// The value of a leaf; none for a node without content.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// Remove the node with all that is below it, or one value of a leaf.
    Delete {
        /// The node.
        path: ConfigPath,
        /// The one value to remove, or none for the whole node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
}

impl Command {
    /// The node that it is about.
    pub fn path(&self) -> &ConfigPath {
        match self {
            Self::Set { path, .. } | Self::Delete { path, .. } => path,
        }
    }

    /// The value that it is about.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Set { value, .. } | Self::Delete { value, .. } => value.as_deref(),
        }
    }

    /// Whether it removes.
    pub fn is_delete(&self) -> bool {
        matches!(self, Self::Delete { .. })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_delete() { "delete" } else { "set" };
        write!(f, "{verb} {}", self.path())?;
        self.value().map_or(Ok(()), |value| write!(f, " {}", quoted(value)))
    }
}

/// The commands that make `running` equal to `desired`: deletions first, from the bottom up, then settings.
///
/// A node that is wholly gone is deleted at its highest point, a tag node by its instances. A node left without content
/// stays.
pub fn diff(running: &Tree, desired: &Tree, kinds: &impl Kinds) -> Vec<Command> {
    let mut walk = Walk { kinds, at: Vec::new(), deletes: Vec::new(), sets: Vec::new() };
    walk.branches(running.children(), desired.children());
    walk.deletes.reverse();
    walk.deletes.append(&mut walk.sets);
    walk.deletes
}

impl Tree {
    /// Does what the router does with one command. Deleting what is not there changes nothing.
    pub fn apply(&mut self, command: &Command, kinds: &impl Kinds) -> Result<(), ShapeError> {
        match command {
            Command::Set { path, value: None } => self.set_flag(path),
            Command::Set { path, value: Some(value) } => match kinds.kind(path) {
                Some(Kind::Leaf) => self.set(path, value),
                _ => self.add(path, value),
            },
            Command::Delete { path, value } => {
                self.delete(path, value.as_deref());
                self.drop_empty_tags(path, kinds);
                Ok(())
            }
        }
    }

    fn delete(&mut self, path: &ConfigPath, value: Option<&str>) {
        match value {
            Some(value) => {
                self.remove_value(path, value);
            }
            None => {
                self.remove(path);
            }
        }
    }

    /// A tag node cannot be without instances: it goes with its last one.
    fn drop_empty_tags(&mut self, path: &ConfigPath, kinds: &impl Kinds) {
        if let Some(tag) = path.parent()
            && kinds.kind(&tag) == Some(Kind::Tag)
            && self.at(&tag).is_some_and(Node::is_bare)
        {
            self.remove(&tag);
        }
    }
}

struct Walk<'a, K> {
    kinds: &'a K,
    at: Vec<String>,
    deletes: Vec<Command>,
    sets: Vec<Command>,
}

impl<K: Kinds> Walk<'_, K> {
    fn branches(&mut self, running: &Children, desired: &Children) {
        for (name, node) in running.iter().filter(|(name, _)| !desired.contains_key(*name)) {
            self.within(name, |walk| walk.delete_all(node));
        }
        for (name, want) in desired {
            self.within(name, |walk| match running.get(name) {
                Some(have) => walk.nodes(have, want),
                None => walk.set_all(want),
            });
        }
    }

    fn nodes(&mut self, have: &Node, want: &Node) {
        match (have, want) {
            (Node::Branch(have), Node::Branch(want)) => self.branches(have, want),
            (Node::Leaf(have), Node::Leaf(want)) => self.values(have, want),
            (have, want) if have.is_bare() => self.set_all(want),
            (have, want) => {
                self.delete_all(have);
                self.set_all(want);
            }
        }
    }

    fn values(&mut self, have: &Values, want: &Values) {
        let replaced_by_setting = want.len() == 1 && self.kinds.kind(&self.at) == Some(Kind::Leaf);
        let gone = have.difference(want).filter(|_| !replaced_by_setting);
        gone.for_each(|value| self.delete(Some(value)));
        want.difference(have).for_each(|value| self.set(Some(value)));
    }

    fn set_all(&mut self, node: &Node) {
        let mut at = std::mem::take(&mut self.at);
        node.walk(&mut at, &mut |path, value| {
            let (path, value) = (ConfigPath::from_walk(path), value.map(str::to_owned));
            self.sets.push(Command::Set { path, value });
        });
        self.at = at;
    }

    /// Of a tag node only the instances that are known: one added since the reading is not taken along.
    fn delete_all(&mut self, node: &Node) {
        match node.children().filter(|_| self.kinds.kind(&self.at) == Some(Kind::Tag)) {
            Some(instances) => instances.keys().for_each(|name| self.within(name, |walk| walk.delete(None))),
            None => self.delete(None),
        }
    }

    fn set(&mut self, value: Option<&str>) {
        let path = ConfigPath::from_walk(&self.at);
        self.sets.push(Command::Set { path, value: value.map(str::to_owned) });
    }

    fn delete(&mut self, value: Option<&str>) {
        let path = ConfigPath::from_walk(&self.at);
        self.deletes.push(Command::Delete { path, value: value.map(str::to_owned) });
    }

    fn within(&mut self, name: &str, step: impl FnOnce(&mut Self)) {
        self.at.push(name.to_owned());
        step(self);
        self.at.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kind::Untyped;
    use proptest::prelude::*;

    fn tree(lines: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for line in lines {
            match line.split_once('=') {
                Some((path, value)) => tree.add(&path.parse().unwrap(), value).unwrap(),
                None => tree.set_flag(&line.parse().unwrap()).unwrap(),
            }
        }
        tree
    }

    fn text(commands: &[Command]) -> Vec<String> {
        commands.iter().map(ToString::to_string).collect()
    }

    struct OneLeaf;
    impl Kinds for OneLeaf {
        fn kind(&self, path: &[String]) -> Option<Kind> {
            match path.last()?.as_str() {
                "mtu" => Some(Kind::Leaf),
                "vif" => Some(Kind::Tag),
                _ => None,
            }
        }
    }

    #[test]
    fn deletes_the_highest_gone_node_once() {
        let have = tree(&["if eth0 vif 10 address=a", "if eth0 vif 10 mtu=1", "if eth0 vif 20 mtu=1"]);
        let want = tree(&["if eth0 vif 20 mtu=1"]);
        assert_eq!(text(&diff(&have, &want, &Untyped)), ["delete if eth0 vif 10"]);
    }

    #[test]
    fn a_single_value_is_set_over_the_old_one() {
        let (have, want) = (tree(&["if mtu=1500", "if address=a"]), tree(&["if mtu=9000", "if address=b"]));
        assert_eq!(
            text(&diff(&have, &want, &OneLeaf)),
            ["delete if address a", "set if address b", "set if mtu 9000"]
        );
    }

    #[test]
    fn the_last_tag_instance_takes_its_tag_along() {
        let mut have = tree(&["if eth0 vif 10"]);
        let gone = Command::Delete { path: "if eth0 vif 10".parse().unwrap(), value: None };
        have.apply(&gone, &OneLeaf).unwrap();
        assert_eq!(have, tree(&["if eth0"]));
    }

    #[test]
    fn speaks_the_api() {
        let set = Command::Set { path: "a b".parse().unwrap(), value: Some("c".to_owned()) };
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"{"op":"set","path":["a","b"],"value":"c"}"#);
    }

    fn any_tree() -> impl Strategy<Value = Tree> {
        let leaf = ("[a-c]( [a-c]){0,3}", proptest::option::of("[x-z]"));
        proptest::collection::vec(leaf, 0..20).prop_map(|leaves| {
            let mut tree = Tree::new();
            for (path, value) in leaves {
                let path: ConfigPath = path.parse().unwrap();
                // A leaf in the way of a branch is simply left out.
                let _ = match value {
                    Some(value) => tree.add(&path, value),
                    None => tree.set_flag(&path),
                };
            }
            tree
        })
    }

    proptest! {
        #[test]
        fn applying_a_difference_makes_the_trees_equal(have in any_tree(), want in any_tree()) {
            let mut tree = have.clone();
            for command in diff(&have, &want, &Untyped) {
                tree.apply(&command, &Untyped).unwrap();
            }
            prop_assert_eq!(&tree, &want);
            prop_assert!(diff(&tree, &want, &Untyped).is_empty());
        }
    }
}
