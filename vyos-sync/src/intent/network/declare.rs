//! A RouterNetwork, judged by itself: VLAN, parent, subnets, and whether it is granted.

use super::model::{Network, Parent};
use super::services::{advertisement, one_to_one, source_nat, source_nat66};
use crate::crd::{self, NetworkSubnet, ParentKind, RouterNetworkSpec};
use crate::inputs::{Attachment, Inputs, Object, ObjectId};
use crate::intent::dhcp;
use crate::intent::grant::{Grants, Subject, WAY_OUT};
use crate::intent::owner_of;
use crate::intent::problem::{Findings, Problem};
use crate::intent::subnet::{Subnet, first_host, overlap};
use crate::intent::values::{self, Interface, VlanId};
use ipnet::IpNet;

pub(super) fn declared(
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
        description: findings.description(spec.description.as_deref()),
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

pub(super) fn vlan(
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

pub(super) fn parent(spec: &crd::Parent, field: &str, findings: &mut Findings<'_>) -> Option<Parent> {
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
pub(super) fn of_kind(kind: ParentKind, name: Interface) -> Result<Interface, values::Invalid> {
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

pub(super) fn bridge(name: &str, parent: &crd::Parent, findings: &mut Findings<'_>) -> Option<Interface> {
    if parent.kind == ParentKind::Bridge {
        findings.refuse("spec.bridge", "the parent is a bridge already", "remove spec.bridge");
    }
    let read = Interface::try_from(name).and_then(|name| of_kind(ParentKind::Bridge, name));
    findings.read("spec.bridge", read, "name a bridge such as br40")
}

pub(super) fn subnet_specs(
    spec: &RouterNetworkSpec,
    attachment: Option<&Object<Attachment>>,
) -> Vec<NetworkSubnet> {
    let route = attachment.and_then(|each| each.spec.route.as_ref()).filter(|route| route.is_manual());
    match route {
        Some(route) if spec.subnets.is_empty() => vec![NetworkSubnet {
            cidr: route.cidr.clone(),
            gateway: Some(route.gateway.clone()).filter(|gateway| !gateway.is_empty()),
        }],
        _ => spec.subnets.clone(),
    }
}

pub(super) fn subnets(specs: &[NetworkSubnet], findings: &mut Findings<'_>) -> Vec<Subnet> {
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

pub(super) fn subnet(at: usize, spec: &NetworkSubnet, findings: &mut Findings<'_>) -> Option<Subnet> {
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

pub(super) fn check_grants(
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
