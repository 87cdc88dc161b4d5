//! DHCP of a network: ranges, options, reservations, or a relay. Never a server and a relay on one segment.

use super::problem::Findings;
use super::subnet::Subnet;
use super::values::{self, HostName, Interface, Mac, PlainText};
use crate::crd::{self, DnsForwarding, RouterNetworkSpec};
use crate::inputs::ObjectId;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// DHCP for IPv4 on one network.
#[derive(Clone, Debug, PartialEq)]
pub enum Dhcp4 {
    /// The router is the server.
    Server(Server4),
    /// The router relays.
    Relay(Relay<Ipv4Addr>),
}

/// DHCP for IPv6 on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dhcp6 {
    /// The router is the server.
    Server(Server6),
    /// The router relays.
    Relay(Relay<Ipv6Addr>),
}

/// A relay to other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay<A> {
    /// The servers.
    pub servers: Vec<A>,
    /// The interface towards them.
    pub upstream: Interface,
}

/// A DHCPv4 server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server4 {
    /// What is handed out, sorted.
    pub ranges: Vec<Range<Ipv4Addr>>,
    /// What is never handed out.
    pub exclude: BTreeSet<Ipv4Addr>,
    /// Lease time in seconds.
    pub lease: Option<u32>,
    /// DNS servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain.
    pub domain: Option<HostName>,
    /// Domains to search.
    pub domain_search: Vec<HostName>,
    /// NTP servers.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Boot file.
    pub bootfile_name: Option<PlainText>,
    /// Server of the boot file.
    pub bootfile_server: Option<String>,
    /// TFTP server.
    pub tftp_server: Option<String>,
    /// Fixed addresses, by address.
    pub reservations: Vec<Reservation>,
}

/// A DHCPv6 server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server6 {
    /// What is handed out, sorted.
    pub ranges: Vec<Range<Ipv6Addr>>,
    /// Lease time in seconds.
    pub lease: Option<u32>,
    /// DNS servers.
    pub name_servers: Vec<Ipv6Addr>,
    /// Domains to search.
    pub domain_search: Vec<HostName>,
}

/// A closed range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range<A> {
    /// First.
    pub start: A,
    /// Last.
    pub end: A,
}

impl<A: PartialOrd> Range<A> {
    /// Whether the address is in it.
    pub fn contains(&self, address: A) -> bool {
        self.start <= address && address <= self.end
    }
}

/// A fixed address for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Name of the mapping, which is the host name that the client is told.
    pub name: HostName,
    /// The machine.
    pub mac: Mac,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Boot file of this machine alone.
    pub bootfile_name: Option<PlainText>,
    /// TFTP server of this machine alone.
    pub tftp_server: Option<String>,
    /// The object that asks for it.
    pub source: ObjectId,
}

