//! Builds nodes in the order in which a person reads them.

use crate::config::{Children, ConfigPath, Node, Values};

/// A branch under construction.
#[derive(Default)]
pub(super) struct Block(Children);

impl Block {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A leaf of one value.
    #[must_use]
    pub(super) fn leaf(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), Node::value(value.to_string()));
        self
    }

    /// A leaf of one value, where there is one.
    #[must_use]
    pub(super) fn maybe(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.leaf(name, value),
            None => self,
        }
    }

    /// A leaf of several values; nothing where there are none.
    #[must_use]
    pub(super) fn leaves<V: ToString>(mut self, name: &str, values: impl IntoIterator<Item = V>) -> Self {
        let values: Values = values.into_iter().map(|value| value.to_string()).collect();
        if !values.is_empty() {
            self.0.insert(name.to_owned(), Node::Leaf(values));
        }
        self
    }

    /// A node without content.
    #[must_use]
    pub(super) fn flag(mut self, name: &str) -> Self {
        self.0.insert(name.to_owned(), Node::bare());
        self
    }

    /// A node without content, where the condition holds.
    #[must_use]
    pub(super) fn flag_if(self, condition: bool, name: &str) -> Self {
        if condition { self.flag(name) } else { self }
    }

    /// A branch; nothing where it would be empty.
    #[must_use]
    pub(super) fn block(mut self, name: &str, inner: Block) -> Self {
        if !inner.0.is_empty() {
            self.0.insert(name.to_owned(), inner.into());
        }
        self
    }

    /// Instances of a tag node.
    #[must_use]
    pub(super) fn instances<N: ToString>(
        self,
        name: &str,
        instances: impl IntoIterator<Item = (N, Block)>,
    ) -> Self {
        let inner = instances.into_iter().map(|(key, block)| (key.to_string(), Node::from(block))).collect();
        self.block(name, Block(inner))
    }

    /// The same block with what `more` adds to it.
    #[must_use]
    pub(super) fn with(self, more: impl FnOnce(Self) -> Self) -> Self {
        more(self)
    }
}

impl From<Block> for Node {
    fn from(block: Block) -> Self {
        Self::Branch(block.0)
    }
}

/// A path from its words, which are known to be there.
pub(super) fn at(root: &str, words: &[&str]) -> ConfigPath {
    ConfigPath::root(root).descend(words.iter().copied())
}
