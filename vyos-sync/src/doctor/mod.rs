//! Contradictions between objects, the router, and documents of intent. Pure.

mod cilium;
mod claims;
mod dhcp;
mod documents;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    compile::Compiled,
    config::{Schema, SchemaError, Tree},
    crd::RouterSpec,
    inputs::{Inputs, Object},
    plan::{Class, Plan},
    secret::is_secret,
};

pub use claims::{Claim, Document, Party, Says, claims};
pub use documents::{Against, documents};

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
    let misplaced = compiled.intent.misplaced.iter().flatten().flatten();
    found.extend(compiled.problems().chain(misplaced).map(problem));
    found.extend(harvester(inputs));
    found.extend(hardware(inputs));
    found.extend(asn(inputs, router));
    found.extend(cilium::bites(inputs, router, compiled));
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
pub fn router(running: &Tree, desired: &Tree, plan: &Plan, schemas: &[&Schema]) -> Vec<Contradiction> {
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
        found.extend(unknown.map(|e| say("the router's own configuration", without_secret(&e))));
    }
    found.extend(shut(running, plan));
    found.extend(dhcp::answered_twice(running, desired));
    found.sort();
    found.dedup();
    found
}

/// What the schema says, unless that would tell a secret.
fn without_secret(error: &SchemaError) -> String {
    match is_secret(error.path()) {
        true => format!("{}: the value, a secret, is not one that this release takes", error.path()),
        false => error.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        compile,
        config::Dialect,
        inputs::{ClusterName, Collector},
        plan::Ledger,
    };

    fn said(documents: &[Value]) -> Vec<String> {
        let router = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gateway"},
            "spec": {"endpoints": ["https://10.10.10.1"], "tls": {}, "apiKey": {"file": "key"}, "grants": "Open",
                     "bgp": {"asn": 64512, "addresses": ["10.10.30.1"]}}});
        let mut collector = Collector::default();
        for document in documents.iter().chain([&router]) {
            collector.document("test", &ClusterName::local(), document.clone());
        }
        let inputs = collector.finish();
        let router = inputs.routers[0].clone();
        let compiled = compile::compile(&inputs, &router, Dialect::V1_5, &Tree::new(), &Ledger::default());
        objects(&inputs, &router, &compiled)
            .into_iter()
            .map(|it| format!("{}: {}", it.place, it.what))
            .collect()
    }

    fn network(gateway: &str) -> Value {
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork", "metadata": {"name": "tenant", "namespace": "platform"},
               "spec": {"routerRef": {"name": "gateway"}, "vlan": 40, "parent": {"name": "eth1"},
                        "subnets": [{"cidr": "10.10.40.0/24", "gateway": gateway}]}})
    }

    fn attachment(route: &str) -> Value {
        json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "tenant", "namespace": "default",
                         "labels": {"network.harvesterhci.io/vlan-id": "40", "network.harvesterhci.io/type": "L2VlanNetwork"},
                         "annotations": {"network.harvesterhci.io/route": route}},
            "spec": {"config": r#"{"type":"bridge","bridge":"data-br","vlan":40}"#}})
    }

    #[test]
    fn a_harvester_route_and_our_network_must_agree() {
        let route = |cidr: &str, gateway: &str| {
            format!(r#"{{"mode":"manual","cidr":"{cidr}","gateway":"{gateway}"}}"#)
        };
        let found = |route: &str| said(&[network("10.10.40.1"), attachment(route)]);
        let about =
            |found: Vec<String>| found.into_iter().filter(|it| it.contains("route says")).collect::<Vec<_>>();
        assert_eq!(about(found(&route("10.10.40.0/24", "10.10.40.1"))), Vec::<String>::new());
        let other = about(found(&route("10.10.41.0/24", "10.10.41.1")));
        assert!(
            other[0].contains("route says 10.10.41.0/24") && other[0].contains("10.10.40.0/24"),
            "{other:?}"
        );
        let gateway = about(found(&route("10.10.40.0/24", "10.10.40.254")));
        assert!(gateway[0].contains("route says gateway 10.10.40.254"), "{gateway:?}");
    }

    #[test]
    fn nodes_must_expect_the_routers_as_number() {
        let cluster = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPClusterConfig", "metadata": {"name": "c"},
            "spec": {"bgpInstances": [{"name": "i", "localASN": 64513, "peers": [
                {"name": "gateway", "peerAddress": "10.10.30.1", "peerASN": 65000}]}]}});
        let found = said(&[cluster]);
        assert!(found.iter().any(|it| it.contains("expects AS 65000")), "{found:?}");
    }
}
