//! What a node of the tree is: asked of a schema, since neither the API's JSON nor a tree says it.

/// The kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has only children.
    Branch,
    /// Has named instances, such as `vif`; the path ends before the instance's name.
    Tag,
    /// One instance of a tag node, such as `vif 10`.
    Instance,
    /// A leaf that holds one value: a second `set` replaces the first.
    Leaf,
    /// A leaf that holds several values: a second `set` adds to the first.
    Multi,
    /// A leaf without a value.
    Flag,
}

/// Something that knows the kinds of nodes.
pub trait Kinds {
    /// The kind of the node at this path, or `None` where it is not known.
    fn kind(&self, path: &[String]) -> Option<Kind>;
}

/// Knows nothing. Differences made with it are right everywhere, but replace a value by deleting and setting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untyped;

impl Kinds for Untyped {
    fn kind(&self, _: &[String]) -> Option<Kind> {
        None
    }
}

impl<K: Kinds + ?Sized> Kinds for &K {
    fn kind(&self, path: &[String]) -> Option<Kind> {
        (**self).kind(path)
    }
}
