//! The platform at its target size, as manifests: 1,000 networks, 10,000 reservations, 2,000 peers in 100 clusters, 200
//! publications.

use serde_json::{Value, json};

pub(crate) const NETWORKS: usize = 1_000;
pub(crate) const RESERVATIONS: usize = 10_000;
pub(crate) const CLUSTERS: usize = 100;
pub(crate) const PEERS: usize = 2_000;
pub(crate) const PUBLICATIONS: usize = 200;

fn network(at: usize) -> Value {
    let prefix = format!("10.{}.{}", at / 250, at % 250);
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork",
        "metadata": {"name": format!("net-{at}"), "namespace": "lab"},
        "spec": {"routerRef": {"name": "gateway"}, "vlan": at + 1, "parent": {"name": "eth1"},
            "subnets": [{"cidr": format!("{prefix}.0/24")}], "snat": {"outboundInterface": "eth0"},
            "dhcp": {"server": {"ranges": [{"start": format!("{prefix}.100"), "end": format!("{prefix}.250")}]}}}})
}

fn hardware(at: usize) -> Value {
    let (network, host) = (at % NETWORKS, at / NETWORKS + 10);
    json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware",
        "metadata": {"name": format!("machine-{at}"), "namespace": "tinkerbell"},
        "spec": {"interfaces": [{"dhcp": {"mac": format!("02:00:00:00:{:02x}:{:02x}", at / 256, at % 256),
            "hostname": format!("machine-{at}"), "ip": {"address": format!("10.{}.{}.{host}", network / 250, network % 250)}}}]}})
}

fn cluster(at: usize) -> Vec<Value> {
    let config = json!([
        {"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "router"},
         "spec": {"families": [{"afi": "ipv4", "safi": "unicast", "advertisements": {}}]}},
        {"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": {"name": "vip"},
         "spec": {"advertisements": [{"advertisementType": "Service", "selector": {}, "service": {"addresses": ["LoadBalancerIP"]}}]}},
        {"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "vip"},
         "spec": {"blocks": [{"cidr": format!("172.16.{at}.0/24")}]}}
    ]);
    let nodes = (0..PEERS / CLUSTERS).map(|each| node(at, each));
    config.as_array().into_iter().flatten().cloned().chain(nodes).collect()
}

/// One node of a cluster, as Cilium tells of its BGP peers.
pub(crate) fn node(cluster: usize, node: usize) -> Value {
    let prefix = format!("10.{}.{}", cluster / 250, cluster % 250);
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": format!("node-{node}")},
        "spec": {"bgpInstances": [{"name": "i", "localASN": 64600 + cluster, "peers": [{"name": "p", "peerASN": 64512,
            "peerAddress": format!("{prefix}.1"), "localAddress": format!("{prefix}.{}", 30 + node),
            "peerConfigRef": {"name": "router"}}]}]}})
}

fn publication(at: usize) -> [Value; 2] {
    let metadata = json!({"name": format!("web-{at}"), "namespace": "lab"});
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
            "status": {"loadBalancer": {"ingress": [{"ip": format!("172.31.0.{}", at + 1)}]}}}),
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "PortPublication", "metadata": metadata,
            "spec": {"routerRef": {"name": "gateway"}, "serviceRef": {"name": format!("web-{at}")}, "interface": "eth0",
                "address": "192.0.2.1", "ports": [{"port": 10_000 + at, "servicePort": 443}]}}),
    ]
}

/// The Router object; what is given here is added to its spec.
pub(crate) fn router(more: &Value) -> Value {
    let mut router = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gateway"},
        "spec": {"endpoints": ["https://192.0.2.1"], "tls": {"spkiPins": ["x"]}, "apiKey": {"file": "key"},
                 "mode": "Sync", "drift": "Revert", "grants": "Open", "bgp": {"asn": 64512}}});
    for (name, value) in more.as_object().into_iter().flatten() {
        router["spec"][name] = value.clone();
    }
    router
}

/// All objects but the Router, `one in` so many of each, in groups: the cluster that they live in, and a name.
pub(crate) fn groups(one_in: usize) -> Vec<(Option<String>, String, Vec<Value>)> {
    let mut groups = Vec::new();
    let networks: Vec<_> = (0..NETWORKS / one_in).collect();
    for (at, chunk) in networks.chunks(100).enumerate() {
        groups.push((None, format!("networks-{at}"), chunk.iter().map(|at| network(*at)).collect()));
    }
    let in_those = |at: &usize| at % NETWORKS < NETWORKS / one_in;
    let machines: Vec<_> = (0..RESERVATIONS).filter(in_those).collect();
    for (at, chunk) in machines.chunks(100).enumerate() {
        groups.push((None, format!("machines-{at}"), chunk.iter().map(|at| hardware(*at)).collect()));
    }
    for at in 0..CLUSTERS / one_in {
        groups.push((Some(format!("cluster-{at}")), "cilium".to_owned(), cluster(at)));
    }
    groups.push((
        None,
        "publications".to_owned(),
        (0..PUBLICATIONS / one_in).flat_map(publication).collect(),
    ));
    groups
}
