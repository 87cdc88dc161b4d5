//! Networks: VLAN interfaces with their addresses, and the services that hang on them.

use super::dhcp::{self, Dhcp4, Dhcp6};
use super::grant::{Grants, Subject, WAY_OUT};
use super::problem::{Findings, Problem};
use super::values::{self, Interface, PlainText, VlanId};
use super::{owner_of, refuse_shared};
use crate::crd::{self, DnsForwarding, NetworkSubnet, ParentKind, RouterNetworkSpec, V6Addressing};
use crate::inputs::{Attachment, Inputs, Object, ObjectId};
use crate::plan::Owner;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
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

fn declared(
    inputs: &Inputs,
    object: &Object<RouterNetworkSpec>,
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Network> {
    let spec = &object.spec;
    let mut findings = Findings::on(&object.id, problems);
    let attachment = spec.harvester_ref.as_ref().and_then(|reference| {
        let found = inputs.attachments.iter().find(|each| {
            each.id.namespace.as_deref() == Some(reference.namespace.as_str())
                && each.id.name == reference.name
        });
        if found.is_none() {
            let what =
                format!("there is no NetworkAttachmentDefinition {}/{}", reference.namespace, reference.name);
            findings.refuse(
                "spec.harvesterRef",
                what,
                "correct the reference, or give vlan and subnets here",
            );
        }
        found
    });
    let vlan = vlan(spec, attachment, &mut findings);
    let parent = parent(&spec.parent, "spec.parent", &mut findings);
    let subnets = subnets(&subnet_specs(spec, attachment), &mut findings);
    let bridge = spec.bridge.as_deref().and_then(|name| bridge(name, &spec.parent, &mut findings));
    check_grants(&object.id, vlan, &subnets, grants, &mut findings);
    let network = Network {
        object: object.id.clone(),
        owner: owner_of(&object.id),
        vlan: vlan?,
        parent: parent?,
        bridge,
        mtu: spec.mtu,
        description: description(spec.description.as_deref(), &mut findings),
        dhcp: dhcp::dhcp4(spec, &subnets, &mut findings),
        dhcp6: dhcp::dhcp6(spec, &subnets, &mut findings),
        advertisement: advertisement(spec, &subnets, &mut findings),
        snat: source_nat(spec, &subnets, &mut findings),
        nat66: source_nat66(spec, &subnets, &mut findings),
        one_to_one: one_to_one(spec, &subnets, &mut findings),
        subnets,
        dns: spec.dns,
        reservations: spec.reservations.clone(),
        attachment: attachment.map(|each| each.id.clone()),
    };
    findings.accepted(network)
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

fn vlan(
    spec: &RouterNetworkSpec,
    attachment: Option<&Object<Attachment>>,
    findings: &mut Findings<'_>,
) -> Option<VlanId> {
    let theirs = attachment.and_then(|each| each.spec.vlan);
    let Some(number) = spec.vlan.or(theirs) else {
        findings.refuse(
            "spec.vlan",
            "no VLAN id is given, and none follows from harvesterRef",
            "give spec.vlan",
        );
        return None;
    };
    if let Some(theirs) = theirs.filter(|theirs| *theirs != number) {
        let what = format!("VLAN {number} is asked for, but the Harvester network has VLAN {theirs}");
        findings.refuse("spec.vlan", what, "remove spec.vlan, or correct harvesterRef");
    }
    findings.read("spec.vlan", VlanId::try_from(number), "give a VLAN id from 1 to 4094")
}

fn parent(spec: &crd::Parent, field: &str, findings: &mut Findings<'_>) -> Option<Parent> {
    let way_out = "name the interface as `show interfaces` on the router does";
    let name = Interface::try_from(spec.name.as_str()).and_then(|name| of_kind(spec.kind, name));
    let name = findings.read(&format!("{field}.name"), name, way_out)?;
    if !spec.members.is_empty() && spec.kind != ParentKind::Bridge {
        findings.refuse(
            &format!("{field}.members"),
            "only a bridge has members",
            "remove them, or set kind: Bridge",
        );
    }
    let read = |text: &str| Interface::try_from(text);
    let members = findings.read_all(&format!("{field}.members"), &spec.members, read, way_out);
    Some(Parent { kind: spec.kind, name, members })
}

/// A name that fits its sort, so that it is found under the right word of `interfaces`.
fn of_kind(kind: ParentKind, name: Interface) -> Result<Interface, values::Invalid> {
    let numbered = |prefixes: &[&str]| {
        prefixes.iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    let fits = match kind {
        ParentKind::Ethernet => {
            let by_slot = ["eno", "ens", "enp", "enx"].iter().any(|prefix| name.starts_with(prefix));
            numbered(&["eth", "lan"]) || by_slot && !name.contains('.')
        }
        ParentKind::Bonding => numbered(&["bond"]),
        ParentKind::Bridge => numbered(&["br"]),
    };
    if fits {
        return Ok(name);
    }
    let wanted = match kind {
        ParentKind::Ethernet => "an ethernet interface such as eth1",
        ParentKind::Bonding => "a bonding interface such as bond0",
        ParentKind::Bridge => "a bridge such as br0",
    };
    Err(values::not(&name, wanted))
}

fn bridge(name: &str, parent: &crd::Parent, findings: &mut Findings<'_>) -> Option<Interface> {
    if parent.kind == ParentKind::Bridge {
        findings.refuse("spec.bridge", "the parent is a bridge already", "remove spec.bridge");
    }
    let read = Interface::try_from(name).and_then(|name| of_kind(ParentKind::Bridge, name));
    findings.read("spec.bridge", read, "name a bridge such as br40")
}

fn subnet_specs(spec: &RouterNetworkSpec, attachment: Option<&Object<Attachment>>) -> Vec<NetworkSubnet> {
    let route = attachment.and_then(|each| each.spec.route.as_ref()).filter(|route| route.is_manual());
    match route {
        Some(route) if spec.subnets.is_empty() => vec![NetworkSubnet {
            cidr: route.cidr.clone(),
            gateway: Some(route.gateway.clone()).filter(|gateway| !gateway.is_empty()),
        }],
        _ => spec.subnets.clone(),
    }
}

fn subnets(specs: &[NetworkSubnet], findings: &mut Findings<'_>) -> Vec<Subnet> {
    if specs.is_empty() {
        findings.refuse(
            "spec.subnets",
            "there is no subnet",
            "give a subnet, or a harvesterRef with a manual route",
        );
    }
    let numbered = specs.iter().enumerate();
    let mut subnets: Vec<_> = numbered.filter_map(|(at, spec)| subnet(at, spec, findings)).collect();
    subnets.sort();
    for pair in subnets.windows(2).filter(|pair| overlap(&pair[0].prefix, &pair[1].prefix)) {
        let what = format!("{} and {} overlap", pair[0].prefix, pair[1].prefix);
        findings.refuse("spec.subnets", what, "give subnets that do not overlap");
    }
    subnets
}

fn subnet(at: usize, spec: &NetworkSubnet, findings: &mut Findings<'_>) -> Option<Subnet> {
    let field = |name: &str| format!("spec.subnets[{at}].{name}");
    let prefix = values::prefix(&spec.cidr);
    let prefix = findings.read(&field("cidr"), prefix, "write the network address and its length")?;
    let gateway = match &spec.gateway {
        Some(text) => findings.read(&field("gateway"), values::address(text), "give the router's address")?,
        None => first_host(&prefix),
    };
    let edges = [prefix.network(), prefix.broadcast()];
    let bare_edge = matches!(prefix, IpNet::V4(net) if net.prefix_len() < 31) && edges.contains(&gateway);
    if !prefix.contains(&gateway) {
        findings.refuse(
            &field("gateway"),
            format!("{gateway} is outside {prefix}"),
            "give an address inside the subnet",
        );
    } else if bare_edge {
        let what = format!("{gateway} is the network or broadcast address of {prefix}");
        findings.refuse(&field("gateway"), what, "give a host address");
    }
    Some(Subnet { prefix, gateway })
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

fn check_grants(
    object: &ObjectId,
    vlan: Option<VlanId>,
    subnets: &[Subnet],
    grants: &Grants<'_>,
    findings: &mut Findings<'_>,
) {
    let subject = Subject::of(object);
    if let Some(vlan) = vlan.filter(|vlan| !grants.vlan(&subject, *vlan)) {
        findings.refuse("spec.vlan", format!("VLAN {vlan} is in no grant for it"), WAY_OUT);
    }
    for subnet in subnets.iter().filter(|subnet| !grants.cidr(&subject, &subnet.prefix)) {
        findings.refuse("spec.subnets", format!("{} is in no grant for it", subnet.prefix), WAY_OUT);
    }
}

fn advertisement(
    spec: &RouterNetworkSpec,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Option<Advertisement> {
    let spec = spec.router_advertisement.as_ref()?;
    let field = "spec.routerAdvertisement";
    if !subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6()) {
        findings.refuse(field, "there is no IPv6 subnet to advertise", "give one, or remove it");
    }
    let slaac = spec.addressing != V6Addressing::Dhcp;
    for subnet in
        subnets.iter().filter(|each| slaac && each.prefix.addr().is_ipv6() && each.prefix.prefix_len() != 64)
    {
        let what = format!("hosts cannot form addresses in {}: SLAAC needs a /64 (RFC 4862)", subnet.prefix);
        findings.note(field, what, "use a /64, or addressing: Dhcp");
    }
    let read = |text: &str| match values::address(text)? {
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(_) => Err(values::not(text, "an IPv6 address")),
    };
    let name_servers =
        findings.read_all(&format!("{field}.nameServers"), &spec.name_servers, read, "give IPv6 addresses");
    Some(Advertisement { addressing: spec.addressing, interval: spec.interval_seconds, name_servers })
}

fn source_nat(
    spec: &RouterNetworkSpec,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Option<SourceNat> {
    let spec = spec.snat.as_ref()?;
    if !subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv4()) {
        findings.refuse("spec.snat", "there is no IPv4 subnet to translate", "give one, or remove it");
    }
    let outbound = Interface::try_from(spec.outbound_interface.as_str());
    let outbound = findings.read("spec.snat.outboundInterface", outbound, "name the outside interface");
    let address = spec.address.as_deref().map(values::address4);
    let address = address.and_then(|ip| findings.read("spec.snat.address", ip, "give an IPv4 address"));
    let exclude =
        findings.read_all("spec.snat.exclude", &spec.exclude, values::prefix4, "give IPv4 prefixes");
    Some(SourceNat { outbound: outbound?, address, exclude })
}

fn source_nat66(
    spec: &RouterNetworkSpec,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Option<SourceNat66> {
    let spec = spec.nat66.as_ref()?;
    if !subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6()) {
        findings.refuse("spec.nat66", "there is no IPv6 subnet to translate", "give one, or remove it");
    }
    let outbound = Interface::try_from(spec.outbound_interface.as_str());
    let outbound = findings.read("spec.nat66.outboundInterface", outbound, "name the outside interface");
    let read = |text: &str| match values::prefix(text)? {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(_) => Err(values::not(text, "an IPv6 prefix")),
    };
    let prefix = spec.prefix.as_deref().map(read);
    let prefix = prefix.and_then(|net| findings.read("spec.nat66.prefix", net, "give an IPv6 prefix"));
    let unequal = |net: &Ipv6Net| {
        subnets
            .iter()
            .any(|each| each.prefix.addr().is_ipv6() && each.prefix.prefix_len() != net.prefix_len())
    };
    if let Some(net) = prefix.filter(unequal) {
        let what = format!("{net} is not as long as the network's own IPv6 prefix (RFC 6296)");
        findings.refuse(
            "spec.nat66.prefix",
            what,
            "give a prefix of the same length, or remove it to masquerade",
        );
    }
    Some(SourceNat66 { outbound: outbound?, prefix })
}

fn one_to_one(spec: &RouterNetworkSpec, subnets: &[Subnet], findings: &mut Findings<'_>) -> Vec<OneToOne> {
    let numbered = spec.one_to_one.iter().enumerate();
    let read = numbered.filter_map(|(at, spec)| {
        let field = |name: &str| format!("spec.oneToOne[{at}].{name}");
        let way_out = "give an IPv4 address";
        let external = findings.read(&field("external"), values::address4(&spec.external), way_out);
        let internal = findings.read(&field("internal"), values::address4(&spec.internal), way_out)?;
        let inbound = Interface::try_from(spec.inbound_interface.as_str());
        let inbound = findings.read(&field("inboundInterface"), inbound, "name the outside interface");
        if !subnets.iter().any(|subnet| subnet.prefix.contains(&IpAddr::V4(internal))) {
            let what = format!("{internal} is in none of the network's subnets");
            findings.refuse(&field("internal"), what, "give an address of this network");
        }
        Some(OneToOne { external: external?, internal, inbound: inbound? })
    });
    read.collect()
}

/// Harvester's networks that no RouterNetwork speaks of. Only a manual route is a person's word.
fn followed(
    inputs: &Inputs,
    router: &Object<crd::RouterSpec>,
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Network> {
    let Some(source) = &router.spec.sources.harvester else { return Vec::new() };
    let spoken_of: BTreeSet<_> =
        inputs.networks.iter().flat_map(|each| declared_as(inputs, &each.spec)).collect();
    let mut by_vlan = BTreeMap::<u16, Network>::new();
    let wanted = inputs.attachments.iter().filter(|each| {
        source.cluster_network.is_none() || source.cluster_network == each.spec.cluster_network
    });
    for object in wanted {
        let Some(vlan) = object.spec.vlan.filter(|vlan| !spoken_of.contains(vlan)) else { continue };
        let Some(network) = from_attachment(object, vlan, source, grants, problems) else { continue };
        match by_vlan.get(&vlan) {
            // Several namespaces may each have a definition of one VLAN; the first by name speaks for all.
            Some(first) if first.subnets == network.subnets => {}
            Some(first) => {
                let what = format!("{} gives VLAN {vlan} another subnet", first.object);
                let mut findings = Findings::on(&object.id, problems);
                findings.note("metadata.annotations", what, "give both definitions the same route");
            }
            None => {
                by_vlan.insert(vlan, network);
            }
        }
    }
    by_vlan.into_values().collect()
}

fn declared_as(inputs: &Inputs, spec: &RouterNetworkSpec) -> Option<u16> {
    let reference = spec.harvester_ref.as_ref();
    let theirs = reference.and_then(|reference| {
        inputs.attachments.iter().find(|each| {
            each.id.namespace.as_deref() == Some(reference.namespace.as_str())
                && each.id.name == reference.name
        })
    });
    spec.vlan.or_else(|| theirs?.spec.vlan)
}

fn from_attachment(
    object: &Object<Attachment>,
    vlan: u16,
    source: &crd::HarvesterSource,
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Network> {
    let mut findings = Findings::on(&object.id, problems);
    let Some(route) = object.spec.route.as_ref().filter(|route| route.is_manual()) else {
        let what = format!("VLAN {vlan} has no subnet that a person gave");
        findings.note(
            "metadata.annotations",
            what,
            "it is not made on the router: set the route to manual, or write a RouterNetwork with a harvesterRef",
        );
        return None;
    };
    let gateway = Some(route.gateway.clone()).filter(|gateway| !gateway.is_empty());
    let subnets = subnets(&[NetworkSubnet { cidr: route.cidr.clone(), gateway }], &mut findings);
    let vlan = findings.read("spec.config.vlan", VlanId::try_from(vlan), "give a VLAN id from 1 to 4094");
    let parent = parent(&source.parent, "Router spec.sources.harvester.parent", &mut findings);
    check_grants(&object.id, vlan, &subnets, grants, &mut findings);
    let network = Network {
        object: object.id.clone(),
        owner: owner_of(&object.id),
        vlan: vlan?,
        parent: parent?,
        bridge: None,
        // Harvester's MTU is that of its own uplink; the router's parent may have another.
        mtu: None,
        description: None,
        subnets,
        dhcp: None,
        dhcp6: None,
        advertisement: None,
        snat: None,
        nat66: None,
        one_to_one: Vec::new(),
        dns: DnsForwarding::None,
        reservations: crd::Reservations::default(),
        attachment: Some(object.id.clone()),
    };
    findings.accepted(network)
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
