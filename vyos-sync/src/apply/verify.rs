//! Is the router what the change was meant to make it? Pure comparisons.

use std::collections::BTreeSet;

use crate::config::{Command, ConfigPath, Kind, Kinds, Tree, diff};

/// Where the running tree is not the expected one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Inside what the change touched: the change is not what it was meant to be.
    pub ours: BTreeSet<ConfigPath>,
    /// Elsewhere: somebody else edited meanwhile.
    pub foreign: BTreeSet<ConfigPath>,
}

/// Compares what should be with what is, apart from empty nodes, which the router keeps or drops as it likes.
pub fn differences(expected: &Tree, running: &Tree, touched: &Touched, kinds: &impl Kinds) -> Differences {
    let mut found = Differences::default();
    for command in diff(expected, running, kinds) {
        if is_only_a_shell(&command, expected, running, kinds) {
            continue;
        }
        let place = match touched.overlaps(command.path()) {
            true => &mut found.ours,
            false => &mut found.foreign,
        };
        place.insert(command.path().clone());
    }
    found
}

fn is_only_a_shell(command: &Command, expected: &Tree, running: &Tree, kinds: &impl Kinds) -> bool {
    let node = running.at(command.path()).or_else(|| expected.at(command.path()));
    let counts = matches!(kinds.kind(command.path()), Some(Kind::Flag | Kind::Instance));
    command.value().is_none() && !counts && node.is_some_and(is_hollow)
}

/// Nothing but branches all the way down.
fn is_hollow(node: &crate::config::Node) -> bool {
    node.children().is_some_and(|children| children.values().all(is_hollow))
}

/// The places that a list of commands touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched(BTreeSet<ConfigPath>);

impl Touched {
    /// The paths of these commands.
    pub fn by(commands: &[Command]) -> Self {
        Self(commands.iter().map(|c| c.path().clone()).collect())
    }

    /// Whether the path lies in, or above, a touched place.
    pub fn overlaps(&self, path: &ConfigPath) -> bool {
        let inside = (1..=path.len()).any(|n| self.0.contains(&path[..n]));
        // Paths below `path` sort right after it.
        let above = || {
            let next = self.0.range::<ConfigPath, _>(path.clone()..).next();
            next.is_some_and(|p| p.is_within(path))
        };
        inside || above()
    }
}

/// The commands that bring the touched places back to what they were, whatever is there now.
pub(super) fn inverse(running: &Tree, before: &Tree, touched: &Touched, kinds: &impl Kinds) -> Vec<Command> {
    diff(running, before, kinds).into_iter().filter(|c| touched.overlaps(c.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Untyped;

    fn tree(lines: &str) -> Tree {
        let mut tree = Tree::new();
        for line in lines.lines() {
            match line.rsplit_once(' ') {
                Some((path, "-")) => tree.set_flag(&path.parse().unwrap()).unwrap(),
                Some((path, value)) => tree.add(&path.parse().unwrap(), value).unwrap(),
                None => panic!("no value"),
            }
        }
        tree
    }

    fn commands(from: &str, to: &str) -> Vec<Command> {
        diff(&tree(from), &tree(to), &Untyped)
    }

    const BEFORE: &str = "protocols bgp neighbor 10.0.0.1 remote-as 65001\nsystem host-name gw";
    const AFTER: &str = "protocols bgp neighbor 10.0.0.1 remote-as 65001\n\
                         protocols bgp neighbor 10.0.0.2 remote-as 65001\nsystem host-name gw";

    #[test]
    fn ours_and_foreign_are_told_apart() {
        let touched = Touched::by(&commands(BEFORE, AFTER));
        let same = differences(&tree(AFTER), &tree(AFTER), &touched, &Untyped);
        assert_eq!(same, Differences::default());
        let partly = differences(&tree(AFTER), &tree(BEFORE), &touched, &Untyped);
        assert_eq!(partly.ours.len(), 1);
        assert!(partly.foreign.is_empty());
        let edited = differences(&tree(AFTER), &tree(&AFTER.replace("gw", "other")), &touched, &Untyped);
        assert!(edited.ours.is_empty());
        assert_eq!(edited.foreign.len(), 1);
    }

    #[test]
    fn hollow_nodes_do_not_count() {
        let touched = Touched::by(&commands(BEFORE, ""));
        let left = tree("system host-name gw\nprotocols bgp neighbor -");
        let found = differences(&tree("system host-name gw"), &left, &touched, &Untyped);
        assert_eq!(found, Differences::default());
    }

    #[test]
    fn the_inverse_leaves_foreign_edits_alone() {
        let touched = Touched::by(&commands(BEFORE, AFTER));
        let now = tree(&AFTER.replace("gw", "other"));
        let undo = inverse(&now, &tree(BEFORE), &touched, &Untyped);
        let text: Vec<String> = undo.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["delete protocols bgp neighbor 10.0.0.2"]);
    }
}
