//! Where documents of intent contradict each other, the objects, or the router. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::claims::{Claim, Document, Party, Says, claims};
use super::{Contradiction, say};
use crate::config::{Node, Tree};
use crate::crd::RouterSpec;
use crate::inputs::{Inputs, Object};

/// What documents are held against.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// The objects.
    pub inputs: &'a Inputs,
    /// The Router object.
    pub router: &'a Object<RouterSpec>,
    /// What the objects make of the router.
    pub desired: &'a Tree,
    /// What the router holds, where that is known.
    pub running: Option<&'a Tree>,
}

/// All contradictions that the documents have a part in, and how many claims were read.
pub fn documents(documents: &[Document], against: Against<'_>) -> (Vec<Contradiction>, usize) {
    let mut all: Vec<Claim> = documents.iter().flat_map(claims).collect();
    all.sort();
    let mut found = among(&all);
    found.extend(alone(&all));
    found.extend(vlans(&all, against));
    found.extend(numbers(&all, against));
    found.extend(neighbors(&all, against));
    found.sort();
    found.dedup();
    (found, all.len())
}

/// What one thing is said to be, and where.
type Sayings<K, V> = BTreeMap<K, BTreeMap<V, BTreeSet<String>>>;

fn note<K: Ord, V: Ord>(sayings: &mut Sayings<K, V>, key: K, value: V, at: &str) {
    sayings.entry(key).or_default().entry(value).or_default().insert(at.to_owned());
}

/// Documents that say different things of the same.
fn among(all: &[Claim]) -> Vec<Contradiction> {
    let mut sayings: Sayings<String, String> = BTreeMap::new();
    for claim in all {
        let (of, is) = match &claim.says {
            Says::Subnet(id, net) if net.addr().is_ipv4() => {
                (format!("the subnet of VLAN {id}"), net.to_string())
            }
            Says::Gateway(id, ip) if ip.is_ipv4() => (format!("the gateway of VLAN {id}"), ip.to_string()),
            Says::Asn(party, asn) => (format!("the AS number of {party}"), asn.to_string()),
            Says::Host(name, ip) => (format!("the address of {name}"), ip.to_string()),
            Says::Group(kind, group) => (format!("the API group of {kind}"), group.clone()),
            _ => continue,
        };
        note(&mut sayings, of, is, &claim.at);
        if let Says::Subnet(id, net) = &claim.says {
            note(&mut sayings, format!("the VLAN of {net}"), id.to_string(), &claim.at);
        }
    }
    let differing = sayings.into_iter().filter(|(_, values)| values.len() > 1);
    let each = differing.flat_map(|(of, values)| {
        let all: Vec<String> = values.iter().map(|(is, at)| format!("{is} ({})", list(at))).collect();
        let first = values.values().next().and_then(|places| places.first()).cloned();
        first.map(|at| say(at, format!("{of} is said to be {}", all.join(", and "))))
    });
    each.collect()
}

