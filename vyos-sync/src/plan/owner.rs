//! Who wants a piece of configuration, and the mark that says so on the router itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Kubernetes object that a piece of configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Its kind, such as `RouterNetwork`.
    pub kind: String,
    /// Its namespace, where the kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// An object in a namespace.
    pub fn namespaced(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { kind: kind.into(), namespace: Some(namespace.into()), name: name.into() }
    }

    /// An object of the whole cluster.
    pub fn cluster(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: None, name: name.into() }
    }

    /// The mark that its configuration carries on the router.
    pub fn mark(&self) -> Mark {
        Mark(format!("{PREFIX}{}/{}", self.namespace.as_deref().unwrap_or_default(), self.name))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// `vs:<namespace>/<name>`: the first word of a `description` of ours. Text may follow it after a blank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(String);

const PREFIX: &str = "vs:";

/// What the names of static mappings of ours begin with, since they have no description in 1.4.
pub const NAME_PREFIX: &str = "vs-";

impl Mark {
    /// The mark at the beginning of a description.
    pub fn read(description: &str) -> Option<Self> {
        let word = description.split(' ').next()?;
        (word.starts_with(PREFIX) && word.contains('/')).then(|| Self(word.to_owned()))
    }

    /// The mark of a node that is known by its name alone.
    pub(crate) fn of_name(name: &str) -> Self {
        Self(format!("{PREFIX}/{name}"))
    }

    /// Whether it was made up from a name, so that the object is not known.
    pub(super) fn is_anonymous(&self) -> bool {
        self.0.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(&format!("/{NAME_PREFIX}")))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_from_a_description() {
        let owner = Owner::namespaced("RouterNetwork", "lab", "mgmt");
        assert_eq!(Mark::read("vs:lab/mgmt for the lab"), Some(owner.mark()));
        assert_eq!(Mark::read("uplink"), None);
        assert_eq!(Owner::cluster("Router", "edge").mark().as_str(), "vs:/edge");
    }
}
