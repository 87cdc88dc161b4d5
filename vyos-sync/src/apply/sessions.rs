//! Which changes can reset a BGP session that should stay up. Only for those is the router asked for its sessions,
//! before and after. What FRR takes without a reset was seen on the real router; anything unknown counts as a reset.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::config::{Command, ConfigPath, Node, Tree};

/// Whether one of these commands can reset a session of a peer that is configured before and after.
pub(super) fn may_reset(before: &Tree, expected: &Tree, commands: &[Command]) -> bool {
    let trees = Trees { before, expected };
    let staying = &peers(before) & &peers(expected);
    !staying.is_empty() && commands.iter().any(|command| trees.resets(command.path(), &staying))
}

/// The peers that were up and that this configuration still wants up.
pub(super) fn expected_up(before: &BTreeSet<IpAddr>, expected: &Tree) -> BTreeSet<IpAddr> {
    before.iter().filter(|peer| is_wanted(**peer, expected)).copied().collect()
}

/// How a peer is named in the configuration: an address, a range, or an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Net(IpNet),
    Interface(String),
}

impl Peer {
    fn of(name: &str) -> Self {
        let address = name.parse::<IpAddr>().map(IpNet::from);
        let net = address.or_else(|_| name.parse());
        net.map_or_else(|_| Self::Interface(name.to_owned()), Self::Net)
    }

    /// Whether packets to it may leave by an interface with this address.
    fn is_beside(&self, address: &str) -> bool {
        match (self, address.parse::<IpNet>()) {
            (Self::Net(peer), Ok(own)) => own.contains(&peer.addr()) || peer.contains(&own.addr()),
            // An address by DHCP may be any.
            _ => true,
        }
    }
}

fn peers(tree: &Tree) -> BTreeSet<Peer> {
    let neighbors = tree.entries(&["protocols", "bgp", "neighbor"]);
    let up = neighbors.filter(|(_, node)| node.child("shutdown").is_none());
    let ranges = tree.entries(&["protocols", "bgp", "listen", "range"]);
    up.chain(ranges).map(|(name, _)| Peer::of(name)).collect()
}

/// The configuration before and after.
struct Trees<'a> {
    before: &'a Tree,
    expected: &'a Tree,
}

impl Trees<'_> {
    fn resets(&self, path: &ConfigPath, staying: &BTreeSet<Peer>) -> bool {
        let word = |n: usize| path.get(n).map_or("", String::as_str);
        match (word(0), word(1)) {
            ("policy" | "service", _) => false,
            ("interfaces", _) if path.name() == "description" => false,
            ("interfaces", _) => self.interface_resets(path, staying),
            ("protocols", "bfd") => !self.comes_or_goes(path, 4),
            ("protocols", "bgp") => match (word(2), word(3)) {
                ("neighbor", name) => staying.contains(&Peer::of(name)) && !is_gentle(path),
                ("peer-group", _) => !self.comes_or_goes(path, 4) && !is_gentle(path),
                ("listen", "range") => staying.contains(&Peer::of(word(4))),
                ("address-family", _) => !matches!(word(4), "network" | "maximum-paths"),
                ("parameters", "bestpath") => false,
                _ => true,
            },
            _ => true,
        }
    }

    /// A node that is only in one of the trees has no session that stays.
    fn comes_or_goes(&self, path: &ConfigPath, depth: usize) -> bool {
        path.len() >= depth && (!self.before.exists(&path[..depth]) || !self.expected.exists(&path[..depth]))
    }

    /// A new interface can only draw the packets to peers in its own subnets. Any edit of an old one may cut some.
    fn interface_resets(&self, path: &ConfigPath, staying: &BTreeSet<Peer>) -> bool {
        let depth = if path.get(3).is_some_and(|word| word == "vif") { 5 } else { 3 };
        let place = &path[..depth.min(path.len())];
        if self.before.exists(place) {
            return true;
        }
        let addresses = self.expected.at(place).and_then(|node| node.child("address")).and_then(Node::values);
        addresses.into_iter().flatten().any(|address| staying.iter().any(|peer| peer.is_beside(address)))
    }
}

