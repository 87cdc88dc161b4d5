//! The configuration tree itself.
//!
//! A node without content stands for an empty branch, a tag instance without settings and a valueless leaf alike: the
//! API's JSON shows all three as `{}`, so telling them apart would make equal configurations differ.

use std::collections::BTreeMap;
use std::fmt;

use super::path::ConfigPath;
use super::values::Values;

/// The children of a branch, by name. Names are verbatim, also those of tag instances.
pub type Children = BTreeMap<String, Node>;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Children; none for a flag, an empty branch or a bare tag instance.
    Branch(Children),
    /// A leaf with one or several values, never none.
    Leaf(Values),
}

/// A whole configuration, or a part of one with paths from the top.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tree {
    children: Children,
}

/// A path goes through, or ends at, a node of the other shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: a node cannot hold both values and children")]
pub struct ShapeError {
    /// The node in the way.
    pub path: ConfigPath,
}

/// One statement of a tree: a value of a leaf, or a node without content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leaf {
    /// Where.
    pub path: ConfigPath,
    /// The value, or `None` for a node without content.
    pub value: Option<String>,
}

impl Node {
    /// A node without content.
    pub const fn bare() -> Self {
        Self::Branch(Children::new())
    }

    /// A leaf of one value.
    pub fn value(value: impl Into<String>) -> Self {
        Self::Leaf(Values::from_iter([value.into()]))
    }

    /// Whether it holds neither children nor values.
    pub fn is_bare(&self) -> bool {
        matches!(self, Self::Branch(c) if c.is_empty())
    }

    /// The children, unless it is a leaf with values.
    pub fn children(&self) -> Option<&Children> {
        match self {
            Self::Branch(children) => Some(children),
            Self::Leaf(_) => None,
        }
    }

    /// The values of a leaf.
    pub fn values(&self) -> Option<&Values> {
        match self {
            Self::Leaf(values) => Some(values),
            Self::Branch(_) => None,
        }
    }

    /// The child of that name.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children()?.get(name)
    }

    /// The first value of the leaf child of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.child(name)?.first()
    }

    /// The first value of this leaf.
    pub fn first(&self) -> Option<&str> {
        self.values()?.first().map(String::as_str)
    }

    /// The node below these words.
    pub fn at<W: AsRef<str>>(&self, words: &[W]) -> Option<&Node> {
        words.iter().try_fold(self, |node, word| node.child(word.as_ref()))
    }

    /// How many statements it makes: see [`Leaf`].
    pub fn weight(&self) -> usize {
        match self {
            Self::Leaf(values) => values.len(),
            Self::Branch(children) if children.is_empty() => 1,
            Self::Branch(children) => children.values().map(Node::weight).sum(),
        }
    }

    /// Calls `visit` with the path and value of every statement below, `path` being that of this node.
    pub fn walk(&self, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], Option<&str>)) {
        match self {
            Self::Leaf(values) => values.iter().for_each(|value| visit(path, Some(value))),
            Self::Branch(children) if children.is_empty() => visit(path, None),
            Self::Branch(children) => walk(children, path, visit),
        }
    }

    fn merge(&mut self, other: Node, path: &mut Vec<String>) -> Result<(), ShapeError> {
        match (&mut *self, other) {
            (_, other) if other.is_bare() => {}
            (mine, other) if mine.is_bare() => *mine = other,
            (Self::Leaf(mine), Self::Leaf(other)) => mine.extend(other),
            (Self::Branch(mine), Self::Branch(other)) => merge(mine, other, path)?,
            _ => return Err(ShapeError { path: ConfigPath::from_walk(path) }),
        }
        Ok(())
    }
}

impl Tree {
    /// A tree of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes at the top.
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// Whether it holds no node at all.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Makes the leaf hold this value and no other.
    pub fn set(&mut self, path: &ConfigPath, value: impl Into<String>) -> Result<(), ShapeError> {
        let node = self.make(path)?;
        match node {
            Node::Branch(children) if !children.is_empty() => Err(ShapeError { path: path.clone() }),
            _ => {
                *node = Node::value(value);
                Ok(())
            }
        }
    }

