//! What the commit scripts of VyOS verify, in their words.

use std::collections::BTreeSet;

use vyos_sync::config::Tree;

use crate::owner::Owner;
use crate::release::Release;

/// What the scripts see besides the proposed configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    /// The release whose rules apply.
    pub(crate) release: Release,
    /// The physical ports that exist.
    pub(crate) ports: &'a BTreeSet<String>,
}

/// What one script says of its subtree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) warnings: Vec<String>,
    pub(crate) error: Option<String>,
}

impl Verdict {
    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self { warnings: Vec::new(), error: Some(error.into()) }
    }
}

/// Runs the script's checks on the proposed configuration.
pub(crate) fn verify(_owner: &Owner, _proposed: &Tree, _world: &World<'_>) -> Verdict {
    Verdict::default()
}