/// Whether FRR takes a change of this setting of a neighbor or peer-group without a reset.
fn is_gentle(path: &ConfigPath) -> bool {
    let word = |n: usize| path.get(n).map_or("", String::as_str);
    match word(4) {
        "description" | "timers" | "bfd" => true,
        "address-family" => matches!(word(6), "route-map" | "prefix-list" | "soft-reconfiguration"),
        _ => false,
    }
}

fn is_wanted(peer: IpAddr, tree: &Tree) -> bool {
    let neighbor = tree.entries(&["protocols", "bgp", "neighbor"]).find(|(name, _)| {
        // Spellings of IPv6 differ.
        name.parse::<IpAddr>().is_ok_and(|address| address == peer)
    });
    match neighbor {
        Some((_, node)) => node.child("shutdown").is_none(),
        None => tree
            .entries(&["protocols", "bgp", "listen", "range"])
            .any(|(range, _)| range.parse::<IpNet>().is_ok_and(|net| net.contains(&peer))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Untyped, diff, parse};

    const BASE: &str = "
        interfaces { ethernet eth1 { vif 10 { address 10.0.0.254/24 } } }
        protocols { bgp { system-as 64512
            neighbor 10.0.0.1 { remote-as 65001
                description one
                address-family { ipv4-unicast { maximum-prefix 10 } } } } }";

    fn tree(text: &str) -> Tree {
        parse::boot(text).unwrap().tree
    }

    fn resets(before: &str, after: &str) -> bool {
        let (before, after) = (tree(before), tree(after));
        may_reset(&before, &after, &diff(&before, &after, &Untyped))
    }

    fn edited(from: &str, to: &str) -> bool {
        assert!(BASE.contains(from));
        resets(BASE, &BASE.replace(from, to))
    }

    #[test]
    fn another_peer_and_gentle_settings_leave_sessions_alone() {
        let more = "system-as 64512\n neighbor 10.0.0.2 { remote-as 65001 }";
        assert!(!edited("system-as 64512", more));
        assert!(!resets(&BASE.replace("system-as 64512", more), BASE));
        assert!(!edited("description one", "description two"));
        assert!(!edited("maximum-prefix 10", "maximum-prefix 10\n route-map { import A }"));
        assert!(!edited("vif 10 {", "vif 20 { address 10.1.0.1/24 }\n vif 10 { description x\n"));
        // Inside the wider subnet, but the peer is not in its own.
        assert!(!edited("vif 10 {", "vif 20 { address 10.0.0.4/30 }\n vif 10 {"));
    }

    #[test]
    fn what_may_cut_a_peer_is_seen() {
        assert!(edited("remote-as 65001", "remote-as 65002"));
        assert!(edited("remote-as 65001", "password x\n remote-as 65001"));
        assert!(edited("maximum-prefix 10", "maximum-prefix 1"));
        assert!(edited("system-as 64512", "system-as 64513"));
        assert!(edited("10.0.0.254/24", "10.0.0.253/24"));
        assert!(edited("vif 10 {", "vif 20 { address 10.0.0.2/30 }\n vif 10 {"));
        assert!(edited("protocols {", "nat { source { rule 5 { exclude } } }\n protocols {"));
    }

    #[test]
    fn without_a_peer_that_stays_nothing_can_be_reset() {
        let without = "interfaces { ethernet eth1 { vif 10 { address 10.0.0.254/24 } } }";
        assert!(!resets(BASE, without) && !resets(without, BASE));
        assert!(!edited("remote-as 65001", "remote-as 65002\n shutdown"));
    }

    #[test]
    fn removed_and_shut_peers_need_not_stay_up() {
        let before =
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.0.1", "fd00::1"].map(|a| a.parse().unwrap()).into();
        let after = tree(
            "protocols { bgp { neighbor 10.0.0.1 { remote-as 1 }
                neighbor 10.0.0.2 { shutdown }
                listen { range 10.9.0.0/24 { peer-group G } }
                neighbor fd00:0:0::1 { remote-as 1 } } }",
        );
        let wanted = expected_up(&before, &after);
        assert_eq!(wanted, ["10.0.0.1", "10.9.0.1", "fd00::1"].map(|a| a.parse().unwrap()).into());
    }
}
