//! Which links join this node to the outside: those that the agent watches unless it is told which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::address::IfIndex;
use super::link::{Link, LinkKind};
use super::route::Route;

/// The uplinks of a node, in the order of their indices. The rule, also in `docs/uplinks.md`:
///
/// - a link that carries a default route of either family is one;
/// - a link that is up, carries a route to a network beyond the node itself and stands on hardware is one: a physical
///   device, a bond or bridge with a physical port, or a VLAN sub-interface of any of these;
/// - so is every device below one, such as the bond below its VLAN sub-interface;
/// - never the loopback device, nor a device that the container network owns, nor a port of a bond or bridge.
pub fn uplinks<'a>(links: impl IntoIterator<Item = &'a Link>, routes: &[Route]) -> Vec<IfIndex> {
    let links: BTreeMap<IfIndex, &Link> = links.into_iter().map(|link| (link.index, link)).collect();
    let hardware = on_hardware(&links);
    let mut found = BTreeSet::new();
    for route in routes.iter().filter(|route| leads_outside(&route.destination)) {
        for hop in &route.hops {
            let Some(link) = links.get(&hop.interface).filter(|link| is_eligible(link)) else { continue };
            if route.is_default() || (link.is_up() && hardware.contains(&link.index)) {
                found.extend(with_those_below(link, &links));
            }
        }
    }
    found.into_iter().collect()
}

/// Names that Cilium and Calico give to the devices that they own. The peers of pods under other container networks are
/// called `veth...`; they need no rule, for they stand on no hardware and carry no default route, while the one veth of
/// a container that plays a node carries it.
const CONTAINER_NETWORK: [&str; 4] = ["lxc", "cilium_", "cali", "vxlan.calico"];

fn is_eligible(link: &Link) -> bool {
    let owned = CONTAINER_NETWORK.iter().any(|prefix| link.name.starts_with(prefix));
    link.kind != LinkKind::Loopback && link.master.is_none() && !owned
}

/// Whether a route leads to another node, by its destination alone: not to loopback, link-local or multicast addresses,
/// and not to a single address, which is how routes to pods look.
fn leads_outside(destination: &IpNet) -> bool {
    let single = destination.prefix_len() == destination.max_prefix_len();
    let inside = match destination.addr() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_multicast(),
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST || v6.is_unicast_link_local() || v6.is_multicast(),
    };
    destination.prefix_len() == 0 || !(single || inside)
}

