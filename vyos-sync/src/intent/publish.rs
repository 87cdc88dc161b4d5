//! Publications: which public ports lead to which Service, for whom, and under which names.

use super::grant::{Grants, Subject, WAY_OUT};
use super::network::Network;
use super::problem::{Findings, Problem};
use super::values::{self, HostName, Interface, PlainText};
use super::{owner_of, refuse_shared};
use crate::crd::{NetworkRef, PortPublicationSpec, Protocol, PublishedPort};
use crate::inputs::{ClusterName, Inputs, Kind, Object, ObjectId, Service};
use crate::plan::Owner;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Ports of a Service on a public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The object it comes from.
    pub object: ObjectId,
    /// Whose configuration it is.
    pub owner: Owner,
    /// Where outside traffic comes in.
    pub interface: Interface,
    /// The public address; `None` is whatever comes in there.
    pub address: Option<Ipv4Addr>,
    /// The ports.
    pub forwards: Vec<Forward>,
    /// Who may come in; empty is everybody.
    pub sources: Vec<Ipv4Net>,
    /// Inside networks that use the public address too.
    pub hairpins: Vec<HairpinNetwork>,
    /// Names that lead to the Service.
    pub hostnames: Vec<HostName>,
    /// Addresses of the Service.
    pub vips: Vec<IpAddr>,
    /// Words for people.
    pub description: Option<PlainText>,
}

/// One public port and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The public port.
    pub port: u16,
    /// The Service's address.
    pub vip: Ipv4Addr,
    /// The Service's port.
    pub service_port: u16,
}

/// An inside network that uses the public address too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HairpinNetwork {
    /// Its interface.
    pub interface: Interface,
    /// Its prefixes.
    pub prefixes: Vec<Ipv4Net>,
}

pub(super) fn publications(
    inputs: &Inputs,
    router: &str,
    networks: &[Network],
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Publication> {
    let ours = inputs.publications.iter().filter(|each| each.spec.router_ref.name == router);
    let read = ours.filter_map(|object| publication(inputs, object, networks, grants, problems));
    let mut publications: Vec<_> = read.collect();
    refuse_contested(&mut publications, problems);
    let name = |each: &Publication| (!each.hostnames.is_empty()).then(|| each.hostnames[0].clone());
    let what =
        |each: &Publication, other: &ObjectId| format!("{} is published by {other} too", each.hostnames[0]);
    refuse_shared(
        &mut publications,
        problems,
        "spec.hostnames",
        name,
        what,
        "give each name to one publication",
    );
    publications
}

fn publication(
    inputs: &Inputs,
    object: &Object<PortPublicationSpec>,
    networks: &[Network],
    grants: &Grants<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Publication> {
    let spec = &object.spec;
    let mut findings = Findings::on(&object.id, problems);
    let service = service(inputs, object, grants, &mut findings);
    let interface = Interface::try_from(spec.interface.as_str());
    let interface = findings.read("spec.interface", interface, "name the outside interface");
    let address = spec.address.as_deref().map(values::address4);
    let address = address.and_then(|ip| findings.read("spec.address", ip, "give the public IPv4 address"));
    let subject = Subject::of(&object.id);
    let forwards = service.map(|service| forwards(spec, service, &subject, grants, &mut findings));
    let read = |text: &str| HostName::try_from(text);
    let mut hostnames = findings.read_all("spec.hostnames", &spec.hostnames, read, "give full host names");
    hostnames.sort();
    hostnames.dedup();
    for name in hostnames.iter().filter(|name| !grants.hostname(&subject, name)) {
        findings.refuse("spec.hostnames", format!("{name} is in no grant for it"), WAY_OUT);
    }
    let publication = Publication {
        object: object.id.clone(),
        owner: owner_of(&object.id),
        interface: interface?,
        address,
        forwards: forwards?,
        sources: findings.read_all(
            "spec.sourceRanges",
            &spec.source_ranges,
            values::prefix4,
            "give IPv4 prefixes",
        ),
        hairpins: hairpins(object, networks, &mut findings),
        hostnames,
        vips: service?.spec.vips.clone(),
        description: findings.description(spec.description.as_deref()),
    };
    findings.accepted(publication)
}

fn service<'a>(
    inputs: &'a Inputs,
    object: &Object<PortPublicationSpec>,
    grants: &Grants<'_>,
    findings: &mut Findings<'_>,
) -> Option<&'a Object<Service>> {
    let reference = &object.spec.service_ref;
    let own = object.id.namespace.as_deref();
    let cluster = reference.cluster.as_deref().map_or_else(|| object.id.cluster.clone(), ClusterName::from);
    let namespace = reference.namespace.as_deref().or(own);
    let found = inputs.services.iter().find(|each| {
        each.id.cluster == cluster
            && each.id.namespace.as_deref() == namespace
            && each.id.name == reference.name
    });
    let Some(service) = found else {
        let what = format!("there is no Service {}/{}", namespace.unwrap_or_default(), reference.name);
        findings.refuse("spec.serviceRef", what, "correct the reference");
        return None;
    };
    let foreign = cluster != object.id.cluster || namespace != own;
    let covered =
        || service.spec.vips.iter().all(|vip| grants.cidr(&Subject::of(&object.id), &IpNet::from(*vip)));
    if foreign && !covered() {
        let what = format!(
            "{} is of another namespace or cluster, and its address is in no grant for this one",
            service.id
        );
        findings.refuse("spec.serviceRef", what, WAY_OUT);
    }
    if service.spec.vips.is_empty() {
        let what = format!("{} has no load balancer address yet", service.id);
        findings.refuse("spec.serviceRef", what, "wait for one, or look at its pool");
    }
    Some(service)
}

