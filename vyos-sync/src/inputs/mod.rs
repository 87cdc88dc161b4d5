//! Everything the compiler reads, as plain owned data: our kinds, and the parts we need of other systems' objects.
//!
//! Nothing here does I/O. `gather` reads manifests or a cluster and calls [`Collector::document`] for each object.

mod cilium;
mod collect;
mod core;
mod id;
mod platform;
mod secret;

pub use cilium::{
    AdvertisedAddress, Advertisement, AutoDiscovery, BgpAdvertisement, BgpClusterConfig, BgpInstance,
    BgpNodeConfig, BgpNodeConfigOverride, BgpPeer, BgpPeerConfig, CiliumNode, Family, InstanceOverride,
    LoadBalancerPool, PeerOverride, PoolBlock,
};
pub use collect::Collector;
pub use core::{Address, Namespace, Node, Service, ServicePort};
pub use id::{ClusterName, Kind, Object, ObjectId};
pub use platform::{
    Attachment, CapiCluster, CapiMachine, Hardware, HardwareInterface, MachineInstance, Nic, VlanRoute,
};
pub use secret::{Secret, SecretBytes};

use crate::crd::{
    BGPPeeringSpec, PortPublicationSpec, RouterConfigSpec, RouterGrantSpec, RouterNetworkSpec, RouterSpec,
};

/// Everything that was read, sorted by identity: the order of files never matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Whether all of the source was read. Nothing is ever pruned from an incomplete reading.
    pub completeness: Completeness,
    /// What could not be read.
    pub faults: Vec<Fault>,
    /// `Router`.
    pub routers: Vec<Object<RouterSpec>>,
    /// `RouterGrant`.
    pub grants: Vec<Object<RouterGrantSpec>>,
    /// `RouterNetwork`.
    pub networks: Vec<Object<RouterNetworkSpec>>,
    /// `BGPPeering`.
    pub peerings: Vec<Object<BGPPeeringSpec>>,
    /// `PortPublication`.
    pub publications: Vec<Object<PortPublicationSpec>>,
    /// `RouterConfig`.
    pub configs: Vec<Object<RouterConfigSpec>>,
    /// `CiliumBGPClusterConfig`.
    pub bgp_clusters: Vec<Object<BgpClusterConfig>>,
    /// `CiliumBGPPeerConfig`.
    pub bgp_peer_configs: Vec<Object<BgpPeerConfig>>,
    /// `CiliumBGPNodeConfig`.
    pub bgp_nodes: Vec<Object<BgpNodeConfig>>,
    /// `CiliumBGPNodeConfigOverride`.
    pub bgp_overrides: Vec<Object<BgpNodeConfigOverride>>,
    /// `CiliumBGPAdvertisement`.
    pub bgp_advertisements: Vec<Object<BgpAdvertisement>>,
    /// `CiliumLoadBalancerIPPool`.
    pub pools: Vec<Object<LoadBalancerPool>>,
    /// `CiliumNode`.
    pub cilium_nodes: Vec<Object<CiliumNode>>,
    /// `Node`.
    pub nodes: Vec<Object<Node>>,
    /// `Service`.
    pub services: Vec<Object<Service>>,
    /// `Namespace`.
    pub namespaces: Vec<Object<Namespace>>,
    /// `Secret`.
    pub secrets: Vec<Object<Secret>>,
    /// Harvester's `NetworkAttachmentDefinition`.
    pub attachments: Vec<Object<Attachment>>,
    /// Tinkerbell's `Hardware`.
    pub hardware: Vec<Object<Hardware>>,
    /// KubeVirt's `VirtualMachineInstance`.
    pub machine_instances: Vec<Object<MachineInstance>>,
    /// Cluster API's `Cluster`.
    pub capi_clusters: Vec<Object<CapiCluster>>,
    /// Cluster API's `Machine`.
    pub capi_machines: Vec<Object<CapiMachine>>,
}

/// Whether all of a source was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completeness {
    /// Every manifest and object was read.
    Complete,
    /// Something was missing or unreadable, or there was nothing at all: never a reason to delete.
    #[default]
    Incomplete,
}

/// A manifest or an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{place}: {what}; {way_out}")]
pub struct Fault {
    /// File and document, or the API that was asked.
    pub place: String,
    /// The object, where it could be told.
    pub object: Option<ObjectId>,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub way_out: String,
}

impl Inputs {
    /// The Router of that name.
    pub fn router(&self, name: &str) -> Option<&Object<RouterSpec>> {
        self.routers.iter().find(|router| router.id.name == name)
    }

    /// The value of one key of a Secret, of the cluster that `near` comes from.
    pub fn secret(
        &self,
        cluster: &ClusterName,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Option<&SecretBytes> {
        let same = |secret: &&Object<Secret>| {
            secret.id.cluster == *cluster
                && secret.id.namespace.as_deref() == Some(namespace)
                && secret.id.name == name
        };
        self.secrets.iter().find(same)?.spec.0.get(key)
    }
}
