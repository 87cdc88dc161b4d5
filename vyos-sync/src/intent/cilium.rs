//! Cilium's BGP speakers as the router sees them: which node dials the router, from which address, as which AS.

use super::network::Network;
use super::problem::{Findings, Problem};
use super::select::selects;
use crate::inputs::{
    Address, BgpInstance, BgpPeer, CapiMachine, CiliumNode, ClusterName, Inputs, InstanceOverride, Node,
    NodeRouting, Object, ObjectId,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// The annotation by which Cluster API says on a Node which cluster it is of.
const CLUSTER_ANNOTATION: &str = "cluster.x-k8s.io/cluster-name";

/// One speaker on one node that dials this router.
#[derive(Clone, Debug)]
pub(super) struct Speaker<'a> {
    /// The object that says so: the node's CiliumBGPNodeConfig, else the CiliumBGPClusterConfig.
    pub(super) object: &'a ObjectId,
    /// The cluster that the node belongs to.
    pub(super) cluster: ClusterName,
    /// The node.
    pub(super) node: &'a str,
    /// Its address towards the router.
    pub(super) address: Option<IpAddr>,
    /// The router's address that it dials.
    pub(super) router_address: IpAddr,
    /// Its AS number, not yet looked at.
    pub(super) asn: Option<u32>,
    /// The router's AS number as it expects it; `None` is any.
    pub(super) router_asn: Option<u32>,
    /// Whether it listens too, or only dials.
    pub(super) listens: bool,
    /// Name of its CiliumBGPPeerConfig.
    pub(super) config: Option<&'a str>,
    /// Its pod prefixes.
    pub(super) pod_cidrs: Vec<String>,
    /// Whether its Machine or Node is being deleted.
    pub(super) leaving: bool,
    /// What was decided for it before the pass.
    pub(super) routing: Option<NodeRouting>,
}

/// All speakers that dial this router.
pub(super) fn speakers<'a>(
    inputs: &'a Inputs,
    networks: &[Network],
    own: &BTreeSet<IpAddr>,
    problems: &mut Vec<Problem>,
) -> Vec<Speaker<'a>> {
    let lookup = Lookup::of(inputs);
    let mut all = Vec::new();
    for object in &inputs.bgp_nodes {
        let node = lookup.node(&object.id.cluster, &object.id.name);
        for instance in &object.spec.bgp_instances {
            all.extend(speak(&object.id, &node, instance, &lookup, networks, own, problems));
        }
    }
    for object in &inputs.bgp_clusters {
        let selected = inputs.nodes.iter().filter(|node| {
            let selector = object.spec.node_selector.as_ref();
            node.id.cluster == object.id.cluster
                && selector.is_none_or(|selector| selects(selector, &node.labels))
        });
        // The NodeConfig is what Cilium made of it; the ClusterConfig speaks only for nodes without one.
        for node in
            selected.filter(|node| !lookup.configured.contains(&(&node.id.cluster, node.id.name.as_str())))
        {
            let node = lookup.node(&node.id.cluster, &node.id.name);
            for instance in &object.spec.bgp_instances {
                all.extend(speak(&object.id, &node, instance, &lookup, networks, own, problems));
            }
        }
    }
    all
}

/// A node as all systems together know it.
struct KnownNode<'a> {
    cluster: ClusterName,
    name: &'a str,
    addresses: Vec<IpAddr>,
    pod_cidrs: Vec<String>,
    leaving: bool,
    routing: Option<NodeRouting>,
}

/// A node by its cluster and name.
type NodeKey<'a> = (&'a ClusterName, &'a str);

struct Lookup<'a> {
    nodes: HashMap<NodeKey<'a>, &'a Object<Node>>,
    cilium: HashMap<NodeKey<'a>, &'a CiliumNode>,
    machines: BTreeMap<String, Vec<&'a Object<CapiMachine>>>,
    overrides: HashMap<NodeKey<'a>, &'a [InstanceOverride]>,
    configured: BTreeSet<NodeKey<'a>>,
    routing: HashMap<NodeKey<'a>, NodeRouting>,
}

impl<'a> Lookup<'a> {
    fn of(inputs: &'a Inputs) -> Self {
        fn key<T>(object: &Object<T>) -> (&ClusterName, &str) {
            (&object.id.cluster, object.id.name.as_str())
        }
        let mut machines = BTreeMap::<_, Vec<_>>::new();
        for machine in &inputs.capi_machines {
            let found = || inputs.node_of(machine).map(|(_, name)| name);
            let node = machine.spec.node.clone().or_else(found);
            machines.entry(node.unwrap_or_else(|| machine.id.name.clone())).or_default().push(machine);
        }
        let cilium = inputs.cilium_nodes.iter();
        Self {
            nodes: inputs.nodes.iter().map(|node| (key(node), node)).collect(),
            cilium: cilium.map(|each| (key(each), &each.spec)).collect(),
            machines,
            overrides: inputs
                .bgp_overrides
                .iter()
                .map(|each| (key(each), &*each.spec.bgp_instances))
                .collect(),
            configured: inputs.bgp_nodes.iter().map(key).collect(),
            routing: inputs.routing.iter().map(|((cluster, node), to)| ((cluster, &**node), *to)).collect(),
        }
    }