fn forwards(
    spec: &PortPublicationSpec,
    service: &Object<Service>,
    subject: &Subject<'_>,
    grants: &Grants<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Forward> {
    let vip = service.spec.vips.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let Some(vip) = vip else {
        if !service.spec.vips.is_empty() {
            let what =
                format!("{} has only IPv6 addresses, which are routed and need no publication", service.id);
            findings.refuse(
                "spec.serviceRef",
                what,
                "publish host names only, or give the Service an IPv4 address",
            );
        }
        return Vec::new();
    };
    let mut forwards = Vec::new();
    for (at, port) in ports(spec, service).into_iter().enumerate() {
        let field = format!("spec.ports[{at}]");
        let service_port = port.service_port.unwrap_or(port.port);
        let known =
            service.spec.ports.iter().any(|each| each.port == service_port && each.protocol == port.protocol);
        if !known {
            let what = format!("{} has no {:?} port {service_port}", service.id, port.protocol);
            findings.refuse(&format!("{field}.servicePort"), what, "name a TCP or UDP port that it has");
        }
        if !grants.port(subject, port.protocol, port.port) {
            let what = format!("public port {} is in no grant for it", port.port);
            findings.refuse(&format!("{field}.port"), what, WAY_OUT);
        }
        forwards.push(Forward { protocol: port.protocol, port: port.port, vip, service_port });
    }
    if forwards.is_empty() {
        let what = format!("{} has no TCP or UDP port", service.id);
        findings.refuse("spec.ports", what, "publish a Service that has one");
    }
    forwards.sort();
    for pair in forwards
        .windows(2)
        .filter(|pair| (pair[0].protocol, pair[0].port) == (pair[1].protocol, pair[1].port))
    {
        findings.refuse("spec.ports", format!("port {} is given twice", pair[0].port), "give each port once");
    }
    forwards
}

fn ports(spec: &PortPublicationSpec, service: &Object<Service>) -> Vec<PublishedPort> {
    if !spec.ports.is_empty() {
        return spec.ports.clone();
    }
    let all = service.spec.ports.iter();
    all.map(|each| PublishedPort { port: each.port, service_port: None, protocol: each.protocol }).collect()
}

fn hairpins(
    object: &Object<PortPublicationSpec>,
    networks: &[Network],
    findings: &mut Findings<'_>,
) -> Vec<HairpinNetwork> {
    let Some(hairpin) = &object.spec.hairpin else { return Vec::new() };
    if object.spec.address.is_none() {
        let what = "inside hosts can only use a public address that is known";
        findings.refuse("spec.hairpin", what, "give spec.address, or remove the hairpin and use host names");
    }
    let numbered = hairpin.networks.iter().enumerate();
    let found = numbered.filter_map(|(at, reference)| {
        let network = networks.iter().find(|each| is(each, reference, &object.id));
        if network.is_none() {
            let what = format!("there is no accepted RouterNetwork {} on this router", reference.name);
            findings.refuse(
                &format!("spec.hairpin.networks[{at}]"),
                what,
                "correct the reference, or mend that network",
            );
        }
        let network = network?;
        Some(HairpinNetwork { interface: network.interface(), prefixes: network.prefixes4().collect() })
    });
    found.collect()
}

fn is(network: &Network, reference: &NetworkRef, from: &ObjectId) -> bool {
    let namespace = reference.namespace.as_ref().or(from.namespace.as_ref());
    network.object.kind == Kind::RouterNetwork
        && network.object.name == reference.name
        && network.object.namespace.as_ref() == namespace
}

/// One public port leads to one place. A publication without an address claims the port on every address.
fn refuse_contested(publications: &mut Vec<Publication>, problems: &mut Vec<Problem>) {
    let mut refused = BTreeSet::new();
    let claims = |each: &Publication| -> Vec<_> {
        each.forwards.iter().map(|to| (each.interface.clone(), to.protocol, to.port)).collect()
    };
    let mut holders = std::collections::BTreeMap::<_, Vec<usize>>::new();
    for (at, each) in publications.iter().enumerate() {
        for claim in claims(each) {
            holders.entry(claim).or_default().push(at);
        }
    }
    for ((interface, _, port), holders) in holders {
        for (one, two) in pairs(&holders) {
            let (a, b) = (&publications[one], &publications[two]);
            if a.address.is_none() || b.address.is_none() || a.address == b.address {
                for (mine, other) in [(a, b), (b, a)] {
                    let what = format!("port {port} on {interface} is published by {} too", other.object);
                    let mut findings = Findings::on(&mine.object, problems);
                    findings.refuse("spec.ports", what, "choose another public port or address");
                }
                refused.extend([one, two]);
            }
        }
    }
    let mut at = 0;
    publications.retain(|_| {
        at += 1;
        !refused.contains(&(at - 1))
    });
}

fn pairs(all: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    all.iter().enumerate().flat_map(|(at, one)| all[at + 1..].iter().map(|two| (*one, *two)))
}
