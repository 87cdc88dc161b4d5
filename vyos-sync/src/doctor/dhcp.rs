//! Segments with two DHCP answers: one from the router's server, one through its relay. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Contradiction, say};
use crate::config::{Node, Tree};

/// The server and the relay of each family.
const FAMILIES: [(&str, &str); 2] = [("dhcp-server", "dhcp-relay"), ("dhcpv6-server", "dhcpv6-relay")];
/// Where a relay listens; the second is how 1.3 and 1.4 have it.
const LISTENS: [&str; 2] = ["listen-interface", "interface"];

/// Where the router, as it is or as the objects want it, serves a subnet and relays the requests of the same segment.
pub(super) fn answered_twice(running: &Tree, desired: &Tree) -> Vec<Contradiction> {
    let sides = [("the router", running), ("the objects", desired)];
    let mut segments: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
    for (name, nets) in sides.iter().flat_map(|(_, tree)| interfaces(tree)) {
        segments.entry(name).or_default().extend(nets);
    }
    let mut found = Vec::new();
    for (server, relay) in FAMILIES {
        let served: Vec<(&str, IpNet)> = each(&sides, |tree| subnets(tree, server)).collect();
        for (by, interface) in each(&sides, |tree| relayed(tree, relay)) {
            let nets: Vec<&IpNet> = segments.get(&interface).into_iter().flatten().collect();
            for (server_by, subnet) in served.iter().filter(|(_, subnet)| nets.contains(&subnet)) {
                let place = format!("service {relay} {interface}");
                found.push(say(
                    place,
                    format!("relayed by {by}, and {subnet} served by {server_by}: keep one of them"),
                ));
            }
        }
    }
    found
}

fn each<'a, T, I>(
    sides: &'a [(&'static str, &'a Tree)],
    of: impl Fn(&'a Tree) -> I + 'a,
) -> impl Iterator<Item = (&'static str, T)> + 'a
where
    I: IntoIterator<Item = T>,
    T: 'a,
    I::IntoIter: 'a,
{
    sides.iter().flat_map(move |(side, tree)| of(tree).into_iter().map(move |value| (*side, value)))
}

/// The networks of every interface and VLAN.
fn interfaces(tree: &Tree) -> Vec<(String, BTreeSet<IpNet>)> {
    let nets = |node: &Node| -> BTreeSet<IpNet> {
        let values = node.child("address").and_then(Node::values).into_iter().flatten();
        values.filter_map(|address| address.parse::<IpNet>().ok()).map(|net| net.trunc()).collect()
    };
    let mut all = Vec::new();
    for kind in ["ethernet", "bonding", "bridge"] {
        for (name, node) in tree.entries(&["interfaces", kind]) {
            all.push((name.clone(), nets(node)));
            let vlans = node.child("vif").and_then(Node::children).into_iter().flatten();
            all.extend(vlans.map(|(id, vlan)| (format!("{name}.{id}"), nets(vlan))));
        }
    }
    all
}

fn subnets(tree: &Tree, server: &str) -> Vec<IpNet> {
    let path = ["service", server, "shared-network-name"];
    let networks = tree.entries(&path);
    let on = networks.filter(|(_, network)| network.child("disable").is_none());
    let subnets =
        on.flat_map(|(_, network)| network.child("subnet").and_then(Node::children).into_iter().flatten());
    subnets.filter_map(|(subnet, _)| subnet.parse::<IpNet>().ok()).collect()
}

/// Values in the relay of IPv4, tag nodes in that of IPv6.
fn relayed(tree: &Tree, relay: &str) -> BTreeSet<String> {
    let Some(relay) = tree.at(&["service", relay]).filter(|relay| relay.child("disable").is_none()) else {
        return BTreeSet::new();
    };
    let listens = LISTENS.iter().filter_map(|word| relay.child(word));
    let names = listens.flat_map(|node| {
        let tags = node.children().into_iter().flat_map(|children| children.keys());
        node.values().into_iter().flatten().chain(tags)
    });
    names.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line a path and, behind `=`, a value.
    fn tree(lines: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for line in lines {
            match line.split_once(" = ") {
                Some((path, value)) => tree.add(&path.parse().unwrap(), value).unwrap(),
                None => tree.set_flag(&line.parse().unwrap()).unwrap(),
            }
        }
        tree
    }

    const PORTS: [&str; 2] = [
        "interfaces ethernet eth1 vif 40 address = 10.10.40.1/24",
        "interfaces ethernet eth1 vif 50 address = 10.10.50.1/24",
    ];

    fn served() -> Tree {
        tree(&["service dhcp-server shared-network-name nodes subnet 10.10.40.0/24 lease = 86400"])
    }

    #[test]
    fn a_relay_by_hand_beside_our_server_is_named() {
        let relay = |line: &str| tree(&[PORTS[0], PORTS[1], line]);
        let elsewhere = relay("service dhcp-relay listen-interface = eth1.50");
        assert_eq!(answered_twice(&elsewhere, &served()), Vec::new());
        for word in LISTENS {
            let found = answered_twice(&relay(&format!("service dhcp-relay {word} = eth1.40")), &served());
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].place, "service dhcp-relay eth1.40");
            assert_eq!(
                found[0].what,
                "relayed by the router, and 10.10.40.0/24 served by the objects: keep one of them"
            );
        }
    }

    #[test]
    fn what_is_disabled_answers_nobody() {
        let relay = "service dhcp-relay listen-interface = eth1.40";
        let off = tree(&[PORTS[0], relay, "service dhcp-relay disable"]);
        assert_eq!(answered_twice(&off, &served()), Vec::new());
    }
}