    fn node(&self, cluster: &'a ClusterName, name: &'a str) -> KnownNode<'a> {
        let node = self.nodes.get(&(cluster, name));
        let machine = self.machine(cluster, name, node.copied());
        let mut addresses = node.map(|node| node.spec.addresses.clone()).unwrap_or_default();
        let mut pod_cidrs = node.map(|node| node.spec.pod_cidrs.clone()).unwrap_or_default();
        if let Some(theirs) = self.cilium.get(&(cluster, name)) {
            addresses.extend(&theirs.addresses);
            pod_cidrs.extend(theirs.pod_cidrs.iter().cloned());
        }
        addresses.extend(machine.iter().flat_map(|machine| machine.spec.addresses.iter().copied()));
        pod_cidrs.sort();
        pod_cidrs.dedup();
        let named = node.and_then(|node| node.annotations.get(CLUSTER_ANNOTATION)).map(String::as_str);
        let of_machine = machine.map(|machine| machine.spec.cluster.as_str());
        let local = cluster.is_local().then(|| named.or(of_machine)).flatten();
        KnownNode {
            cluster: local.map_or_else(|| cluster.clone(), ClusterName::from),
            name,
            addresses,
            pod_cidrs,
            leaving: machine.is_some_and(|machine| machine.deleting)
                || node.is_some_and(|node| node.deleting),
            routing: self.routing.get(&(cluster, name)).copied(),
        }
    }

    /// Machines live in the management cluster: the name of their cluster must fit, where the node says one.
    fn machine(
        &self,
        cluster: &ClusterName,
        name: &str,
        node: Option<&Object<Node>>,
    ) -> Option<&'a Object<CapiMachine>> {
        let named = node.and_then(|node| node.annotations.get(CLUSTER_ANNOTATION)).map(String::as_str);
        let wanted = if cluster.is_local() { named } else { Some(cluster.as_str()) };
        let all = self.machines.get(name)?;
        all.iter().find(|machine| wanted.is_none_or(|wanted| machine.spec.cluster == wanted)).copied()
    }
}

fn speak<'a>(
    object: &'a ObjectId,
    node: &KnownNode<'a>,
    instance: &'a BgpInstance,
    lookup: &Lookup<'a>,
    networks: &[Network],
    own: &BTreeSet<IpAddr>,
    problems: &mut Vec<Problem>,
) -> Vec<Speaker<'a>> {
    let overrides = lookup.overrides.get(&(&object.cluster, node.name)).copied().unwrap_or_default();
    let over = overrides.iter().find(|each| each.name == instance.name);
    let mut speakers = Vec::new();
    for peer in &instance.peers {
        let Some(router_address) = dialled(object, node, peer, networks, problems) else { continue };
        if !own.contains(&router_address) {
            continue;
        }
        let over_peer = over.and_then(|over| over.peers.iter().find(|each| each.name == peer.name));
        let local = over_peer.and_then(|over| over.local_address).or(peer.local_address);
        speakers.push(Speaker {
            object,
            cluster: node.cluster.clone(),
            node: node.name,
            address: local
                .map(|Address(ip)| ip)
                .or_else(|| nearest(&node.addresses, router_address, networks)),
            router_address,
            asn: over.and_then(|over| over.local_asn).or(instance.local_asn),
            router_asn: peer.peer_asn.filter(|asn| *asn != 0),
            listens: over.and_then(|over| over.local_port).or(instance.local_port).is_some(),
            config: peer.config_name(),
            pod_cidrs: node.pod_cidrs.clone(),
            leaving: node.leaving,
            routing: node.routing,
        });
    }
    speakers
}

/// The address that a node dials for a peer.
fn dialled(
    object: &ObjectId,
    node: &KnownNode<'_>,
    peer: &BgpPeer,
    networks: &[Network],
    problems: &mut Vec<Problem>,
) -> Option<IpAddr> {
    if let Some(Address(ip)) = peer.peer_address {
        return Some(ip);
    }
    let discovery = peer.auto_discovery.as_ref()?;
    let family = discovery.default_gateway.as_ref().map(|gateway| gateway.address_family.as_str());
    if discovery.mode != "DefaultGateway" {
        let what = format!("peer {} is found by {}, which names no address", peer.name, discovery.mode);
        let mut findings = Findings::on(object, problems);
        findings.note(
            "spec.bgpInstances.peers.autoDiscovery",
            what,
            "give peerAddress, or write a BGPPeering",
        );
        return None;
    }
    let ours = |ip: &&IpAddr| ip.is_ipv6() == (family == Some("ipv6"));
    let local = peer.local_address.map(|Address(ip)| ip);
    let from = node.addresses.iter().chain(&local).filter(ours);
    from.flat_map(|ip| {
        networks.iter().flat_map(|network| &network.subnets).filter(move |net| net.prefix.contains(ip))
    })
    .map(|subnet| subnet.gateway)
    .next()
}

/// The node's address of the same family, on the same segment where there is a choice.
fn nearest(addresses: &[IpAddr], router: IpAddr, networks: &[Network]) -> Option<IpAddr> {
    let same = |ip: &&IpAddr| ip.is_ipv4() == router.is_ipv4();
    let segment = networks
        .iter()
        .flat_map(|network| &network.subnets)
        .find(|subnet| subnet.gateway == router)
        .map(|subnet| subnet.prefix);
    let near = |ip: &&IpAddr| segment.is_some_and(|segment| segment.contains(*ip));
    addresses.iter().filter(same).find(near).or_else(|| addresses.iter().find(same)).copied()
}
