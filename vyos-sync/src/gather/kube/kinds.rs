//! Which kinds are read, and where.

use crate::inputs::Kind;

/// In which clusters a kind is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// Only in the cluster that holds the Router objects: what a tenant writes in its own must not speak for us.
    Local,
    /// In every cluster.
    Every,
}

/// How much of each object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it; what is not read is dropped on arrival.
    Whole,
    /// Its metadata only (`PartialObjectMetadata`).
    Metadata,
}

/// A kind that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) at: Where,
    pub(super) extent: Extent,
    /// Filters on the server's side.
    pub(super) fields: Option<&'static str>,
}

const fn whole(kind: Kind, at: Where) -> Read {
    Read { kind, at, extent: Extent::Whole, fields: None }
}

const fn metadata(kind: Kind, at: Where) -> Read {
    Read { kind, at, extent: Extent::Metadata, fields: None }
}

/// Everything that is read. Secrets are not in it: only those that are named are read, each by its name.
pub(super) const READ: &[Read] = &[
    whole(Kind::Router, Where::Local),
    whole(Kind::RouterGrant, Where::Local),
    whole(Kind::RouterNetwork, Where::Local),
    whole(Kind::BgpPeering, Where::Local),
    whole(Kind::PortPublication, Where::Local),
    whole(Kind::RouterConfig, Where::Local),
    metadata(Kind::Namespace, Where::Local),
    metadata(Kind::CapiCluster, Where::Local),
    whole(Kind::CapiMachine, Where::Local),
    whole(Kind::CiliumBgpClusterConfig, Where::Every),
    whole(Kind::CiliumBgpPeerConfig, Where::Every),
    whole(Kind::CiliumBgpNodeConfig, Where::Every),
    whole(Kind::CiliumBgpNodeConfigOverride, Where::Every),
    whole(Kind::CiliumBgpAdvertisement, Where::Every),
    whole(Kind::CiliumBgpPeeringPolicy, Where::Every),
    whole(Kind::CiliumLoadBalancerIpPool, Where::Every),
    whole(Kind::CiliumNode, Where::Every),
    whole(Kind::Node, Where::Every),
    // A headless Service has no address that could be announced or published.
    Read {
        kind: Kind::Service,
        at: Where::Every,
        extent: Extent::Whole,
        fields: Some("spec.clusterIP!=None,spec.type!=ExternalName"),
    },
    whole(Kind::NetworkAttachmentDefinition, Where::Every),
    whole(Kind::Hardware, Where::Every),
    whole(Kind::VirtualMachineInstance, Where::Every),
    whole(Kind::VirtualMachine, Where::Every),
    whole(Kind::NodeDatapath, Where::Every),
];

/// What is read in a cluster.
pub(super) fn read_in(local: bool) -> impl Iterator<Item = &'static Read> {
    READ.iter().filter(move |read| local || read.at == Where::Every)
}
