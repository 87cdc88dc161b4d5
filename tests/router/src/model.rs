//! Which paths and values this router accepts, and in what words it refuses the others.

use vyos_sync::config::{ConfigPath, Kind, Kinds};

use crate::http::call::Op;

/// A change with its value told apart from its path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) path: ConfigPath,
    pub(crate) value: Option<String>,
}

/// The configuration tree that the release knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {}

impl Model {
    /// Tells value from path and checks both.
    pub(crate) fn resolve(&self, op: &Op) -> Result<Resolved, String> {
        let path = ConfigPath::try_from(op.words.clone()).map_err(|_| invalid(&op.words))?;
        Ok(Resolved { path, value: op.value.clone() })
    }

    /// The node that an op is about, whether it is right or not.
    pub(crate) fn place(&self, op: &Op) -> Option<ConfigPath> {
        self.resolve(op).map(|resolved| resolved.path).ok()
    }

    /// Whether the release has such a node at all.
    pub(crate) fn knows(&self, words: &[String]) -> bool {
        !words.is_empty()
    }
}

impl Kinds for Model {
    fn kind(&self, path: &[String]) -> Option<Kind> {
        const MULTI: [&str; 8] = [
            "address", "name-server", "listen-address", "allow-from", "inet", "network", "listen-interface", "server",
        ];
        let last = path.last()?.as_str();
        if MULTI.contains(&last) { Some(Kind::Multi) } else { Some(Kind::Leaf) }
    }
}

fn invalid(words: &[String]) -> String {
    format!("Configuration path: [{}] is not valid\n\nSet failed\n", words.join(" "))
}