/// At most three places, and how many more there are.
fn list(places: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = places.iter().take(3).map(String::as_str).collect();
    match places.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What is wrong by itself.
fn alone(all: &[Claim]) -> Vec<Contradiction> {
    let wrong = all.iter().filter_map(|claim| match &claim.says {
        Says::Obsolete(what, way_out) => Some(say(&claim.at, format!("{what}: {way_out}"))),
        Says::NeighborNet(net) => {
            let what = format!(
                "neighbor {net}: a neighbor is one address; a prefix is a `listen range` with a peer-group"
            );
            Some(say(&claim.at, what))
        }
        _ => None,
    });
    wrong.collect()
}

/// Whether an address that is there fits a claim.
type Fits = Box<dyn Fn(&IpNet) -> bool>;

/// Subnets and gateways of VLANs, against the objects and the router.
fn vlans(all: &[Claim], against: Against<'_>) -> Vec<Contradiction> {
    let (wanted, running) = (addresses(against.desired), against.running.map(addresses));
    let mut found = Vec::new();
    for claim in all {
        let (id, fits, text): (u16, Fits, String) = match &claim.says {
            Says::Subnet(id, net) => {
                let net = *net;
                (*id, Box::new(move |have: &IpNet| have.trunc() == net), format!("VLAN {id} has {net}"))
            }
            Says::Gateway(id, ip) => {
                let ip = *ip;
                (
                    *id,
                    Box::new(move |have: &IpNet| have.addr() == ip),
                    format!("VLAN {id} has the gateway {ip}"),
                )
            }
            _ => continue,
        };
        let sides = [("the objects", Some(&wanted)), ("the router", running.as_ref())];
        let known: Vec<_> =
            sides.iter().filter_map(|(side, tree)| Some((*side, (*tree)?.get(&id)?))).collect();
        for (side, has) in &known {
            if !has.iter().any(&fits) {
                let has: Vec<String> = has.iter().map(ToString::to_string).collect();
                found.push(say(
                    &claim.at,
                    format!("{text}, but {side} say {}", has.join(", ")).replace("router say", "router has"),
                ));
            }
        }
        if known.is_empty() {
            let where_ = if running.is_some() { "neither the objects nor the router" } else { "the objects" };
            let verb = if running.is_some() { "have" } else { "do not have" };
            found.push(say(&claim.at, format!("{text}, but {where_} {verb} VLAN {id} with an address")));
        }
    }
    found
}

/// The addresses of each VLAN, on its own interface or on a bridge around it.
fn addresses(tree: &Tree) -> BTreeMap<u16, BTreeSet<IpNet>> {
    let mut all: BTreeMap<u16, BTreeSet<IpNet>> = BTreeMap::new();
    let of = |node: &Node| -> BTreeSet<IpNet> {
        let values = node.child("address").and_then(Node::values).into_iter().flatten();
        values.filter_map(|address| address.parse().ok()).collect()
    };
    for kind in ["ethernet", "bonding", "bridge"] {
        for (name, node) in tree.entries(&["interfaces", kind]) {
            for (id, vif) in node.child("vif").and_then(Node::children).into_iter().flatten() {
                let Ok(vlan) = id.parse() else { continue };
                let own = format!("{name}.{id}");
                let around = tree
                    .entries(&["interfaces", "bridge"])
                    .filter(|(_, bridge)| bridge.at(&["member", "interface", &own]).is_some());
                let addresses: BTreeSet<IpNet> =
                    of(vif).into_iter().chain(around.flat_map(|(_, b)| of(b))).collect();
                if !addresses.is_empty() {
                    all.entry(vlan).or_default().extend(addresses);
                }
            }
        }
    }
    all
}

/// AS numbers, against the objects and the router.
fn numbers(all: &[Claim], against: Against<'_>) -> Vec<Contradiction> {
    let object = against.router.spec.bgp.as_ref().map(|bgp| bgp.asn);
    let on_router =
        against.running.and_then(|tree| tree.at(&["protocols", "bgp"])?.text("system-as")?.parse().ok());
    let clusters: BTreeSet<u32> = against
        .inputs
        .bgp_clusters
        .iter()
        .flat_map(|cluster| &cluster.spec.bgp_instances)
        .filter_map(|instance| instance.local_asn)
        .chain(against.inputs.peerings.iter().filter_map(|peering| peering.spec.peer_asn))
        .collect();
    let mut found = Vec::new();
    for claim in all {
        match claim.says {
            Says::Asn(Party::Router, asn) => {
                if let Some(other) = object.filter(|other| *other != asn) {
                    found.push(say(
                        &claim.at,
                        format!("the router is AS {asn}, but {} says {other}", against.router.id),
                    ));
                }
                if let Some(other) = on_router.filter(|other: &u32| *other != asn) {
                    found.push(say(&claim.at, format!("the router is AS {asn}, but it runs AS {other}")));
                }
            }
            Says::Asn(Party::Clusters, asn) if !clusters.is_empty() && !clusters.contains(&asn) => {
                let known: Vec<String> = clusters.iter().map(u32::to_string).collect();
                found.push(say(
                    &claim.at,
                    format!("the clusters are AS {asn}, but the objects say {}", known.join(", ")),
                ));
            }
            _ => {}
        }
    }
    found
}

/// Neighbors that neither the objects want nor the router has.
fn neighbors(all: &[Claim], against: Against<'_>) -> Vec<Contradiction> {
    let of = |tree: &Tree| -> BTreeSet<IpAddr> {
        tree.entries(&["protocols", "bgp", "neighbor"]).filter_map(|(name, _)| name.parse().ok()).collect()
    };
    let mut known = of(against.desired);
    known.extend(against.running.map(of).into_iter().flatten());
    let missing = all.iter().filter_map(|claim| match claim.says {
        Says::Neighbor(address) if !known.contains(&address) => Some(say(
            &claim.at,
            format!("neighbor {address} is neither wanted by the objects nor on the router"),
        )),
        _ => None,
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile, config::Dialect, gather, plan::Ledger};

    const OBJECTS: &str = "
apiVersion: weir.dev/v1alpha1
kind: Router
metadata: {name: gw}
spec: {endpoints: ['https://192.0.2.1'], tls: {caFile: x}, apiKey: {file: x}, grants: Open, bgp: {asn: 64512}}
---
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: nodes, namespace: lab}
spec: {routerRef: {name: gw}, vlan: 30, parent: {name: eth1}, subnets: [{cidr: 10.10.30.0/24}]}
---
apiVersion: weir.dev/v1alpha1
kind: BGPPeering
metadata: {name: node, namespace: lab}
spec: {routerRef: {name: gw}, peerASN: 64513, peers: [{name: a, address: 10.10.30.10}], accept: [{prefix: 10.99.0.0/16}]}
";

    fn doctored(texts: &[(&str, &str)], running: Option<&Tree>) -> Vec<String> {
        let inputs = gather::text("objects", OBJECTS);
        let router = inputs.router("gw").unwrap();
        let compiled = compile::compile(&inputs, router, Dialect::V1_5, &Tree::new(), &Ledger::default());
        let desired = compiled.rendered.desired.tree();
        let texts: Vec<Document> = texts
            .iter()
            .map(|(place, text)| Document { place: (*place).into(), text: (*text).into() })
            .collect();
        let (found, _) = documents(&texts, Against { inputs: &inputs, router, desired, running });
        found.into_iter().map(|c| format!("{}: {}", c.place, c.what)).collect()
    }

    #[test]
    fn documents_that_agree_with_all_are_silent() {
        let text = "| VLAN | Subnet | Gateway |\n|-|-|-|\n| 30 | 10.10.30.0/24 | 10.10.30.1 |\n\nThe router is AS 64512, clusters AS 64513.\n\
            neighbor 10.10.30.10\n";
        assert_eq!(doctored(&[("a.md", text)], None), Vec::<String>::new());
    }

    #[test]
    fn documents_are_held_against_each_other() {
        let found = doctored(
            &[
                ("a.md", "VLAN 30 is 10.10.30.0/24\n"),
                ("b.md", "Clusters: VLAN 30 10.10.31.0/24\nrouter AS 64999\n"),
            ],
            None,
        );
        let both =
            "a.md:1: the subnet of VLAN 30 is said to be 10.10.30.0/24 (a.md:1), and 10.10.31.0/24 (b.md:1)";
        assert!(found.contains(&both.to_owned()), "{found:#?}");
        assert!(
            found.iter().any(|f| f.starts_with("b.md:2: the router is AS 64999, but Router gw says 64512")),
            "{found:#?}"
        );
    }

    #[test]
    fn documents_are_held_against_objects_and_router() {
        let mut running = Tree::new();
        running.set(&"interfaces ethernet eth1 vif 50 address".parse().unwrap(), "10.10.50.1/24").unwrap();
        running.set(&"protocols bgp system-as".parse().unwrap(), "64600").unwrap();
        let text = "VLAN 50 is 10.10.51.0/24\nVLAN 60 is 10.10.60.0/24\nset protocols bgp neighbor 10.10.30.99 remote-as 1\n\
            set protocols bgp neighbor 10.10.30.0/24 remote-as 1\nthe router has AS 64512\nclusters use AS 64999\n";
        let found = doctored(&[("d.md", text)], Some(&running)).join("\n");
        for line in [
            "d.md:1: VLAN 50 has 10.10.51.0/24, but the router has 10.10.50.1/24",
            "d.md:2: VLAN 60 has 10.10.60.0/24, but neither the objects nor the router have VLAN 60 with an address",
            "d.md:3: neighbor 10.10.30.99 is neither wanted by the objects nor on the router",
            "d.md:4: neighbor 10.10.30.0/24: a neighbor is one address",
            "d.md:5: the router is AS 64512, but it runs AS 64600",
            "d.md:6: the clusters are AS 64999, but the objects say 64513",
        ] {
            assert!(found.contains(line), "{line} in\n{found}");
        }
    }
}