pub(super) fn dhcp4(
    spec: &RouterNetworkSpec,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Option<Dhcp4> {
    let dhcp = spec.dhcp.as_ref()?;
    let own = addresses4(subnets);
    if own.is_empty() {
        findings.refuse("spec.dhcp", "there is no IPv4 subnet to serve", "give one, or remove it");
    }
    match (&dhcp.server, &dhcp.relay) {
        (Some(server), None) => Some(Dhcp4::Server(server4(spec, server, &own, subnets, findings))),
        (None, Some(relay)) => Some(Dhcp4::Relay(relay_to(relay, "spec.dhcp", values::address4, findings)?)),
        _ => {
            exclusive("spec.dhcp", findings);
            None
        }
    }
}

pub(super) fn dhcp6(
    spec: &RouterNetworkSpec,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Option<Dhcp6> {
    let dhcp = spec.dhcp6.as_ref()?;
    if !subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6()) {
        findings.refuse("spec.dhcp6", "there is no IPv6 subnet to serve", "give one, or remove it");
    }
    match (&dhcp.server, &dhcp.relay) {
        (Some(server), None) => Some(Dhcp6::Server(server6(server, subnets, findings))),
        (None, Some(relay)) => Some(Dhcp6::Relay(relay_to(relay, "spec.dhcp6", address6, findings)?)),
        _ => {
            exclusive("spec.dhcp6", findings);
            None
        }
    }
}

fn exclusive(field: &str, findings: &mut Findings<'_>) {
    let what = "a segment has either a server or a relay: two answers to one request are a fault";
    findings.refuse(field, what, "give exactly one of server and relay");
}

fn addresses4(subnets: &[Subnet]) -> Vec<Ipv4Addr> {
    subnets.iter().filter_map(|subnet| v4(subnet.gateway)).collect()
}

fn server4(
    spec: &RouterNetworkSpec,
    server: &crd::DhcpServer,
    gateways: &[Ipv4Addr],
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Server4 {
    let field = "spec.dhcp.server";
    let list = |name: &str| format!("{field}.{name}");
    let way_out = "give IPv4 addresses";
    let ranges = ranges(&server.ranges, &list("ranges"), values::address4, subnets, findings);
    let exclude = findings.read_all(&list("exclude"), &server.exclude, values::address4, way_out);
    let mut exclude: BTreeSet<_> = exclude.into_iter().collect();
    for gateway in gateways.iter().filter(|ip| ranges.iter().any(|range| range.contains(**ip))) {
        if exclude.insert(*gateway) {
            let what = format!("a range covers the gateway {gateway}");
            findings.note(&list("ranges"), what, "it is excluded: start the range behind it");
        }
    }
    let mut name_servers =
        findings.read_all(&list("nameServers"), &server.name_servers, values::address4, way_out);
    if name_servers.is_empty() && spec.dns == DnsForwarding::Forward {
        name_servers = gateways.to_vec();
    }
    let pxe = server.pxe.clone().unwrap_or_default();
    let mut host = |name: &str, text: Option<&str>| {
        let read = text.map(values::host)?;
        findings.read(&list(&format!("pxe.{name}")), read, "give an address or a host name")
    };
    let (bootfile_server, tftp_server) = (
        host("bootfileServer", pxe.bootfile_server.as_deref()),
        host("tftpServer", pxe.tftp_server.as_deref()),
    );
    let bootfile = pxe.bootfile_name.as_deref().map(PlainText::try_from);
    let domain = server.domain.as_deref().map(HostName::try_from);
    Server4 {
        exclude,
        lease: server.lease_seconds,
        name_servers,
        domain: domain.and_then(|name| findings.read(&list("domain"), name, "give a domain name")),
        domain_search: names(&server.domain_search, &list("domainSearch"), findings),
        ntp_servers: findings.read_all(&list("ntpServers"), &server.ntp_servers, values::address4, way_out),
        bootfile_name: bootfile
            .and_then(|name| findings.read(&list("pxe.bootfileName"), name, "give a plain file name")),
        bootfile_server,
        tftp_server,
        ranges,
        reservations: Vec::new(),
    }
}

fn server6(server: &crd::Dhcp6Server, subnets: &[Subnet], findings: &mut Findings<'_>) -> Server6 {
    let field = |name: &str| format!("spec.dhcp6.server.{name}");
    let read_ranges = ranges(&server.ranges, &field("ranges"), address6, subnets, findings);
    let name_servers =
        findings.read_all(&field("nameServers"), &server.name_servers, address6, "give IPv6 addresses");
    let domain_search = names(&server.domain_search, &field("domainSearch"), findings);
    if read_ranges.is_empty() {
        findings.refuse(&field("ranges"), "there is nothing to hand out", "give a range");
    }
    Server6 { ranges: read_ranges, lease: server.lease_seconds, name_servers, domain_search }
}

fn names(texts: &[String], field: &str, findings: &mut Findings<'_>) -> Vec<HostName> {
    findings.read_all(field, texts, |text| HostName::try_from(text), "give domain names")
}

fn ranges<A: Copy + Ord + Into<IpAddr>>(
    specs: &[crd::AddressRange],
    field: &str,
    parse: impl Fn(&str) -> Result<A, values::Invalid>,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Vec<Range<A>> {
    let numbered = specs.iter().enumerate();
    let read = numbered.filter_map(|(at, spec)| {
        let field = format!("{field}[{at}]");
        let start =
            findings.read(&format!("{field}.start"), parse(&spec.start), "give an address of the subnet");
        let end =
            findings.read(&format!("{field}.end"), parse(&spec.end), "give an address of the subnet")?;
        let range = Range { start: start?, end };
        check_range(&range, &field, subnets, findings);
        Some(range)
    });
    let mut ranges: Vec<_> = read.collect();
    ranges.sort();
    for pair in ranges.windows(2).filter(|pair| pair[1].start <= pair[0].end) {
        let what =
            format!("the range from {} overlaps the one from {}", pair[1].start.into(), pair[0].start.into());
        findings.refuse(field, what, "give ranges that do not overlap");
    }
    ranges
}

fn check_range<A: Copy + Ord + Into<IpAddr>>(
    range: &Range<A>,
    field: &str,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) {
    let (start, end): (IpAddr, IpAddr) = (range.start.into(), range.end.into());
    if range.start > range.end {
        findings.refuse(field, format!("{start} is behind {end}"), "swap start and end");
    } else if !subnets.iter().any(|subnet| subnet.prefix.contains(&start) && subnet.prefix.contains(&end)) {
        let what = format!("{start} to {end} is in none of the network's subnets");
        findings.refuse(field, what, "give a range inside one subnet");
    }
}

fn relay_to<A>(
    relay: &crd::Relay,
    field: &str,
    parse: impl Fn(&str) -> Result<A, values::Invalid>,
    findings: &mut Findings<'_>,
) -> Option<Relay<A>> {
    let servers =
        findings.read_all(&format!("{field}.relay.servers"), &relay.servers, parse, "give addresses");
    if servers.is_empty() {
        findings.refuse(&format!("{field}.relay.servers"), "a relay needs a server", "give one");
    }
    let upstream = Interface::try_from(relay.upstream_interface.as_str());
    let upstream = findings.read(
        &format!("{field}.relay.upstreamInterface"),
        upstream,
        "name the interface towards the servers",
    );
    Some(Relay { servers, upstream: upstream? })
}

/// Whether the prefix is an IPv4 one with this address in it.
pub(super) fn in_prefix(prefix: &IpNet, ip: Ipv4Addr) -> bool {
    prefix.contains(&IpAddr::V4(ip))
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn address6(text: &str) -> Result<Ipv6Addr, values::Invalid> {
    match values::address(text)? {
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(_) => Err(values::not(text, "an IPv6 address")),
    }
}
