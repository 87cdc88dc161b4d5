//! One object of a cluster, parsed by itself; and the cluster that many of them make.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{cilium, core, harvester};
use crate::model::bgp::Reported;
use crate::model::cluster::{
    Advertisement, Cluster, Endpoint, Fault, L2Policy, Node, ObjectName, PeerConfig, Pool, Service, Speaker,
};
use crate::model::monitor::LinkMonitor;

/// What one object says.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// A `Service` with an address.
    Service(Service),
    /// Endpoints of a Service, of one `EndpointSlice`.
    Slice(ObjectName, Vec<Endpoint>),
    /// A `Node`.
    Node(Node),
    /// A `CiliumLoadBalancerIPPool`.
    Pool(Pool),
    /// A `CiliumBGPAdvertisement`.
    Advertisement(Advertisement),
    /// A `CiliumBGPPeerConfig`.
    PeerConfig(PeerConfig),
    /// A `CiliumBGPNodeConfig`: what the node's speaker is to do, what it says of itself, and what of that makes no sense.
    Speaker(Speaker, Arc<Reported>, Vec<String>),
    /// A `CiliumBGPClusterConfig`.
    ClusterSpeakers(cilium::ClusterSpeakers),
    /// A `CiliumL2AnnouncementPolicy`.
    L2Policy(L2Policy),
    /// A `LinkMonitor`.
    LinkMonitor(LinkMonitor),
    /// An object that has nothing to do with any virtual address.
    Nothing,
}

impl Part {
    /// The part without what it says of other nodes' links: what is kept must not grow with the cluster.
    pub(super) fn of_node(mut self, node: &str) -> Self {
        if let Part::LinkMonitor(monitor) = &mut self {
            monitor.links.retain(|of, _| of == node);
        }
        self
    }
}

/// How an object of a group and kind is read; versions are not looked at, since all fields are optional to us.
pub(super) type Reader = fn(ObjectName, &Value) -> Result<Part, String>;

/// The reader of a group and kind, where it is one that is read.
pub(super) fn reader(group: &str, kind: &str) -> Option<Reader> {
    Some(match (group, kind) {
        ("", "Service") => {
            |name, document| Ok(core::service(name, document)?.map_or(Part::Nothing, Part::Service))
        }
        ("", "Node") => |name, document| core::node(name.name, document).map(Part::Node),
        ("discovery.k8s.io", "EndpointSlice") => |name, document| {
            let slice = core::endpoint_slice(name, document)?;
            Ok(slice.map_or(Part::Nothing, |(service, endpoints)| Part::Slice(service, endpoints)))
        },
        ("cilium.io", "CiliumLoadBalancerIPPool") => {
            |name, document| cilium::pool(name.name, document).map(Part::Pool)
        }
        ("cilium.io", "CiliumBGPAdvertisement") => {
            |name, document| cilium::advertisement(name.name, document).map(Part::Advertisement)
        }
        ("cilium.io", "CiliumBGPPeerConfig") => {
            |name, document| cilium::peer_config(name.name, document).map(Part::PeerConfig)
        }
        ("cilium.io", "CiliumBGPNodeConfig") => |name, document| {
            let speaker = cilium::node_config(name.name, document)?;
            let (reported, bad) = Reported::of_node_config(document);
            let flaws = bad.iter().map(ToString::to_string).collect();
            Ok(Part::Speaker(speaker, Arc::new(reported), flaws))
        },
        ("cilium.io", "CiliumBGPClusterConfig") => {
            |name, document| cilium::cluster_config(name.name, document).map(Part::ClusterSpeakers)
        }
        ("cilium.io", "CiliumL2AnnouncementPolicy") => {
            |name, document| cilium::l2_policy(name.name, document).map(Part::L2Policy)
        }
        ("network.harvesterhci.io", "LinkMonitor") => {
            |name, document| harvester::link_monitor(name.name, document).map(Part::LinkMonitor)
        }
        _ => return None,
    })
}

/// The cluster that parts make, each with the place that it is from. [`Cluster::nodes_known`] is for the caller to say.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    cluster: Cluster,
    endpoints: BTreeMap<ObjectName, Vec<Endpoint>>,
    has_slices: bool,
    cluster_speakers: Vec<cilium::ClusterSpeakers>,
}

impl Assembly {
    /// Takes a part in.
    pub(super) fn add(&mut self, place: &str, part: Part) {
        let cluster = &mut self.cluster;
        match part {
            Part::Service(service) => cluster.services.push(service),
            Part::Slice(service, endpoints) => self.slice(service, endpoints),
            Part::Node(node) => cluster.nodes.push(node),
            Part::Pool(pool) => cluster.pools.push(pool),
            Part::Advertisement(one) => cluster.advertisements.push(one),
            Part::PeerConfig(config) => cluster.peer_configs.push(config),
            Part::Speaker(speaker, reported, flaws) => {
                cluster.reported.insert(speaker.node.clone(), reported);
                cluster.speakers.push(speaker);
                flaws.into_iter().for_each(|what| self.fault(place, what));
            }
            Part::ClusterSpeakers(config) => self.cluster_speakers.push(config),
            Part::L2Policy(policy) => cluster.l2_policies.push(policy),
            Part::LinkMonitor(monitor) => cluster.link_monitors.push(monitor),
            Part::Nothing => {}
        }
    }

    /// Says that there are slices, though none is of a Service that counts.
    pub(super) fn knows_endpoints(&mut self) {
        self.has_slices = true;
    }

    /// Notes what could not be read.
    pub(super) fn fault(&mut self, place: &str, what: String) {
        self.cluster.faults.push(Fault { place: place.to_owned(), what });
    }

    fn slice(&mut self, service: ObjectName, endpoints: Vec<Endpoint>) {
        self.has_slices = true;
        let known = self.endpoints.entry(service).or_default();
        for endpoint in endpoints {
            // While an endpoint moves from one slice to another it may be in both.
            if !known.contains(&endpoint) {
                known.push(endpoint);
            }
        }
    }

    /// The cluster, each kind sorted by name.
    pub(super) fn finish(mut self) -> Cluster {
        let cluster = &mut self.cluster;
        // The NodeConfig is what Cilium made of it; the ClusterConfig speaks only for nodes without one.
        let own: BTreeSet<String> = cluster.speakers.iter().map(|speaker| speaker.node.clone()).collect();
        for config in &self.cluster_speakers {
            let nodes = cluster.nodes.iter().filter(|node| config.selects(node) && !own.contains(&node.name));
            let speakers: Vec<Speaker> = nodes.map(|node| config.speaker(&node.name)).collect();
            cluster.speakers.extend(speakers);
        }
        cluster.endpoints = self.has_slices.then_some(self.endpoints);
        cluster.services.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.pools.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.advertisements.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.peer_configs.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.speakers.sort_by(|a, b| (&a.node, &a.object).cmp(&(&b.node, &b.object)));
        cluster.l2_policies.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.link_monitors.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.faults.sort();
        self.cluster
    }
}

/// A part of a document as a type; the error names the field. An absent part is as if it were empty.
pub(super) fn part<T: DeserializeOwned>(document: &Value, name: &str) -> Result<T, String> {
    let value = document.get(name).cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    typed(value).map_err(|what| format!("{name}.{what}"))
}

/// A document as a type; the error names the field.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        format!("{path}: {}", error.into_inner())
    })
}
