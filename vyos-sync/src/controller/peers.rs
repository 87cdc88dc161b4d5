//! From what was compiled to which addresses are whose node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::inputs::{Inputs, NodeKey};
use crate::intent::Bgp;
use crate::routing::Nodes;

/// The nodes that speak BGP, by cluster, as far as objects say so.
pub(super) fn nodes(inputs: &Inputs) -> Nodes {
    let mut nodes = Nodes::new();
    for id in inputs.bgp_nodes.iter().map(|each| &each.id) {
        nodes.entry(id.cluster.clone()).or_default().insert(id.name.clone());
    }
    // Without Cilium's word on each node, all nodes of a cluster with a BGP configuration count.
    for id in inputs.nodes.iter().map(|each| &each.id) {
        let configured = inputs.bgp_clusters.iter().any(|each| each.id.cluster == id.cluster);
        let told = inputs.bgp_nodes.iter().any(|each| each.id.cluster == id.cluster);
        if configured && !told {
            nodes.entry(id.cluster.clone()).or_default().insert(id.name.clone());
        }
    }
    nodes
}

/// The addresses of each node's peers: a peer comes from the node's own object, or carries the node's name.
pub(super) fn addresses(bgp: Option<&Bgp>, inputs: &Inputs) -> BTreeMap<NodeKey, BTreeSet<IpAddr>> {
    let mut addresses = BTreeMap::<NodeKey, BTreeSet<IpAddr>>::new();
    let all = nodes(inputs);
    for peer in bgp.iter().flat_map(|bgp| &bgp.peers) {
        let cluster = &peer.object.cluster;
        let named = |node: &&String| {
            peer.object.name == **node || peer.description.to_string().ends_with(&format!(" {node}"))
        };
        for node in all.get(cluster).into_iter().flatten().filter(named) {
            addresses.entry((cluster.clone(), node.clone())).or_default().insert(peer.address);
        }
    }
    addresses
}
