//! Cilium's BGP and load balancer objects, as far as we need them (cilium.io/v2 and v2alpha1 alike).

use super::core::{Address, field, plain};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// `CiliumBGPClusterConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpClusterConfig {
    /// Which nodes speak BGP; all when absent.
    pub node_selector: Option<LabelSelector>,
    /// The speakers on each node.
    pub bgp_instances: Vec<BgpInstance>,
}

/// `CiliumBGPNodeConfig`: the configuration of one node, named like the node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpNodeConfig {
    /// The speakers on the node.
    pub bgp_instances: Vec<BgpInstance>,
}

/// One BGP speaker of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpInstance {
    /// Its name.
    pub name: String,
    /// Its AS number.
    #[serde(rename = "localASN")]
    pub local_asn: Option<u32>,
    /// The port it listens on. Absent: it only dials.
    pub local_port: Option<u16>,
    /// Its peers.
    pub peers: Vec<BgpPeer>,
}

/// One peer of a speaker: the router, seen from the node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeer {
    /// Its name.
    pub name: String,
    /// The peer's address.
    pub peer_address: Option<Address>,
    /// The peer's AS number; 0 or absent is any.
    #[serde(rename = "peerASN")]
    pub peer_asn: Option<u32>,
    /// The node's own address towards this peer.
    pub local_address: Option<Address>,
    /// How the address is found where it is not given.
    pub auto_discovery: Option<AutoDiscovery>,
    /// The CiliumBGPPeerConfig.
    pub peer_config_ref: Option<NameRef>,
}

impl BgpPeer {
    /// Name of the CiliumBGPPeerConfig.
    pub fn config_name(&self) -> Option<&str> {
        self.peer_config_ref.as_ref().map(|reference| reference.name.as_str())
    }
}

/// A reference by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct NameRef {
    /// The name.
    pub name: String,
}

/// How a node finds its peer's address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoDiscovery {
    /// `DefaultGateway` or `Unnumbered`.
    pub mode: String,
    /// Settings of the mode `DefaultGateway`.
    pub default_gateway: Option<DefaultGateway>,
}

/// Settings of the mode `DefaultGateway`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultGateway {
    /// `ipv4` or `ipv6`.
    pub address_family: String,
}

/// `CiliumBGPNodeConfigOverride`, named like the node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpNodeConfigOverride {
    /// What differs on the node's speakers.
    pub bgp_instances: Vec<InstanceOverride>,
}

/// What differs on one speaker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceOverride {
    /// Which speaker.
    pub name: String,
    /// Its AS number.
    #[serde(rename = "localASN")]
    pub local_asn: Option<u32>,
    /// The port it listens on.
    pub local_port: Option<u16>,
    /// What differs towards its peers.
    pub peers: Vec<PeerOverride>,
}

/// What differs towards one peer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerOverride {
    /// Which peer.
    pub name: String,
    /// The node's own address towards it.
    pub local_address: Option<Address>,
}

/// `CiliumBGPPeerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerConfig {
    /// Port and source.
    pub transport: Option<Transport>,
    /// Timers.
    pub timers: Option<PeerTimers>,
    /// Secret with the TCP-MD5 password, in Cilium's secrets namespace.
    pub auth_secret_ref: Option<String>,
    /// Graceful restart.
    pub graceful_restart: Option<GracefulRestart>,
    /// TTL; 1 or absent is a direct peer.
    pub ebgp_multihop: Option<u8>,
    /// Families and what is advertised in them.
    pub families: Option<Vec<Family>>,
}

impl BgpPeerConfig {
    /// Hold time and keepalive interval in seconds; Cilium's defaults are 90 and 30.
    pub fn hold_and_keepalive(&self) -> (u16, u16) {
        let timers = self.timers.clone().unwrap_or_default();
        (timers.hold_time_seconds.unwrap_or(90), timers.keep_alive_time_seconds.unwrap_or(30))
    }