    /// Makes the leaf hold this value too.
    pub fn add(&mut self, path: &ConfigPath, value: impl Into<String>) -> Result<(), ShapeError> {
        match self.make(path)? {
            Node::Leaf(values) => {
                values.insert(value.into());
            }
            node if node.is_bare() => *node = Node::value(value),
            Node::Branch(_) => return Err(ShapeError { path: path.clone() }),
        }
        Ok(())
    }

    /// Makes the node exist: a valueless leaf, an empty branch, a bare tag instance.
    pub fn set_flag(&mut self, path: &ConfigPath) -> Result<(), ShapeError> {
        self.make(path).map(|_| ())
    }

    /// Puts a whole node at the path, in place of what was there.
    pub fn put(&mut self, path: &ConfigPath, node: Node) -> Result<(), ShapeError> {
        *self.make(path)? = node;
        Ok(())
    }

    /// Removes a node with all that is below it. Its parents stay.
    pub fn remove(&mut self, path: &ConfigPath) -> Option<Node> {
        let (above, name) = path.split();
        self.branch_mut(above)?.remove(name)
    }

    /// Removes one value of a leaf, and the leaf with its last value. Says whether the value was there.
    pub fn remove_value(&mut self, path: &ConfigPath, value: &str) -> bool {
        let (above, name) = path.split();
        let Some(branch) = self.branch_mut(above) else { return false };
        let Some(Node::Leaf(values)) = branch.get_mut(name) else { return false };
        let found = values.remove(value);
        if values.is_empty() {
            branch.remove(name);
        }
        found
    }

    /// The node at the path; words may be anything that reads as text.
    pub fn at<W: AsRef<str>>(&self, path: &[W]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        self.children.get(first.as_ref())?.at(rest)
    }

    /// Whether the node is there, or the value of the leaf that the last word may be.
    pub fn exists<W: AsRef<str>>(&self, path: &[W]) -> bool {
        let value = || {
            let (last, above) = path.split_last()?;
            Some(self.at(above)?.values()?.contains(last.as_ref()))
        };
        self.at(path).is_some() || value().unwrap_or(false)
    }

    /// Whether the tree states this: the leaf holds the value, or the node exists where there is no value.
    pub fn states<W: AsRef<str>>(&self, path: &[W], value: Option<&str>) -> bool {
        match (self.at(path), value) {
            (Some(Node::Leaf(values)), Some(value)) => values.contains(value),
            (Some(Node::Branch(_)), None) => true,
            _ => false,
        }
    }

    /// The children of the branch at the path, empty where there is none.
    pub fn entries<W: AsRef<str>>(&self, path: &[W]) -> impl Iterator<Item = (&String, &Node)> {
        let node =
            if path.is_empty() { Some(&self.children) } else { self.at(path).and_then(Node::children) };
        node.into_iter().flatten()
    }

    /// Every statement, in path order.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut all = Vec::new();
        self.walk(&mut |path, value| {
            all.push(Leaf { path: ConfigPath::from_walk(path), value: value.map(str::to_owned) });
        });
        all
    }

    /// Calls `visit` with the path and value of every statement, in path order.
    pub fn walk(&self, visit: &mut impl FnMut(&[String], Option<&str>)) {
        walk(&self.children, &mut Vec::new(), visit);
    }

    /// How many statements it makes: see [`Leaf`].
    pub fn weight(&self) -> usize {
        self.children.values().map(Node::weight).sum()
    }

    /// Adds all that `other` states. Values of the same leaf are joined.
    pub fn merge(&mut self, other: Tree) -> Result<(), ShapeError> {
        merge(&mut self.children, other.children, &mut Vec::new())
    }

    /// The part at `path`, as a tree with the same paths.
    #[must_use]
    pub fn only(&self, path: &ConfigPath) -> Tree {
        let mut tree = Tree::new();
        if let Some(node) = self.at(path) {
            // A fresh tree has nothing in the way.
            let _ = tree.put(path, node.clone());
        }
        tree
    }

    /// The children of the branch at `above`, which is the top when empty.
    pub(crate) fn branch_mut(&mut self, above: &[String]) -> Option<&mut Children> {
        above.iter().try_fold(&mut self.children, |children, word| match children.get_mut(word)? {
            Node::Branch(children) => Some(children),
            Node::Leaf(_) => None,
        })
    }

    fn make(&mut self, path: &ConfigPath) -> Result<&mut Node, ShapeError> {
        let (above, name) = path.split();
        let mut children = &mut self.children;
        for (i, word) in above.iter().enumerate() {
            match children.entry(word.clone()).or_insert_with(Node::bare) {
                Node::Branch(inner) => children = inner,
                Node::Leaf(_) => return Err(ShapeError { path: ConfigPath::from_walk(&path[..=i]) }),
            }
        }
        Ok(children.entry(name.to_owned()).or_insert_with(Node::bare))
    }
}

