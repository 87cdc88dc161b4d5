//! Everything the compiler reads, as plain owned data: our kinds, and the parts we need of other systems' objects.
//!
//! Nothing here does I/O. `gather` reads manifests or a cluster and calls [`Collector::document`] for each object.

mod cilium;
mod cilium_config;
mod collect;
mod core;
mod id;
mod machine;
mod node;
mod platform;
mod secret;
mod sighting;
mod snapshot;
mod store;

pub use cilium::{
    AdvertisedAddress, Advertisement, AutoDiscovery, BgpAdvertisement, BgpClusterConfig, BgpInstance,
    BgpNodeConfig, BgpNodeConfigOverride, BgpPeer, BgpPeerConfig, CiliumNode, Family, InstanceOverride,
    LoadBalancerPool, PeerOverride, PoolBlock,
};
pub use cilium_config::{CiliumConfig, PeeringPolicy, PolicyNeighbor, VirtualRouter};
pub use collect::{Collector, read_one};
pub use core::{Address, Namespace, Node, Service, ServicePort};
pub use id::{ClusterName, Kind, Object, ObjectId};
pub use node::{NodeKey, NodeRouting, NodeWord};
pub use platform::{
    Attachment, CapiCluster, CapiMachine, Hardware, HardwareInterface, MachineInstance, Nic, VirtualMachine,
    VlanRoute,
};
pub use secret::{Secret, SecretBytes};
pub use sighting::{Look, Place, Sighting, Worth};
pub use snapshot::{Meta, Snapshot, SourceState};
pub use store::{Entry, StoreState, Stored};

use crate::crd::{
    BGPPeeringSpec, PortPublicationSpec, RouterConfigSpec, RouterGrantSpec, RouterNetworkSpec, RouterSpec,
};
use std::collections::BTreeMap;

/// Everything that was read, sorted by identity: the order of files never matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Whether all of the source was read. What the unread part could want is never pruned.
    pub completeness: Completeness,
    /// Where it was read.
    pub origin: Origin,
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
    /// `CiliumBGPPeeringPolicy`, which is not followed.
    pub retired_policies: Vec<Object<PeeringPolicy>>,
    /// The ConfigMap `cilium-config` of each cluster.
    pub cilium_configs: Vec<Object<CiliumConfig>>,
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
    /// KubeVirt's `VirtualMachine`.
    pub virtual_machines: Vec<Object<VirtualMachine>>,
    /// Cluster API's `Cluster`.
    pub capi_clusters: Vec<Object<CapiCluster>>,
    /// Cluster API's `Machine`.
    pub capi_machines: Vec<Object<CapiMachine>>,
    /// `NodeDatapath`: what the nodes' agents say.
    pub node_words: Vec<Object<NodeWord>>,
    /// What is known of the store of secrets.
    pub store: Stored,
    /// Clusters of which not all is known now, and why. Their objects are as last known; nothing of theirs is removed.
    pub stale: BTreeMap<ClusterName, String>,
    /// What the router does with a node's sessions, where that was decided before the pass: drains and health.
    pub routing: BTreeMap<NodeKey, NodeRouting>,
    /// Where the router sees machines, where it was asked.
    pub sightings: Option<Look<Sighting>>,
}

/// Gives every list of [`Inputs`] to a macro, so that none is forgotten where all are meant.
macro_rules! for_all_lists {
    ($apply:ident) => {
        $apply! {
            routers grants networks peerings publications configs
            bgp_clusters bgp_peer_configs bgp_nodes bgp_overrides bgp_advertisements retired_policies
            cilium_configs pools cilium_nodes nodes services namespaces secrets
            attachments hardware machine_instances virtual_machines capi_clusters capi_machines node_words
        }
    };
}
/// Where objects were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// In a folder. One without objects never means to delete all: a checkout may have failed.
    #[default]
    Folder,
    /// In living clusters. What is listed without an object has none.
    Cluster,
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
    /// Takes over what `other` holds. The order is that of the calls.
    pub fn absorb(&mut self, other: &Self) {
        self.faults.extend(other.faults.iter().cloned());
        macro_rules! take {
            ($($list:ident)+) => { $(self.$list.extend(other.$list.iter().cloned());)+ };
        }
        for_all_lists!(take);
    }

    /// Every object that was read.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        macro_rules! chain {
            ($($list:ident)+) => { std::iter::empty()$(.chain(self.$list.iter().map(|each| &each.id)))+ };
        }
        for_all_lists!(chain)
    }

    fn sort(&mut self) {
        macro_rules! sort {
            ($($list:ident)+) => { $(self.$list.sort_unstable_by(|a, b| a.id.cmp(&b.id));)+ };
        }
        for_all_lists!(sort);
    }

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
