//! Kubernetes' own objects, as far as they decide about virtual addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::Value;

use super::parts::typed;
use crate::model::address::Protocol;
use crate::model::cluster::{
    Endpoint, EndpointState, Labels, Node, ObjectName, Service, ServicePort, TrafficPolicy,
};

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service, or none when it has no address that anybody could advertise.
pub(super) fn service(name: ObjectName, document: &Value) -> Result<Option<Service>, String> {
    let object: core::Service = typed(document.clone())?;
    let spec = object.spec.unwrap_or_default();
    let ingress = object.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
    let mut vips = Vec::new();
    for (at, entry) in ingress.unwrap_or_default().into_iter().enumerate() {
        // With ipMode Proxy packets arrive for the node's address, not for this one (KEP-1860).
        if let Some(ip) = entry.ip.filter(|_| entry.ip_mode.as_deref() != Some("Proxy")) {
            vips.push(address(&ip).map_err(|what| format!("status.loadBalancer.ingress[{at}].ip: {what}"))?);
        }
    }
    let texts = spec.cluster_ips.unwrap_or_default().into_iter().chain(spec.cluster_ip);
    let texts = texts.chain(spec.external_ips.unwrap_or_default());
    // A headless Service has the word `None` in place of an address.
    let others = texts.filter(|text| text != "None" && !text.is_empty());
    let mut other_addresses = others.map(|text| address(&text)).collect::<Result<Vec<_>, _>>()?;
    other_addresses.sort();
    other_addresses.dedup();
    if vips.is_empty() && other_addresses.is_empty() {
        return Ok(None);
    }
    Ok(Some(Service {
        name,
        labels: labels(object.metadata.labels),
        vips,
        other_addresses,
        policy: match spec.external_traffic_policy.as_deref() {
            Some("Local") => TrafficPolicy::Local,
            None | Some("Cluster" | "") => TrafficPolicy::Cluster,
            Some(other) => {
                return Err(format!("spec.externalTrafficPolicy: `{other}` is neither Cluster nor Local"));
            }
        },
        class: spec.load_balancer_class,
        ports: ports(spec.ports.unwrap_or_default())?,
        source_ranges: ranges(spec.load_balancer_source_ranges.unwrap_or_default())?,
    }))
}

fn ranges(texts: Vec<String>) -> Result<Vec<IpNet>, String> {
    let range = |text: &String| {
        let net: Result<IpNet, _> = text.trim().parse();
        net.map(|net| net.trunc())
            .map_err(|_| format!("spec.loadBalancerSourceRanges: `{text}` is no prefix"))
    };
    texts.iter().map(range).collect()
}

fn ports(entries: Vec<core::ServicePort>) -> Result<Vec<ServicePort>, String> {
    let each = entries.into_iter().enumerate().map(|(at, entry)| {
        let number = entry.port;
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("spec.ports[{at}].port: {number} is no port"))?;
        let protocol = match entry.protocol.as_deref() {
            None | Some("TCP") => 6,
            Some("UDP") => 17,
            Some("SCTP") => 132,
            Some(other) => return Err(format!("spec.ports[{at}].protocol: `{other}` is not known")),
        };
        Ok(ServicePort { port, protocol: Protocol(protocol) })
    });
    each.collect()
}

/// The Service of a slice and its endpoints; none where it names no Service.
pub(super) fn endpoint_slice(
    name: ObjectName,
    document: &Value,
) -> Result<Option<(ObjectName, Vec<Endpoint>)>, String> {
    let slice: discovery::EndpointSlice = typed(document.clone())?;
    let service = slice.metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME));
    let Some(service) = service else { return Ok(None) };
    if slice.address_type == "FQDN" {
        return Ok(None);
    }
    let mut endpoints = Vec::new();
    for (at, endpoint) in slice.endpoints.into_iter().flatten().enumerate() {
        let conditions = endpoint.conditions.unwrap_or_default();
        // Absent conditions: ready counts as true, serving as ready (discovery/v1 types).
        let ready = conditions.ready.unwrap_or(true);
        let serving = conditions.serving.unwrap_or(ready);
        let state = match (ready, serving && conditions.terminating == Some(true)) {
            (true, _) => EndpointState::Ready,
            (false, true) => EndpointState::Draining,
            (false, false) => EndpointState::Unready,
        };
        // All addresses of an endpoint are one endpoint; the first is used (the others have no meaning).
        if let Some(text) = endpoint.addresses.first() {
            let address = address(text).map_err(|what| format!("endpoints[{at}].addresses[0]: {what}"))?;
            endpoints.push(Endpoint { address, node: endpoint.node_name, state });
        }
    }
    Ok(Some((ObjectName { namespace: name.namespace, name: service }, endpoints)))
}

/// A Node.
pub(super) fn node(name: String, document: &Value) -> Result<Node, String> {
    let object: core::Node = typed(document.clone())?;
    let entries = object.status.and_then(|status| status.addresses).unwrap_or_default();
    let own = entries.into_iter().filter(|entry| entry.type_ == "InternalIP" || entry.type_ == "ExternalIP");
    let addresses = own.map(|entry| address(&entry.address)).collect::<Result<_, _>>();
    let addresses = addresses.map_err(|what| format!("status.addresses: {what}"))?;
    Ok(Node { name, addresses, labels: labels(object.metadata.labels) })
}

fn labels(of: Option<std::collections::BTreeMap<String, String>>) -> Labels {
    of.unwrap_or_default()
}

/// An address in any spelling; an IPv4-mapped one as IPv4.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.trim().parse().map_err(|_| format!("`{text}` is not an IP address"))?;
    Ok(address.to_canonical())
}
