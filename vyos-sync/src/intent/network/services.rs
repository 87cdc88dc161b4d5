//! What hangs on the subnets of a network: router advertisements and address translation.

use super::model::{Advertisement, OneToOne, SourceNat, SourceNat66};
use crate::crd::{RouterNetworkSpec, V6Addressing};
use crate::intent::problem::Findings;
use crate::intent::subnet::Subnet;
use crate::intent::values::{self, Interface};
use ipnet::{IpNet, Ipv6Net};
use std::net::IpAddr;

pub(super) fn advertisement(
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

pub(super) fn source_nat(
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

pub(super) fn source_nat66(
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

pub(super) fn one_to_one(
    spec: &RouterNetworkSpec,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Vec<OneToOne> {
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