/// Physical devices, and what has one among its ports or below it.
fn on_hardware(links: &BTreeMap<IfIndex, &Link>) -> BTreeSet<IfIndex> {
    let physical = links.values().filter(|link| link.kind == LinkKind::Physical);
    let mut found: BTreeSet<IfIndex> = physical.map(|link| link.index).collect();
    loop {
        let carried = |index: Option<IfIndex>| index.is_some_and(|index| found.contains(&index));
        let masters =
            links.values().filter(|link| found.contains(&link.index)).filter_map(|link| link.master);
        let vlans =
            links.values().filter(|link| matches!(link.kind, LinkKind::Vlan(_)) && carried(link.parent));
        let more: Vec<IfIndex> =
            masters.chain(vlans.map(|link| link.index)).filter(|index| !found.contains(index)).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A link and the devices below it, down to a port: its master is below nothing that carries routes.
fn with_those_below(link: &Link, links: &BTreeMap<IfIndex, &Link>) -> BTreeSet<IfIndex> {
    let mut found = BTreeSet::from([link.index]);
    let mut at = link;
    while let Some(below) = at.parent.and_then(|parent| links.get(&parent)) {
        if !matches!(at.kind, LinkKind::Vlan(_)) || !is_eligible(below) || !found.insert(below.index) {
            break;
        }
        at = below;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::link::{LinkCounters, OperState};
    use crate::model::route::Hop;

    fn index(index: u32) -> IfIndex {
        IfIndex::try_from(index).unwrap()
    }

    fn link(number: u32, name: &str, kind: LinkKind) -> Link {
        Link {
            index: index(number),
            name: name.into(),
            kind,
            state: OperState::Up,
            admin_up: true,
            carrier: true,
            mac: None,
            mtu: 1500,
            speed: None,
            master: None,
            parent: None,
            queue_length: 0,
            counters: LinkCounters::default(),
            flaps: 0,
            changed: None,
        }
    }

    fn port(of: u32, link: Link) -> Link {
        Link { master: Some(index(of)), ..link }
    }

    fn vlan(number: u32, name: &str, below: u32) -> Link {
        Link { parent: Some(index(below)), ..link(number, name, LinkKind::Vlan(50)) }
    }

    fn down(link: Link) -> Link {
        Link { carrier: false, state: OperState::Down, ..link }
    }

    fn route(destination: &str, interfaces: &[u32]) -> Route {
        let hop = |number: &u32| Hop { gateway: None, interface: index(*number), weight: 1 };
        let hops = interfaces.iter().map(hop).collect();
        Route { destination: destination.parse().unwrap(), hops, metric: 0, protocol: 2 }
    }

    fn names(links: &[Link], routes: &[Route]) -> Vec<String> {
        let found = uplinks(links, routes);
        links.iter().filter(|link| found.contains(&link.index)).map(|link| link.name.clone()).collect()
    }

    /// What it is, the links, the routes, and the names of the uplinks.
    type Case = (&'static str, Vec<Link>, Vec<Route>, &'static [&'static str]);

    #[test]
    fn the_rule_by_cases() {
        use LinkKind::{Bond, Bridge, Loopback, Physical, Veth};
        let other = |kind: &str| LinkKind::Other(kind.into());
        let bond = || {
            vec![
                port(4, link(2, "eth0", Physical)),
                port(4, link(3, "eth1", Physical)),
                link(4, "bond0", Bond),
            ]
        };
        let with = |mut links: Vec<Link>, more: Vec<Link>| {
            links.extend(more);
            links
        };
        let cases: Vec<Case> = vec![
            (
                "plain",
                vec![link(1, "lo", Loopback), link(2, "eth0", Physical)],
                vec![route("0.0.0.0/0", &[2])],
                &["eth0"],
            ),
            ("IPv6 only", vec![link(2, "eth0", Physical)], vec![route("::/0", &[2])], &["eth0"]),
            ("default by loopback", vec![link(1, "lo", Loopback)], vec![route("::/0", &[1])], &[]),
            (
                "ECMP",
                vec![link(2, "a", Physical), link(3, "b", Physical)],
                vec![route("0.0.0.0/0", &[2, 3])],
                &["a", "b"],
            ),
            (
                "storage network",
                vec![link(2, "eth0", Physical)],
                vec![route("10.10.60.0/24", &[2])],
                &["eth0"],
            ),
            ("no carrier", vec![down(link(2, "eth0", Physical))], vec![route("10.10.60.0/24", &[2])], &[]),
            (
                "default without carrier",
                vec![down(link(2, "eth0", Physical))],
                vec![route("0.0.0.0/0", &[2])],
                &["eth0"],
            ),
            ("link-local only", vec![link(2, "eth0", Physical)], vec![route("fe80::/64", &[2])], &[]),
            ("no route", vec![link(2, "eth0", Physical)], vec![], &[]),
            ("bond", bond(), vec![route("0.0.0.0/0", &[4])], &["bond0"]),
            (
                "VLANs on a bond",
                with(bond(), vec![vlan(5, "bond0.10", 4), vlan(6, "bond0.60", 4), vlan(7, "bond0.70", 4)]),
                vec![route("0.0.0.0/0", &[5]), route("10.10.60.0/24", &[6])],
                &["bond0", "bond0.10", "bond0.60"],
            ),
            (
                "bridge on a bond",
                with(
                    bond()
                        .into_iter()
                        .map(|link| if link.name == "bond0" { port(8, link) } else { link })
                        .collect(),
                    vec![link(8, "mgmt-br", Bridge)],
                ),
                vec![route("0.0.0.0/0", &[8]), route("10.0.0.0/24", &[8])],
                &["mgmt-br"],
            ),
            ("storage bond without default", bond(), vec![route("10.10.60.0/24", &[4])], &["bond0"]),
            (
                "docker's bridge",
                vec![link(2, "docker0", Bridge), port(2, link(3, "veth1a2b", Veth))],
                vec![route("172.17.0.0/16", &[2])],
                &[],
            ),
            ("container as a node", vec![link(2, "eth0", Veth)], vec![route("0.0.0.0/0", &[2])], &["eth0"]),
            (
                "pods of Cilium",
                vec![
                    link(2, "lxc12ab", Veth),
                    link(3, "cilium_host", Veth),
                    link(4, "cilium_wg0", other("wireguard")),
                ],
                vec![route("10.244.0.0/24", &[3]), route("10.244.0.7/32", &[2])],
                &[],
            ),
            ("a pod's veth of Calico", vec![link(2, "cali1", Veth)], vec![route("10.244.0.7/32", &[2])], &[]),
            ("a route by a link that has gone", vec![], vec![route("0.0.0.0/0", &[9])], &[]),
            (
                "kube-ipvs",
                vec![link(2, "kube-ipvs0", other("dummy"))],
                vec![route("10.96.0.0/12", &[2])],
                &[],
            ),
        ];
        for (case, links, routes, expected) in cases {
            assert_eq!(names(&links, &routes), expected, "{case}");
        }
    }

    fn any_link(number: u32) -> impl Strategy<Value = Link> {
        let kind = prop_oneof![
            Just(LinkKind::Loopback),
            Just(LinkKind::Physical),
            Just(LinkKind::Vlan(9)),
            Just(LinkKind::Bond),
            Just(LinkKind::Bridge),
            Just(LinkKind::Veth),
        ];
        let name = prop_oneof![Just("eth"), Just("lxc"), Just("cilium_"), Just("cali"), Just("br")];
        let other = || proptest::option::of((1u32..9).prop_map(index));
        (kind, name, other(), other(), any::<bool>()).prop_map(
            move |(kind, name, master, parent, carrier)| Link {
                master,
                parent,
                carrier,
                ..link(number, &format!("{name}{number}"), kind)
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_the_links_it_ends_and_keeps_to_the_rule(
            links in (1u32..9).map(any_link).collect::<Vec<_>>(),
            carriers in proptest::collection::vec(1u32..12, 0..4),
            destination in prop_oneof![Just("0.0.0.0/0"), Just("::/0"), Just("10.1.0.0/16"), Just("fe80::/64"), Just("10.1.1.1/32")],
        ) {
            let routes = [route(destination, &carriers)];
            let found = uplinks(&links, &routes);
            prop_assert!(found.is_sorted());
            for link in links.iter().filter(|link| found.contains(&link.index)) {
                prop_assert!(is_eligible(link), "{}", link.name);
            }
            if routes[0].is_default() {
                for link in links.iter().filter(|link| is_eligible(link) && carriers.contains(&u32::from(link.index))) {
                    prop_assert!(found.contains(&link.index), "{}", link.name);
                }
            }
        }
    }
}
