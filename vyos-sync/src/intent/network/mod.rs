//! Networks: VLAN interfaces with their addresses, and the services that hang on them.

mod declare;
mod follow;
mod services;

use crate::crd::{self, DnsForwarding, ParentKind, V6Addressing};
use crate::inputs::{Inputs, Object, ObjectId};
use crate::intent::dhcp::{Dhcp4, Dhcp6};
use crate::intent::grant::Grants;
use crate::intent::problem::{Findings, Problem};
use crate::intent::refuse_shared;
use crate::intent::values::{self, Interface, PlainText, VlanId};
use crate::plan::Owner;
use declare::declared;
use follow::followed;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One VLAN of the router.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The object it comes from.
    pub object: ObjectId,
    /// Whose configuration it is.
    pub owner: Owner,
    /// The VLAN.
    pub vlan: VlanId,
    /// The interface that carries it.
    pub parent: Parent,
    /// A bridge that the VLAN interface is a member of, and that has the addresses.
    pub bridge: Option<Interface>,
    /// MTU in bytes.
    pub mtu: Option<u16>,
    /// Words for people.
    pub description: Option<PlainText>,
    /// Its subnets, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// DHCP for IPv4.
    pub dhcp: Option<Dhcp4>,
    /// DHCP for IPv6.
    pub dhcp6: Option<Dhcp6>,
    /// Router advertisements.
    pub advertisement: Option<Advertisement>,
    /// Source NAT.
    pub snat: Option<SourceNat>,
    /// Source NAT for IPv6.
    pub nat66: Option<SourceNat66>,
    /// One-to-one NAT.
    pub one_to_one: Vec<OneToOne>,
    /// Whether the router answers DNS here.
    pub dns: DnsForwarding,
    /// Which machines get a reservation.
    pub reservations: crd::Reservations,
    /// The Harvester network that it is.
    pub attachment: Option<ObjectId>,
}

/// The interface that carries a VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its sort.
    pub kind: ParentKind,
    /// Its name.
    pub name: Interface,
    /// Members of a VLAN-aware bridge on which the VLAN is allowed.
    pub members: Vec<Interface>,
}

/// A subnet and the router's address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    /// The prefix.
    pub prefix: IpNet,
    /// The router's address.
    pub gateway: IpAddr,
}

/// Router advertisements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// How hosts get their addresses.
    pub addressing: V6Addressing,
    /// Longest time between advertisements, in seconds.
    pub interval: Option<u16>,
    /// DNS servers.
    pub name_servers: Vec<Ipv6Addr>,
}

/// Source NAT of the IPv4 subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNat {
    /// Where the traffic leaves.
    pub outbound: Interface,
    /// Its new address; `None` is the interface's own.
    pub address: Option<Ipv4Addr>,
    /// Destinations that are left alone.
    pub exclude: Vec<Ipv4Net>,
}

/// Source NAT of the IPv6 subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNat66 {
    /// Where the traffic leaves.
    pub outbound: Interface,
    /// The new prefix; `None` is the interface's own address.
    pub prefix: Option<Ipv6Net>,
}

/// One outside address for one inside address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneToOne {
    /// Outside.
    pub external: Ipv4Addr,
    /// Inside.
    pub internal: Ipv4Addr,
    /// Where the outside traffic comes in.
    pub inbound: Interface,
}

impl Network {
    /// The interface that has the addresses.
    pub fn interface(&self) -> Interface {
        self.bridge.clone().unwrap_or_else(|| self.parent.name.vif(self.vlan))
    }

    /// Its IPv4 prefixes.
    pub fn prefixes4(&self) -> impl Iterator<Item = Ipv4Net> {
        self.subnets.iter().filter_map(|subnet| match subnet.prefix {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }

    /// Its IPv6 prefixes.
    pub fn prefixes6(&self) -> impl Iterator<Item = Ipv6Net> {
        self.subnets.iter().filter_map(|subnet| match subnet.prefix {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        })
    }
}

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

/// A text for people is never worth refusing the object for.
pub(super) fn description(text: Option<&str>, findings: &mut Findings<'_>) -> Option<PlainText> {
    let read = PlainText::try_from(text?);
    let noted = read.map_err(|error| {
        findings.note(
            "spec.description",
            error.to_string(),
            "it is left out: take the quotes and line breaks away",
        );
    });
    noted.ok()
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

fn first_host(prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => net.hosts().next().unwrap_or_else(|| net.network()).into(),
        // The all-zeros address is the subnet-router anycast address (RFC 4291 section 2.6.1).
        IpNet::V6(net) => net.hosts().nth(1).unwrap_or_else(|| net.network()).into(),
    }
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

fn overlap(one: &IpNet, two: &IpNet) -> bool {
    one.contains(two) || two.contains(one)
}
