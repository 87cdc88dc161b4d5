//! Contradictions between objects, and between objects and the router. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    compile::Compiled,
    config::{Schema, Tree},
    crd::RouterSpec,
    inputs::{Inputs, Object},
    plan::{Class, Plan},
};

/// Something that contradicts something else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Contradiction {
    /// Where it is seen: an object, or a path on the router.
    pub place: String,
    /// What is said there, and what is said elsewhere.
    pub what: String,
}

fn say(place: impl ToString, what: impl Into<String>) -> Contradiction {
    Contradiction { place: place.to_string(), what: what.into() }
}

/// Contradictions among the objects alone.
pub fn objects(inputs: &Inputs, router: &Object<RouterSpec>, compiled: &Compiled) -> Vec<Contradiction> {
    let mut found: Vec<_> =
        inputs.faults.iter().map(|f| say(&f.place, format!("{}; {}", f.what, f.way_out))).collect();
    let problem =
        |p: &crate::intent::Problem| say(&p.object, format!("{}: {}; {}", p.field, p.what, p.way_out));
    found.extend(compiled.problems().map(problem));
    found.extend(harvester(inputs));
    found.extend(hardware(inputs));
    found.extend(asn(inputs, router));
    found.sort();
    found.dedup();
    found
}

/// A Harvester network and a RouterNetwork of one VLAN must name the same subnet and gateway.
fn harvester(inputs: &Inputs) -> Vec<Contradiction> {
    let mut found = Vec::new();
    for attachment in &inputs.attachments {
        let Some(route) = attachment.spec.route.as_ref().filter(|r| r.is_manual()) else { continue };
        let same_vlan =
            inputs.networks.iter().filter(|n| n.spec.vlan.is_some() && n.spec.vlan == attachment.spec.vlan);
        for network in same_vlan.filter(|n| !n.spec.subnets.is_empty()) {
            match network.spec.subnets.iter().find(|s| same_net(&s.cidr, &route.cidr)) {
                None => {
                    let cidrs: Vec<&str> = network.spec.subnets.iter().map(|s| s.cidr.as_str()).collect();
                    let what = format!(
                        "route says {}, {} of the same VLAN says {}",
                        route.cidr,
                        network.id,
                        cidrs.join(", ")
                    );
                    found.push(say(&attachment.id, what));
                }
                Some(subnet)
                    if subnet
                        .gateway
                        .as_ref()
                        .is_some_and(|g| !route.gateway.is_empty() && *g != route.gateway) =>
                {
                    let theirs = subnet.gateway.clone().unwrap_or_default();
                    let what = format!("route says gateway {}, {} says {theirs}", route.gateway, network.id);
                    found.push(say(&attachment.id, what));
                }
                Some(_) => {}
            }
        }
    }
    found
}

fn same_net(a: &str, b: &str) -> bool {
    let net = |text: &str| text.parse::<IpNet>().ok().map(|n| n.trunc());
    net(a).is_some() && net(a) == net(b)
}

/// A machine's address belongs to the subnet of its VLAN.
fn hardware(inputs: &Inputs) -> Vec<Contradiction> {
    let mut found = Vec::new();
    for machine in &inputs.hardware {
        for interface in &machine.spec.interfaces {
            let (Some(ip), Some(vlan)) = (interface.ip, interface.vlan) else { continue };
            for network in inputs.networks.iter().filter(|n| n.spec.vlan == Some(vlan)) {
                let nets: Vec<IpNet> =
                    network.spec.subnets.iter().filter_map(|s| s.cidr.parse().ok()).collect();
                if !nets.is_empty() && !nets.iter().any(|net| net.contains(&ip)) {
                    let what = format!(
                        "{} has {ip} in VLAN {vlan}, which {} does not hold",
                        interface.mac, network.id
                    );
                    found.push(say(&machine.id, what));
                }
            }
        }
    }
    found
}

/// Nodes that dial this router must expect its AS number.
fn asn(inputs: &Inputs, router: &Object<RouterSpec>) -> Vec<Contradiction> {
    let Some(bgp) = &router.spec.bgp else { return Vec::new() };
    let ours: Vec<IpAddr> = bgp.addresses.iter().filter_map(|a| a.parse().ok()).collect();
    let mut found = Vec::new();
    for cluster in &inputs.bgp_clusters {
        for peer in cluster.spec.bgp_instances.iter().flat_map(|i| &i.peers) {
            let dials_us = peer.peer_address.as_ref().is_some_and(|a| ours.contains(&a.0));
            if let (true, Some(expected)) =
                (dials_us, peer.peer_asn.filter(|asn| *asn != 0 && *asn != bgp.asn))
            {
                let what =
                    format!("peer `{}` expects AS {expected}, {} is AS {}", peer.name, router.id, bgp.asn);
                found.push(say(&cluster.id, what));
            }
        }
    }
    found
}

/// Contradictions between the objects and a router's configuration.
pub fn router(running: &Tree, plan: &Plan, schemas: &[&Schema]) -> Vec<Contradiction> {
    let mut found = Vec::new();
    for entry in &plan.entries {
        let what = match entry.class {
            Class::Conflict => "others hold what is wanted here",
            Class::ForeignEdit => "others changed what is no longer wanted here",
            Class::Drift => "others changed what we made",
            Class::Extra => "others added something inside what is ours",
            _ => continue,
        };
        found.push(say(&entry.path, format!("{what} ({})", entry.by)));
    }
    found.extend(plan.blocked.iter().map(|b| say(&b.path, b.text.clone())));
    found.extend(plan.warnings.iter().map(|w| say("the router's own configuration", w.to_string())));
    for schema in schemas {
        let unknown = schema.validate(running).into_iter().filter(|e| schema.covers(e.path()));
        found.extend(unknown.map(|e| say("the router's own configuration", e.to_string())));
    }
    found.extend(shut(running, plan));
    found.sort();
    found.dedup();
    found
}

/// A neighbor that is shut by hand and that the objects want.
fn shut(running: &Tree, plan: &Plan) -> Vec<Contradiction> {
    let path = ["protocols", "bgp", "neighbor"];
    let shut = running.entries(&path).filter(|(_, neighbor)| neighbor.child("shutdown").is_some());
    let wanted =
        |address: &String| plan.entries.iter().any(|e| e.path.get(3) == Some(address) && e.want.is_some());
    shut.filter(|(address, _)| wanted(address))
        .map(|(address, _)| {
            say(format!("protocols bgp neighbor {address}"), "it is shut down, and the objects want it")
        })
        .collect()
}
