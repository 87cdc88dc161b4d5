//! A commit: every changed subtree goes to its script; those that pass are live, whatever becomes of the others.

use vyos_sync::config::{ConfigPath, Tree};

use crate::check::{Findings, Verdict, World};
use crate::owner::{self, Owner};
use crate::plant::Failure;
use crate::release::Release;

/// What a commit came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// What runs from now on.
    pub(crate) live: Tree,
    /// What the router printed: warnings, or why it failed.
    pub(crate) text: String,
    /// Whether any script failed.
    pub(crate) failed: bool,
}

/// Commits `proposed` over `running`. `sabotage` makes the last script fail whatever it is given.
pub(crate) fn commit(
    running: &Tree,
    proposed: &Tree,
    world: &World<'_>,
    sabotage: Option<Sabotage>,
) -> Outcome {
    let owners = owner::changed(running, proposed);
    let last = sabotage.and(owners.last().cloned());
    let findings = Findings::of(proposed, world);
    let (mut live, mut text, mut failed) = (running.clone(), String::new(), false);
    for owner in &owners {
        let mut verdict = findings.verdict(owner);
        if Some(owner) == last.as_ref() {
            verdict = Verdict::failed("Commit script failed for an unknown reason");
        }
        text.push_str(&printed(owner, &verdict, world.release));
        match verdict.error {
            Some(_) => failed = true,
            None => copy(proposed, &mut live, &owner.path),
        }
    }
    if failed {
        text.push_str("Commit failed\n");
    } else {
        live = proposed.clone();
    }
    Outcome { live, text, failed }
}

impl Outcome {
    /// The same, with the subtrees that could not be programmed as they were before.
    pub(crate) fn without(mut self, before: &Tree, refused: &[Failure], release: Release) -> Self {
        self.text = self.text.trim_end_matches("Commit failed\n").to_owned();
        for failure in refused {
            let owner = Owner::of(&failure.owner.split(' ').map(str::to_owned).collect::<Vec<_>>());
            self.text.push_str(&printed(&owner, &Verdict::failed(&failure.text), release));
            copy(before, &mut self.live, &owner.path);
        }
        self.text.push_str("Commit failed\n");
        self.failed = true;
        self
    }
}

/// Lets the last script of a commit fail although its content is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sabotage;

/// 1.4 loses all that a script prints, but for the line that says it failed.
fn printed(owner: &Owner, verdict: &Verdict, release: Release) -> String {
    let label = owner.label();
    let warnings: String = verdict.warnings.iter().map(|w| format!("\nWARNING: {w}\n\n")).collect();
    match (release, &verdict.error) {
        (Release::V1_4, None) => String::new(),
        (Release::V1_4, Some(_)) => format!("[[{label}]] failed\n"),
        (Release::V1_5, None) if warnings.is_empty() => String::new(),
        (Release::V1_5, None) => format!("[ {label} ]\n{warnings}\n"),
        (Release::V1_5, Some(error)) => format!("[ {label} ]\n{warnings}{error}\n[[{label}]] failed\n"),
    }
}

fn copy(from: &Tree, to: &mut Tree, words: &[String]) {
    let Ok(path) = ConfigPath::try_from(words.to_vec()) else { return };
    match from.at(words) {
        Some(node) => {
            // The owners' paths end at branches in both trees.
            let _ = to.put(&path, node.clone());
        }
        None => remove_with_parents(from, to, &path),
    }
}

fn remove_with_parents(from: &Tree, to: &mut Tree, path: &ConfigPath) {
    to.remove(path);
    let mut above = path.parent();
    while let Some(parent) = above {
        let left_over = to.at(&parent).is_some_and(|node| node.is_bare()) && from.at(&parent).is_none();
        if left_over {
            to.remove(&parent);
        }
        above = parent.parent();
    }
}
