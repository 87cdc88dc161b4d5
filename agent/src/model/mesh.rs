//! The mesh of probes: every node asks a few others, so that each is asked by a few, however many there are.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::address::IfIndex;
use super::cluster::{Cluster, Node, NodesKnown};
use super::link::{Link, LinkKind};
use super::probe::{Probe, Target};
use super::route::Route;

/// How many other nodes a node asks.
pub const SAMPLE: usize = 8;

/// Another node that is asked, at one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Peer {
    /// The node's name.
    pub node: String,
    /// An address of its own.
    pub address: IpAddr,
}

/// What asking another node has shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerProbe {
    /// The node's name.
    pub node: String,
    /// Through which interface of this one.
    pub interface: IfIndex,
    /// At which address.
    pub address: IpAddr,
    /// ICMP or ICMPv6 echo.
    pub echo: Probe,
    /// The largest packet in octets, IP header included, that got an answer with fragmentation forbidden; `None` until known.
    pub path_mtu: Option<u32>,
}

/// The names of the nodes that `own` asks, at most [`SAMPLE`]. A node that comes or goes changes little: the others keep their
/// rank (rendezvous hashing: Thaler, Ravishankar 1998).
pub fn sample<'a>(own: &str, nodes: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let rank = |node: &str| {
        let mut hasher = DefaultHasher::new();
        (own, node).hash(&mut hasher);
        hasher.finish()
    };
    let mut others: Vec<&str> = nodes.into_iter().filter(|node| *node != own).collect();
    others.sort_by_cached_key(|node| (rank(node), *node));
    others.dedup();
    others.truncate(SAMPLE);
    others
}

/// A node as peers: its first address of each family. What a Node must not have (multicast, loopback, an address without its link)
/// is never asked, whoever wrote it there.
pub fn peers_of(node: &Node) -> Vec<Peer> {
    let first =
        |v4: bool| node.addresses.iter().find(|address| address.is_ipv4() == v4 && is_ones(**address));
    let addresses = [first(true), first(false)].into_iter().flatten();
    addresses.map(|address| Peer { node: node.name.clone(), address: *address }).collect()
}

/// Whether an address can be that of one node, and needs no interface to tell it from others.
fn is_ones(address: IpAddr) -> bool {
    let bound = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(bound || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

/// The peers that a folder of manifests shows: none where it does not tell of other nodes.
pub fn peers_in(own: &str, cluster: &Cluster) -> Vec<Peer> {
    if cluster.nodes_known != NodesKnown::All {
        return Vec::new();
    }
    let chosen = sample(own, cluster.nodes.iter().map(|node| node.name.as_str()));
    let nodes = cluster.nodes.iter().filter(|node| chosen.contains(&node.name.as_str()));
    nodes.flat_map(peers_of).collect()
}

/// Who is asked where: each peer through the interface that the routes name. A peer without a route is left out.
pub fn targets(peers: &[Peer], links: &BTreeMap<IfIndex, Link>, routes: &[Route]) -> Vec<(Target, String)> {
    let targets = peers.iter().filter_map(|peer| {
        let link = way(peer.address, links, routes)?;
        let target = Target {
            interface: link.index,
            mac: link.mac,
            link_mtu: link.mtu,
            gateway: peer.address,
            neighbour: false,
        };
        Some((target, peer.node.clone()))
    });
    targets.collect()
}

/// The link of the route that is most to the point.
fn way<'a>(address: IpAddr, links: &'a BTreeMap<IfIndex, Link>, routes: &[Route]) -> Option<&'a Link> {
    let to_the_point = |route: &&Route| (route.destination.prefix_len(), std::cmp::Reverse(route.metric));
    let takes = |destination: &IpNet| destination.contains(&address);
    let route = routes.iter().filter(|route| takes(&route.destination)).max_by_key(to_the_point)?;
    let mut links = route.hops.iter().filter_map(|hop| links.get(&hop.interface));
    links.find(|link| link.admin_up && link.kind != LinkKind::Loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("node-{n}")).collect()
    }

    fn of<'a>(own: &str, all: &'a [String]) -> Vec<&'a str> {
        sample(own, all.iter().map(String::as_str))
    }

    #[test]
    fn few_nodes_all_ask_each_other_and_nobody_asks_itself() {
        let all = names(4);
        for own in &all {
            let mut asked = of(own, &all);
            asked.sort_unstable();
            assert_eq!(asked, all.iter().filter(|node| *node != own).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_many_nodes_each_is_asked_by_a_few() {
        let all = names(500);
        let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
        for own in &all {
            of(own, &all).into_iter().for_each(|node| *asked.entry(node).or_default() += 1);
        }
        assert_eq!(asked.values().sum::<usize>(), 500 * SAMPLE);
        let most = asked.values().max().copied();
        assert!(most < Some(4 * SAMPLE), "one is asked by {most:?}");
        assert!(asked.len() > 490, "only {} are asked at all", asked.len());
    }

    #[test]
    fn a_node_that_goes_changes_one_place_at_most() {
        let all = names(100);
        let before = of("node-0", &all);
        let gone = before[3];
        let rest: Vec<String> = all.iter().filter(|node| *node != gone).cloned().collect();
        let after = of("node-0", &rest);
        let kept = before.iter().filter(|node| after.contains(node)).count();
        assert_eq!((kept, after.len()), (SAMPLE - 1, SAMPLE));
    }

    #[test]
    fn a_node_is_asked_at_one_address_of_each_family() {
        let bad = [
            "224.0.0.1",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "169.254.1.1",
            "fe80::1",
            "ff02::1",
            "::1",
        ];
        let addresses = bad
            .into_iter()
            .chain(["10.0.0.2", "10.0.0.3", "fd00::2"])
            .map(|text| text.parse().unwrap())
            .collect();
        let node = Node { name: "b".into(), addresses, labels: Default::default() };
        let all: Vec<String> = peers_of(&node).iter().map(|peer| peer.address.to_string()).collect();
        assert_eq!(all, ["10.0.0.2", "fd00::2"]);
        let cluster = Cluster { nodes: vec![node], nodes_known: NodesKnown::Own, ..Cluster::default() };
        assert_eq!(peers_in("a", &cluster), [], "of others nothing is known");
        let cluster = Cluster { nodes_known: NodesKnown::All, ..cluster };
        assert_eq!((peers_in("a", &cluster).len(), peers_in("b", &cluster).len()), (2, 0));
    }
}
