//! What the commit scripts say of their subtrees.

use std::collections::BTreeSet;

use vyos_sync::config::rules::{self, Violation};
use vyos_sync::config::{Tree, rules::wrap};

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

/// What all scripts would say of a proposed configuration.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    world: &'a World<'a>,
    errors: Vec<Violation>,
    warnings: Vec<Violation>,
}

/// The errors that a script comes to only after it has printed its warnings.
const AFTER_WARNINGS: [&str; 2] = ["cannot override remote-as", "Can not configure local address"];

impl<'a> Findings<'a> {
    pub(crate) fn of(proposed: &Tree, world: &'a World<'a>) -> Self {
        let errors = rules::check(proposed, world.release.dialect());
        Self { world, errors, warnings: rules::warn(proposed) }
    }

    /// A script stops at its first error.
    pub(crate) fn verdict(&self, owner: &Owner) -> Verdict {
        let label = owner.label();
        let error = self.missing_port(owner).or_else(|| {
            let first = self.errors.iter().find(|violation| violation.script == label);
            first.map(|violation| violation.text.clone())
        });
        let silent = error.as_ref().is_some_and(|e| !AFTER_WARNINGS.iter().any(|late| e.contains(late)));
        let own = self.warnings.iter().filter(|w| !silent && w.script == label && !self.is_idle(w));
        Verdict { warnings: own.map(|w| wrap(&w.text)).collect(), error: error.map(|e| wrap(&e)) }
    }

    fn missing_port(&self, owner: &Owner) -> Option<String> {
        match owner.path.as_slice() {
            [interfaces, ethernet, port] if interfaces == "interfaces" && ethernet == "ethernet" => {
                (!self.world.ports.contains(port)).then(|| format!("Interface \"{port}\" does not exist!"))
            }
            _ => None,
        }
    }

    /// Rules know interfaces from the configuration only; a port that is there needs no warning.
    fn is_idle(&self, warning: &Violation) -> bool {
        warning.text.starts_with("Interface \"")
            && warning.text.split('"').nth(1).is_some_and(|name| self.world.ports.contains(name))
    }
}
