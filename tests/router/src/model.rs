//! Which paths and values this router accepts, and in what words it refuses the others.

use vyos_sync::config::schema::Schema;
use vyos_sync::config::{ConfigPath, Kind, Kinds, Leaf};

use crate::http::call::{Op, Verb};

/// A change with its value told apart from its path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) path: ConfigPath,
    pub(crate) value: Option<String>,
}

/// The configuration tree that the release knows.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    schema: Schema,
    extent: Extent,
}

/// How much of the real tree a schema holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it: what it does not know does not exist.
    Whole,
    /// The subtrees that vyos-sync manages.
    Managed,
}

/// What a router's own access and timers need, outside the built-in model. `*` is any instance.
const ESSENTIAL: [(&str, Kind); 9] = [
    ("service https api keys id", Kind::Tag),
    ("service https api keys id * key", Kind::Leaf),
    ("service https listen-address", Kind::Multi),
    ("service https port", Kind::Leaf),
    ("service https request-body-size-limit", Kind::Leaf),
    ("system config-management commit-confirm action", Kind::Leaf),
    ("system host-name", Kind::Leaf),
    ("system name-server", Kind::Multi),
    ("system time-zone", Kind::Leaf),
];

/// The top of the real tree: what is not below one of these does not exist, whatever the model knows.
const ROOTS: [&str; 17] = [
    "cluster",
    "container",
    "firewall",
    "high-availability",
    "interfaces",
    "load-balancing",
    "nat",
    "nat64",
    "nat66",
    "pki",
    "policy",
    "protocols",
    "qos",
    "service",
    "system",
    "vpn",
    "vrf",
];

impl Model {
    pub(crate) fn new(schema: Schema, extent: Extent) -> Self {
        Self { schema, extent }
    }

    /// Whether the schema can say of this path that it does not exist.
    fn covers(&self, path: &[String]) -> bool {
        self.extent == Extent::Whole || self.schema.rule(&path[..path.len().min(2)]).is_some()
    }

    /// Tells value from path and checks both. A delete needs no right value: what is not there cannot be deleted.
    pub(crate) fn resolve(&self, op: &Op) -> Result<Resolved, String> {
        if !self.covers(&op.words) {
            return self.unmodelled(op);
        }
        match self.schema.resolve(&op.words, op.value.as_deref()) {
            Ok(Leaf { path, value }) => Ok(Resolved { path, value }),
            Err(_) if op.verb == Verb::Delete && self.schema.kind(&op.words).is_some() => self.whole(op),
            Err(error) => Err(error.router_text()),
        }
    }

    /// The node that an op is about, whether it is right or not.
    pub(crate) fn place(&self, op: &Op) -> Option<ConfigPath> {
        self.resolve(op).map(|resolved| resolved.path).ok()
    }

    /// Whether the release has such a node at all.
    pub(crate) fn knows(&self, words: &[String]) -> bool {
        if self.covers(words) { self.schema.kind(words).is_some() } else { is_rooted(words) }
    }

    /// Outside the built-in model nothing is checked but the first word. The value of a leaf that is not known
    /// either must come in its own field.
    fn unmodelled(&self, op: &Op) -> Result<Resolved, String> {
        if !is_rooted(&op.words) {
            return Err(invalid(&op.words));
        }
        match (op.words.split_last(), &op.value) {
            (Some((value, above)), None) if matches!(essential(above), Some(Kind::Leaf | Kind::Multi)) => {
                let path = ConfigPath::try_from(above.to_vec()).map_err(|_| invalid(&op.words))?;
                Ok(Resolved { path, value: Some(value.clone()) })
            }
            _ => self.whole(op),
        }
    }

    fn whole(&self, op: &Op) -> Result<Resolved, String> {
        let path = ConfigPath::try_from(op.words.clone()).map_err(|_| invalid(&op.words))?;
        Ok(Resolved { path, value: op.value.clone() })
    }
}

impl Kinds for Model {
    fn kind(&self, path: &[String]) -> Option<Kind> {
        if self.covers(path) {
            return self.schema.kind(path);
        }
        essential(path).or(Some(Kind::Leaf))
    }
}

fn essential(path: &[String]) -> Option<Kind> {
    let is = |pattern: &str| {
        let words: Vec<&str> = pattern.split(' ').collect();
        words.len() == path.len() && words.iter().zip(path).all(|(want, word)| *want == "*" || want == word)
    };
    ESSENTIAL.iter().find(|(pattern, _)| is(pattern)).map(|(_, kind)| *kind)
}

fn is_rooted(words: &[String]) -> bool {
    words.first().is_some_and(|first| ROOTS.contains(&first.as_str()))
}

fn invalid(words: &[String]) -> String {
    format!("Configuration path: [{}] is not valid\n\nSet failed\n", words.join(" "))
}
