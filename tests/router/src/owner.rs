//! Which commit script owns which subtree, and in which order the scripts run.

use std::collections::BTreeSet;

use vyos_sync::config::Tree;

/// One script's subtree: ordered by priority, then by path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// The order in a commit, low first; deletions run high first.
    pub(crate) priority: u16,
    /// The path of its subtree.
    pub(crate) path: Vec<String>,
}

/// Path patterns (`*` is one instance) with the priorities of the real scripts.
const OWNERS: [(u16, &str); 24] = [
    (11, "vrf"),
    (200, "policy"),
    (220, "nat"),
    (300, "interfaces loopback *"),
    (300, "interfaces dummy *"),
    (310, "interfaces bridge *"),
    (318, "interfaces ethernet *"),
    (319, "interfaces bonding *"),
    (450, "protocols static"),
    (489, "firewall"),
    (500, "nat66"),
    (640, "system static-host-mapping"),
    (800, "high-availability"),
    (820, "protocols bgp"),
    (820, "protocols bfd"),
    (900, "service router-advert"),
    (910, "service dhcp-relay"),
    (911, "service dhcp-server"),
    (911, "service dhcpv6-server"),
    (915, "service dhcpv6-relay"),
    (918, "service dns forwarding"),
    (1001, "service https"),
    (400, "system *"),
    (950, "service *"),
];

impl Owner {
    /// The owner of the node at this path.
    pub(crate) fn of(path: &[String]) -> Self {
        let known = OWNERS.iter().find(|(_, pattern)| matches(pattern, path));
        let (priority, length) = known
            .map_or((999, path.len().min(2)), |(priority, pattern)| (*priority, pattern.split(' ').count()));
        Self { priority, path: path[..length].to_vec() }
    }

    /// `service dhcp-server`, as the router prints it.
    pub(crate) fn label(&self) -> String {
        self.path.join(" ")
    }
}

/// The owners whose subtrees differ, in the order in which their scripts run.
pub(crate) fn changed(running: &Tree, proposed: &Tree) -> Vec<Owner> {
    let leaves = running.leaves().into_iter().chain(proposed.leaves());
    let all: BTreeSet<Owner> = leaves.map(|leaf| Owner::of(&leaf.path)).collect();
    let differ = all.into_iter().filter(|owner| running.at(&owner.path) != proposed.at(&owner.path));
    let (gone, stays): (Vec<_>, Vec<_>) = differ.partition(|owner| proposed.at(&owner.path).is_none());
    gone.into_iter().rev().chain(stays).collect()
}

fn matches(pattern: &str, path: &[String]) -> bool {
    let mut words = path.iter();
    pattern.split(' ').all(|want| words.next().is_some_and(|word| want == "*" || want == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lines: &[&str]) -> Tree {
        let mut tree = Tree::new();
        lines.iter().for_each(|line| tree.set_flag(&line.parse().unwrap()).unwrap());
        tree
    }

    #[test]
    fn scripts_run_by_priority_and_deletions_first_in_reverse() {
        let running = tree(&["nat source rule 1", "protocols bgp neighbor a"]);
        let proposed =
            tree(&["interfaces ethernet eth1 vif 2", "policy prefix-list p", "service dhcp-server x"]);
        let labels: Vec<_> = changed(&running, &proposed).iter().map(Owner::label).collect();
        let wanted = ["protocols bgp", "nat", "policy", "interfaces ethernet eth1", "service dhcp-server"];
        assert_eq!(labels, wanted);
    }
}
