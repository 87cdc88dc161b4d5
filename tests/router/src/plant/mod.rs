//! What the configuration is programmed into: a network namespace with real daemons.

use vyos_sync::config::Tree;

/// A subtree that could not be programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The path of its owner.
    pub(crate) owner: String,
    /// What the kernel or the daemon said.
    pub(crate) text: String,
}

/// A namespace and the daemons in it.
#[derive(Debug)]
pub(crate) struct Plant {}

impl Plant {
    /// Makes the namespace hold this configuration.
    pub(crate) async fn apply(&mut self, _tree: &Tree) -> Vec<Failure> {
        Vec::new()
    }

    /// Ends the daemons and removes what was programmed, as a power cut does.
    pub(crate) async fn stop(&mut self) {}

    pub(crate) async fn vtysh(&self, _command: &str) -> Option<String> {
        None
    }

    pub(crate) async fn show(&self, _words: &[&str], _running: &Tree) -> Option<String> {
        None
    }
}
