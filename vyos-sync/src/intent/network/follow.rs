//! Harvester's networks that no RouterNetwork speaks of.

use super::declare::{check_grants, parent, subnets};
use super::model::Network;
use crate::crd::{self, DnsForwarding, NetworkSubnet, RouterNetworkSpec};
use crate::inputs::{Attachment, Inputs, Object};
use crate::intent::grant::Grants;
use crate::intent::owner_of;
use crate::intent::problem::{Findings, Problem};
use crate::intent::values::VlanId;
use std::collections::{BTreeMap, BTreeSet};

/// Harvester's networks that no RouterNetwork speaks of. Only a manual route is a person's word.
pub(super) fn followed(
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

/// The VLAN that a RouterNetwork speaks of, by itself or by what it names.
pub(in crate::intent) fn declared_as(inputs: &Inputs, spec: &RouterNetworkSpec) -> Option<u16> {
    let reference = spec.harvester_ref.as_ref();
    let theirs = reference.and_then(|reference| {
        inputs.attachments.iter().find(|each| {
            each.id.namespace.as_deref() == Some(reference.namespace.as_str())
                && each.id.name == reference.name
        })
    });
    spec.vlan.or_else(|| theirs?.spec.vlan)
}

pub(super) fn from_attachment(
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