    /// Whether the node restarts gracefully.
    pub fn restarts_gracefully(&self) -> bool {
        self.graceful_restart.as_ref().is_some_and(|restart| restart.enabled)
    }

    /// The port on which the node dials the router, 179 by default.
    pub fn peer_port(&self) -> u16 {
        self.transport.as_ref().and_then(|transport| transport.peer_port).unwrap_or(179)
    }
}

/// Port of a peer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Transport {
    /// The port that is dialled.
    pub peer_port: Option<u16>,
}

/// Timers in seconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerTimers {
    /// Hold time.
    pub hold_time_seconds: Option<u16>,
    /// Keepalive interval.
    pub keep_alive_time_seconds: Option<u16>,
}

/// Graceful restart (RFC 4724).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GracefulRestart {
    /// Whether it is on.
    pub enabled: bool,
    /// Restart time.
    pub restart_time_seconds: Option<u16>,
}

/// One address family of a peer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Family {
    /// `ipv4` or `ipv6`.
    pub afi: String,
    /// `unicast` and others.
    pub safi: String,
    /// Which CiliumBGPAdvertisements apply; none when absent.
    pub advertisements: Option<LabelSelector>,
}

/// `CiliumBGPAdvertisement`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpAdvertisement {
    /// What is advertised.
    pub advertisements: Vec<Advertisement>,
}

/// One sort of prefixes that is advertised.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Advertisement {
    /// `Service`, `PodCIDR`, `CiliumPodIPPool` or `Interface`.
    pub advertisement_type: String,
    /// Settings of the type `Service`.
    pub service: Option<ServiceAdvertisement>,
    /// Which objects.
    pub selector: Option<LabelSelector>,
}

/// Settings of the type `Service`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAdvertisement {
    /// Which addresses of the Service.
    pub addresses: Vec<AdvertisedAddress>,
    /// Prefix length to which IPv4 addresses are aggregated.
    #[serde(rename = "aggregationLengthIPv4")]
    pub aggregation_length_ipv4: Option<u8>,
    /// Prefix length to which IPv6 addresses are aggregated.
    #[serde(rename = "aggregationLengthIPv6")]
    pub aggregation_length_ipv6: Option<u8>,
}

/// An address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AdvertisedAddress {
    /// The load balancer's.
    #[serde(rename = "LoadBalancerIP")]
    LoadBalancer,
    /// The cluster-internal one.
    #[serde(rename = "ClusterIP")]
    Cluster,
    /// The external ones.
    #[serde(rename = "ExternalIP")]
    External,
}

/// `CiliumLoadBalancerIPPool`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerPool {
    /// Its blocks.
    #[serde(alias = "cidrs")]
    pub blocks: Vec<PoolBlock>,
    /// Whether new addresses are handed out. A disabled pool's addresses stay in use.
    pub disabled: bool,
}

/// A block of a pool: a prefix, or a first and last address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PoolBlock {
    /// The prefix.
    pub cidr: Option<String>,
    /// The first address.
    pub start: Option<Address>,
    /// The last address, by default the first.
    pub stop: Option<Address>,
}

/// `CiliumNode`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumNode {
    /// Its `InternalIP` addresses.
    pub addresses: Vec<IpAddr>,
    /// Its pod prefixes.
    pub pod_cidrs: Vec<String>,
}

pub(super) fn cilium_node(object: &Value) -> Result<CiliumNode, String> {
    #[derive(Deserialize)]
    struct Entry {
        ip: Address,
        #[serde(default, rename = "type")]
        kind: String,
    }
    let entries: Vec<Entry> = field(object, "/spec/addresses")?;
    let internal = entries.into_iter().filter(|entry| entry.kind == "InternalIP").map(|entry| entry.ip);
    Ok(CiliumNode { addresses: plain(internal.collect()), pod_cidrs: field(object, "/spec/ipam/podCIDRs")? })
}
