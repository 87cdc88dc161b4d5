//! What the objects of a cluster say about its virtual addresses: Services with their endpoints, pools, BGP; and about links.
//!
//! Plain data that an edge has parsed: out of a folder of manifests, or of the Kubernetes API. Only what decides who should
//! advertise and answer an address is here.

mod intent;
mod select;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::address::Protocol;
use super::bgp::Reported;
use super::monitor::LinkMonitor;

pub use intent::{Here, Intent, PeerWish};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
pub use source::{Server, SourceState, Sources};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The objects, each kind sorted by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// `Service`, those with a load balancer's address and those whose other addresses may be advertised.
    pub services: Vec<Service>,
    /// Endpoints of each Service, from all its EndpointSlices; `None` when the source holds no EndpointSlice at all.
    pub endpoints: Option<BTreeMap<ObjectName, Vec<Endpoint>>>,
    /// `CiliumLoadBalancerIPPool`.
    pub pools: Vec<Pool>,
    /// `CiliumBGPAdvertisement`.
    pub advertisements: Vec<Advertisement>,
    /// `CiliumBGPPeerConfig`.
    pub peer_configs: Vec<PeerConfig>,
    /// `CiliumBGPNodeConfig`, and what a `CiliumBGPClusterConfig` says of nodes without one.
    pub speakers: Vec<Speaker>,
    /// What speakers say of their own sessions (status of a `CiliumBGPNodeConfig`), by node.
    pub reported: BTreeMap<String, Arc<Reported>>,
    /// `CiliumL2AnnouncementPolicy`.
    pub l2_policies: Vec<L2Policy>,
    /// Harvester's `LinkMonitor`.
    pub link_monitors: Vec<LinkMonitor>,
    /// `Node`.
    pub nodes: Vec<Node>,
    /// Whether other nodes than this agent's own are among the objects.
    pub nodes_known: NodesKnown,
    /// What could not be read.
    pub faults: Vec<Fault>,
}

/// Of which nodes a source tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodesKnown {
    /// Of all: what is not there is no node.
    #[default]
    All,
    /// Of the agent's own alone: nothing is concluded from another one that is missing.
    Own,
}

/// A name within a namespace, or without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectName {
    /// The namespace, for kinds that have one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its labels.
    pub labels: Labels,
    /// The load balancer's addresses: `status.loadBalancer.ingress` where `ipMode` is not `Proxy`.
    pub vips: Vec<IpAddr>,
    /// Its other addresses, cluster-internal and external.
    pub other_addresses: Vec<IpAddr>,
    /// Who answers on which node.
    pub policy: TrafficPolicy,
    /// The load balancer class, where one is set.
    pub class: Option<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `spec.loadBalancerSourceRanges`: who may come, everybody where it is empty.
    pub source_ranges: Vec<IpNet>,
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPolicy {
    /// Every node forwards to any endpoint.
    #[default]
    Cluster,
    /// A node serves only endpoints of its own.
    Local,
}

impl TrafficPolicy {
    /// The word of the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServicePort {
    /// The number.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// An endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The node on which it runs, where the object tells.
    pub node: Option<String>,
    /// What it can do now.
    pub state: EndpointState,
}

/// What an endpoint can do (`endpoints[].conditions` of discovery.k8s.io/v1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Takes connections.
    Ready,
    /// Is going, and still serves: used where no ready one is left.
    Draining,
    /// Takes none.
    Unready,
}

/// A pool of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its blocks.
    pub blocks: Vec<Block>,
    /// Which Services may have its addresses; all when absent.
    pub selector: Option<LabelSelector>,
    /// Whether new addresses are handed out.
    pub disabled: bool,
}

/// First and last address of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first.
    pub first: IpAddr,
    /// The last; of the same family and not before the first.
    pub last: IpAddr,
}

impl Block {
    /// A block from first to last address; `None` when they are of two families or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// Whether the block holds the address.
    pub fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }
}

/// What may be advertised.
#[derive(Clone, Debug, PartialEq)]
pub struct Advertisement {
    /// Its name.
    pub name: String,
    /// Its labels, by which peers choose it.
    pub labels: Labels,
    /// Its parts that advertise load balancer addresses of Services.
    pub services: Vec<ServiceAdvertisement>,
}

/// One part of an advertisement: load balancer addresses of some Services.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceAdvertisement {
    /// Which Services; none when absent.
    pub selector: Option<LabelSelector>,
    /// Prefix lengths to which addresses are aggregated, IPv4 and IPv6.
    pub aggregation: [Option<u8>; 2],
}

/// How speakers treat a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// Its name.
    pub name: String,
    /// The address families and which advertisements apply in them.
    pub families: Vec<PeerFamily>,
}

/// One address family of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerFamily {
    /// Whether it is IPv6; only unicast families are here.
    pub ipv6: bool,
    /// Which advertisements apply; none when absent.
    pub advertisements: Option<LabelSelector>,
}

/// The BGP speaker of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The node.
    pub node: String,
    /// The object that says so, such as `CiliumBGPNodeConfig node1`.
    pub object: String,
    /// Its peers.
    pub peers: Vec<SpeakerPeer>,
}

/// A peer of a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerPeer {
    /// Its name.
    pub name: String,
    /// Its address, unless the speaker finds it by itself.
    pub address: Option<IpAddr>,
    /// Its PeerConfig.
    pub config: Option<String>,
}

/// Which addresses are announced by ARP and neighbour discovery.
#[derive(Clone, Debug, PartialEq)]
pub struct L2Policy {
    /// Its name.
    pub name: String,
    /// Which Services; all when absent.
    pub selector: Option<LabelSelector>,
    /// Whether it announces load balancer addresses.
    pub load_balancer_ips: bool,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
}

/// A document or an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// File and document, or the API that was asked.
    pub place: String,
    /// What is wrong, and the way out.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl Cluster {
    /// Whether a cluster was read, and not only faults: no policy loses what it guards because a folder is away for a moment.
    pub fn is_read(&self) -> bool {
        self.faults.is_empty() || !self.services.is_empty()
    }

    /// All load balancer addresses.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.services.iter().flat_map(|service| service.vips.iter().copied())
    }

    /// The Services that have an address as their load balancer's. Several may share one.
    pub fn services_of(&self, vip: IpAddr) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(move |service| service.vips.contains(&vip))
    }

    /// The name of the node that has an address.
    pub fn node_of(&self, address: IpAddr) -> Option<&str> {
        self.nodes.iter().find(|node| node.addresses.contains(&address)).map(|node| node.name.as_str())
    }

    /// The endpoints of a Service; `None` where the source knows of none at all.
    pub fn endpoints_of(&self, service: &ObjectName) -> Option<&[Endpoint]> {
        let all = self.endpoints.as_ref()?;
        Some(all.get(service).map_or(&[], Vec::as_slice))
    }
}

impl Node {
    /// Whether a selector takes this node.
    pub fn is_selected(&self, selector: &LabelSelector) -> bool {
        select::selects(selector, &self.labels)
    }
}
