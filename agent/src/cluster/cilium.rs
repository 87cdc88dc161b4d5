//! Cilium's objects, as far as they decide about virtual addresses (cilium.io/v2 and v2alpha1 alike).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::core::address;
use super::parts::part;
use crate::model::cluster::{
    Advertisement, Block, L2Policy, LabelSelector, Labels, Node, PeerConfig, PeerFamily, Pool,
    ServiceAdvertisement, Speaker, SpeakerPeer,
};

/// A pool.
pub(super) fn pool(name: String, document: &Value) -> Result<Pool, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Spec {
        #[serde(alias = "cidrs")]
        blocks: Vec<Entry>,
        service_selector: Option<LabelSelector>,
        disabled: bool,
    }
    #[derive(Deserialize)]
    struct Entry {
        cidr: Option<String>,
        start: Option<String>,
        stop: Option<String>,
    }
    let spec: Spec = part(document, "spec")?;
    let blocks = spec.blocks.into_iter().enumerate().map(|(at, entry)| {
        block(entry.cidr, entry.start, entry.stop).map_err(|what| format!("spec.blocks[{at}]: {what}"))
    });
    let blocks = blocks.collect::<Result<_, _>>()?;
    Ok(Pool { name, blocks, selector: spec.service_selector, disabled: spec.disabled })
}

fn block(cidr: Option<String>, start: Option<String>, stop: Option<String>) -> Result<Block, String> {
    let (first, last): (IpAddr, IpAddr) = match (cidr, start) {
        (Some(text), _) => {
            let net: IpNet = text.parse().map_err(|_| format!("cidr `{text}` is no prefix"))?;
            // A pool of one prefix may hand out its first and last address too; whether it does is not asked here.
            (net.network(), net.broadcast())
        }
        (None, Some(start)) => {
            let first = address(&start)?;
            (first, stop.map_or(Ok(first), |stop| address(&stop))?)
        }
        (None, None) => return Err("it has neither cidr nor start".to_owned()),
    };
    Block::new(first, last).ok_or_else(|| format!("{first} to {last} is no range"))
}

/// An advertisement.
pub(super) fn advertisement(name: String, document: &Value) -> Result<Advertisement, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Spec {
        advertisements: Vec<Entry>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Entry {
        advertisement_type: String,
        service: Option<OfService>,
        selector: Option<LabelSelector>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct OfService {
        addresses: Vec<String>,
        #[serde(rename = "aggregationLengthIPv4")]
        v4: Option<u8>,
        #[serde(rename = "aggregationLengthIPv6")]
        v6: Option<u8>,
    }
    let spec: Spec = part(document, "spec")?;
    let services = spec.advertisements.into_iter().filter_map(|entry| {
        let service = entry.service.filter(|_| entry.advertisement_type == "Service")?;
        let balanced = service.addresses.iter().any(|one| one == "LoadBalancerIP");
        let aggregation = [service.v4, service.v6];
        balanced.then_some(ServiceAdvertisement { selector: entry.selector, aggregation })
    });
    Ok(Advertisement { name, labels: own_labels(document)?, services: services.collect() })
}

/// How speakers treat a peer.
pub(super) fn peer_config(name: String, document: &Value) -> Result<PeerConfig, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Spec {
        families: Option<Vec<Family>>,
    }
    #[derive(Deserialize)]
    struct Family {
        afi: String,
        safi: String,
        advertisements: Option<LabelSelector>,
    }
    let spec: Spec = part(document, "spec")?;
    let unicast = spec.families.into_iter().flatten().filter(|family| family.safi == "unicast");
    let families = unicast
        .map(|family| PeerFamily { ipv6: family.afi == "ipv6", advertisements: family.advertisements });
    Ok(PeerConfig { name, families: families.collect() })
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Instances {
    bgp_instances: Vec<Instance>,
    node_selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Instance {
    peers: Vec<Peer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Peer {
    name: String,
    peer_address: Option<String>,
    peer_config_ref: Option<Reference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Reference {
    name: String,
}

impl Instances {
    fn peers(self) -> Result<Vec<SpeakerPeer>, String> {
        let peers = self.bgp_instances.into_iter().flat_map(|instance| instance.peers);
        let each = peers.map(|peer| {
            let address = peer.peer_address.map(|text| address(&text)).transpose();
            let address = address.map_err(|what| format!("peer {} peerAddress: {what}", peer.name))?;
            Ok(SpeakerPeer { name: peer.name, address, config: peer.peer_config_ref.map(|one| one.name) })
        });
        each.collect()
    }
}

/// The speaker of a node.
pub(super) fn node_config(node: String, document: &Value) -> Result<Speaker, String> {
    let spec: Instances = part(document, "spec")?;
    Ok(Speaker { object: format!("CiliumBGPNodeConfig {node}"), node, peers: spec.peers()? })
}

/// The speakers of all nodes that a selector takes.
#[derive(Clone, Debug)]
pub(super) struct ClusterSpeakers {
    name: String,
    selector: Option<LabelSelector>,
    peers: Vec<SpeakerPeer>,
}

impl ClusterSpeakers {
    /// Whether a node has such a speaker.
    pub(super) fn selects(&self, node: &Node) -> bool {
        self.selector.as_ref().is_none_or(|selector| node.is_selected(selector))
    }

    /// The speaker of a node.
    pub(super) fn speaker(&self, node: &str) -> Speaker {
        let object = format!("CiliumBGPClusterConfig {}", self.name);
        Speaker { node: node.to_owned(), object, peers: self.peers.clone() }
    }
}

/// The speakers of a cluster.
pub(super) fn cluster_config(name: String, document: &Value) -> Result<ClusterSpeakers, String> {
    let spec: Instances = part(document, "spec")?;
    let selector = spec.node_selector.clone();
    Ok(ClusterSpeakers { name, selector, peers: spec.peers()? })
}

/// Which addresses are announced by ARP and neighbour discovery.
pub(super) fn l2_policy(name: String, document: &Value) -> Result<L2Policy, String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        service_selector: Option<LabelSelector>,
        #[serde(rename = "loadBalancerIPs")]
        load_balancer_ips: bool,
    }
    let spec: Spec = part(document, "spec")?;
    Ok(L2Policy { name, selector: spec.service_selector, load_balancer_ips: spec.load_balancer_ips })
}

fn own_labels(document: &Value) -> Result<Labels, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Metadata {
        labels: Option<Labels>,
    }
    let metadata: Metadata = part(document, "metadata")?;
    Ok(metadata.labels.unwrap_or_default())
}
