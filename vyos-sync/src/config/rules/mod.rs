//! What the router's own scripts check when a configuration is committed.
//!
//! A schema judges statements one by one; these rules judge them together. Texts are the router's own where they are
//! known, before it breaks them into lines ([`wrap`]).

mod bgp;
mod dhcp;
mod interfaces;
mod nat;
mod policy;
mod services;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ConfigPath, Dialect, Node, Tree};

/// A rule that a configuration breaks: committing it fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Violation {
    /// The script that says so, as in `[[protocols bgp]] failed`.
    pub script: String,
    /// Where.
    pub path: ConfigPath,
    /// What the script says.
    pub text: String,
    /// What is missing or in the way, where it is another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<ConfigPath>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} (at `{}`)", self.script, self.text, self.path)
    }
}

/// Every rule that this configuration breaks, in the order of the scripts and of their checks.
pub fn check(tree: &Tree, dialect: Dialect) -> Vec<Violation> {
    let addresses = interfaces::Addresses::of(tree);
    let mut found = Found::default();
    policy::check(tree, &mut found);
    nat::check(tree, dialect, &mut found);
    interfaces::check(tree, &mut found);
    bgp::check(tree, &addresses, &mut found);
    dhcp::check(tree, dialect, &addresses, &mut found);
    services::check(tree, &mut found);
    found.0
}

/// What the scripts warn of without failing.
pub fn warn(tree: &Tree) -> Vec<Violation> {
    let mut found = Found::default();
    nat::warn(tree, &interfaces::Addresses::of(tree), &mut found);
    bgp::warn(tree, &mut found);
    found.0
}

/// Breaks a text into lines of at most 72 characters, at blanks and after hyphens, as the scripts print it.
pub fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut gap = " ";
        for piece in word.split_inclusive('-') {
            let Some(line) = lines.last_mut() else { continue };
            let blank = std::mem::take(&mut gap);
            let gap = if line.is_empty() { "" } else { blank };
            if line.len() + gap.len() + piece.len() <= 72 || line.is_empty() {
                line.push_str(gap);
                line.push_str(piece);
            } else {
                lines.push(piece.to_owned());
            }
        }
    }
    lines.join("\n")
}

#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, script: &str, path: ConfigPath, text: impl Into<String>) {
        self.0.push(Violation { script: script.to_owned(), path, text: text.into(), about: None });
    }

    fn about(&mut self, script: &str, path: ConfigPath, text: impl Into<String>, about: ConfigPath) {
        self.0.push(Violation { script: script.to_owned(), path, text: text.into(), about: Some(about) });
    }
}

/// A path from words known here.
fn at<const N: usize>(words: [&str; N]) -> ConfigPath {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    ConfigPath::from_walk(&words)
}

/// The instances of a tag node below this one.
fn instances<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    node.child(tag).and_then(Node::children).into_iter().flatten().map(|(name, node)| (name.as_str(), node))
}

#[cfg(test)]
mod tests;