impl From<Children> for Tree {
    fn from(children: Children) -> Self {
        Self { children }
    }
}

impl From<Tree> for Children {
    fn from(tree: Tree) -> Self {
        tree.children
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.leaves().iter().map(ToString::to_string)).finish()
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        match &self.value {
            Some(value) => write!(f, " {}", super::path::quoted(value)),
            None => Ok(()),
        }
    }
}

fn walk(children: &Children, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], Option<&str>)) {
    for (name, node) in children {
        path.push(name.clone());
        node.walk(path, visit);
        path.pop();
    }
}

fn merge(mine: &mut Children, other: Children, path: &mut Vec<String>) -> Result<(), ShapeError> {
    for (name, node) in other {
        path.push(name.clone());
        match mine.entry(name) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(node);
            }
            std::collections::btree_map::Entry::Occupied(mut taken) => taken.get_mut().merge(node, path)?,
        }
        path.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ConfigPath {
        text.parse().unwrap()
    }

    #[test]
    fn order_of_setting_does_not_matter() {
        let (mut a, mut b) = (Tree::new(), Tree::new());
        for value in ["9.9.9.9", "1.1.1.1"] {
            a.add(&path("system name-server"), value).unwrap();
        }
        for value in ["1.1.1.1", "9.9.9.9"] {
            b.add(&path("system name-server"), value).unwrap();
        }
        assert_eq!(a, b);
        assert_eq!(a.leaves()[0].value.as_deref(), Some("9.9.9.9"), "but the order is kept");
    }

    #[test]
    fn set_replaces_and_add_adds() {
        let mut tree = Tree::new();
        let mtu = path("interfaces ethernet eth5 mtu");
        tree.set(&mtu, "1500").unwrap();
        tree.set(&mtu, "9000").unwrap();
        assert_eq!(tree.at(&mtu), Some(&Node::value("9000")));
        assert!(tree.exists(&mtu.join("9000")) && !tree.exists(&mtu.join("1500")));
    }

    #[test]
    fn a_node_is_a_leaf_or_a_branch() {
        let mut tree = Tree::new();
        tree.set(&path("a b"), "1").unwrap();
        assert_eq!(tree.set_flag(&path("a b c")), Err(ShapeError { path: path("a b") }));
        assert_eq!(tree.add(&path("a"), "1"), Err(ShapeError { path: path("a") }));
    }

    #[test]
    fn removing_the_last_value_removes_the_leaf() {
        let mut tree = Tree::new();
        tree.set(&path("a b"), "1").unwrap();
        assert!(!tree.remove_value(&path("a b"), "2"));
        assert!(tree.remove_value(&path("a b"), "1"));
        assert_eq!(tree.at(&path("a")), Some(&Node::bare()));
    }

    #[test]
    fn merge_joins_values_and_branches() {
        let mut one = Tree::new();
        one.add(&path("a b"), "1").unwrap();
        let mut two = Tree::new();
        two.add(&path("a b"), "2").unwrap();
        two.set_flag(&path("a c")).unwrap();
        one.merge(two).unwrap();
        assert_eq!(one.weight(), 3);
    }
}
