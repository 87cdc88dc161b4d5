//! Networks: VLAN interfaces with their addresses, and the services that hang on them.

mod declare;
mod follow;
mod model;
mod services;

use crate::crd;
use crate::inputs::{Inputs, Object, ObjectId};
use crate::intent::grant::Grants;
use crate::intent::problem::{Findings, Problem};
use crate::intent::subnet::first_host;
use crate::intent::{refuse_shared, values};
use declare::declared;
pub(super) use follow::declared_as;
use follow::followed;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub use model::{Advertisement, Network, OneToOne, Parent, SourceNat, SourceNat66};

/// The networks of a router: those declared, then those that Harvester has and nobody declared.
pub(super) fn networks(
    inputs: &Inputs,
    router: &Object<crd::RouterSpec>,
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Network> {
    let ours = inputs.networks.iter().filter(|network| network.spec.router_ref.name == router.id.name);
    let mut networks: Vec<_> = ours.filter_map(|object| declared(inputs, object, grants, problems)).collect();
    networks.extend(followed(inputs, router, grants, problems));
    refuse_twice(&mut networks, problems);
    refuse_overlaps(&mut networks, problems);
    networks
}

/// The gateways of all networks that name the router, also of those that are refused: they are still on the router,
/// and peers still dial them.
pub(super) fn gateways(inputs: &Inputs, router: &str) -> BTreeSet<IpAddr> {
    let ours = inputs.networks.iter().filter(|network| network.spec.router_ref.name == router);
    let specs = ours.flat_map(|network| &network.spec.subnets);
    let read = specs.filter_map(|spec| match &spec.gateway {
        Some(text) => values::address(text).ok(),
        None => values::prefix(&spec.cidr).ok().map(|prefix| first_host(&prefix)),
    });
    read.collect()
}

/// One VLAN of one parent, or one bridge, belongs to one object.
fn refuse_twice(networks: &mut Vec<Network>, problems: &mut Vec<Problem>) {
    let vlan = |network: &Network| Some((network.parent.name.clone(), network.vlan));
    let what = |network: &Network, other: &ObjectId| {
        format!("VLAN {} on {} is claimed by {other} too", network.vlan, network.parent.name)
    };
    refuse_shared(networks, problems, "spec.vlan", vlan, what, "give each network its own VLAN");
    let bridge = |network: &Network| network.bridge.clone();
    let what =
        |network: &Network, other: &ObjectId| format!("{} is claimed by {other} too", network.interface());
    refuse_shared(networks, problems, "spec.bridge", bridge, what, "give each network its own bridge");
}

/// Overlapping subnets make the router guess. Every object with a part in an overlap is named.
fn refuse_overlaps(networks: &mut Vec<Network>, problems: &mut Vec<Problem>) {
    let mut all: Vec<_> = networks
        .iter()
        .enumerate()
        .flat_map(|(at, network)| network.subnets.iter().map(move |subnet| (subnet.prefix, at)))
        .collect();
    all.sort();
    let mut refused = BTreeSet::new();
    let mut widest: Option<(IpNet, usize)> = None;
    for (prefix, at) in all {
        match widest {
            Some((held, holder)) if held.contains(&prefix) => {
                if holder != at {
                    let (one, two) = (networks[holder].object.clone(), networks[at].object.clone());
                    overlap_problem(&one, &held, &two, &prefix, problems);
                    overlap_problem(&two, &prefix, &one, &held, problems);
                    refused.extend([holder, at]);
                }
            }
            _ => widest = Some((prefix, at)),
        }
    }
    let mut at = 0;
    networks.retain(|_| {
        at += 1;
        !refused.contains(&(at - 1))
    });
}

fn overlap_problem(
    object: &ObjectId,
    mine: &IpNet,
    other: &ObjectId,
    theirs: &IpNet,
    problems: &mut Vec<Problem>,
) {
    let what = format!("{mine} overlaps {theirs} of {other}");
    Findings::on(object, problems).refuse("spec.subnets", what, "give each network its own subnet");
}
