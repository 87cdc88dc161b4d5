//! What the node and its cluster know and policies refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::model::address::IfIndex;
use crate::model::cluster::{Block, Cluster, Service};

/// What the node knows and policies refer to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The node's name.
    pub node: String,
    /// The node's labels, where they are known.
    pub labels: Option<BTreeMap<String, String>>,
    /// Prefixes of pools of virtual addresses, where a cluster is known.
    pub pools: Option<BTreeMap<String, Vec<IpNet>>>,
    /// What Services have at virtual addresses, where a cluster is known.
    pub services: Option<Vec<Served>>,
    /// Addresses of Pods in Istio's ambient mesh, where a cluster tells.
    pub enrolled: Option<Vec<IpAddr>>,
    /// Addresses at which this node's replicas of Longhorn are not to be spoken with, where a cluster tells.
    pub replicas: Option<Vec<IpAddr>>,
    /// Interfaces by index.
    pub links: BTreeMap<IfIndex, String>,
    /// Virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Numbers of traffic classes by name.
    pub classes: BTreeMap<String, u8>,
}

/// Ports of Services that are open to the same sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Virtual addresses.
    pub vips: Vec<IpNet>,
    /// IANA protocol number.
    pub protocol: u8,
    /// The ports.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Who may come; everybody without it.
    pub source_ranges: Option<Vec<IpNet>>,
}

impl World {
    /// The same with what a cluster declares.
    pub fn with_cluster(self, cluster: Option<&Cluster>) -> Self {
        let Some(cluster) = cluster else { return self };
        let node = cluster.nodes.iter().find(|node| node.name == self.node);
        let pool = |pool: &crate::model::cluster::Pool| {
            (pool.name.clone(), pool.blocks.iter().flat_map(prefixes).collect())
        };
        Self {
            labels: node.map(|node| node.labels.clone()),
            pools: Some(cluster.pools.iter().map(pool).collect()),
            services: Some(served(&cluster.services)),
            ..self
        }
    }
}

/// The prefixes that a block of addresses falls into.
fn prefixes(block: &Block) -> Vec<IpNet> {
    match (block.first, block.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    }
}

/// Protocol, ports and source ranges of Services that are alike.
type Kind<'a> = (u8, BTreeSet<u16>, &'a [IpNet]);

fn served(services: &[Service]) -> Vec<Served> {
    let mut alike: BTreeMap<Kind<'_>, BTreeSet<IpAddr>> = BTreeMap::new();
    for service in services.iter().filter(|service| !service.vips.is_empty()) {
        let mut ports: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
        for port in &service.ports {
            ports.entry(port.protocol.0).or_default().insert(port.port);
        }
        for (protocol, ports) in ports {
            alike.entry((protocol, ports, &service.source_ranges)).or_default().extend(&service.vips);
        }
    }
    let one = |((protocol, ports, ranges), vips): (Kind<'_>, BTreeSet<IpAddr>)| Served {
        vips: vips.into_iter().map(IpNet::from).collect(),
        protocol,
        ports: ports.into_iter().map(|port| port..=port).collect(),
        source_ranges: (!ranges.is_empty()).then(|| ranges.to_vec()),
    };
    alike.into_iter().map(one).collect()
}
