//! The platform at its target size: deriving and rendering stay far below a second in a release build.

use crate::support::{DIALECTS, compile, complaints};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vyos_sync::inputs::{ClusterName, Collector, Inputs};

const NETWORKS: usize = 1_000;
const RESERVATIONS: usize = 10_000;
const CLUSTERS: usize = 100;
const PEERS: usize = 2_000;
const PUBLICATIONS: usize = 200;

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
    let gateway = format!("10.{}.{}.1", at / 250, at % 250);
    let config = json!([
        {"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "router"},
         "spec": {"families": [{"afi": "ipv4", "safi": "unicast", "advertisements": {}}]}},
        {"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": {"name": "vip"},
         "spec": {"advertisements": [{"advertisementType": "Service", "selector": {}, "service": {"addresses": ["LoadBalancerIP"]}}]}},
        {"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "vip"},
         "spec": {"blocks": [{"cidr": format!("172.16.{at}.0/24")}]}}
    ]);
    let nodes = (0..PEERS / CLUSTERS).map(|node| {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": format!("node-{node}")},
            "spec": {"bgpInstances": [{"name": "i", "localASN": 64600 + at, "peers": [{"name": "p", "peerASN": 64512,
                "peerAddress": gateway, "localAddress": format!("10.{}.{}.{}", at / 250, at % 250, 30 + node),
                "peerConfigRef": {"name": "router"}}]}]}})
    });
    config.as_array().unwrap().iter().cloned().chain(nodes).collect()
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

fn platform() -> Inputs {
    let mut collector = Collector::default();
    let local = ClusterName::local();
    let router = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gateway"},
        "spec": {"endpoints": ["https://192.0.2.1"], "tls": {"spkiPins": ["x"]}, "apiKey": {"file": "key"},
                 "grants": "Open", "bgp": {"asn": 64512}}});
    collector.document("router", &local, router);
    (0..NETWORKS).for_each(|at| collector.document("net", &local, network(at)));
    (0..RESERVATIONS).for_each(|at| collector.document("hw", &local, hardware(at)));
    for at in 0..CLUSTERS {
        let name = ClusterName::from(format!("cluster-{at}").as_str());
        cluster(at).into_iter().for_each(|each| collector.document("cilium", &name, each));
    }
    (0..PUBLICATIONS).flat_map(publication).for_each(|each| collector.document("pub", &local, each));
    collector.finish()
}

#[test]
fn the_target_platform_compiles_whole_and_soon() {
    let inputs = platform();
    assert_eq!(inputs.faults, []);
    let started = Instant::now();
    let (intent, rendered) = compile(&inputs, "gateway", DIALECTS[1]);
    let took = started.elapsed();
    assert_eq!(intent.problems, []);
    assert_eq!(rendered.problems, []);
    assert_eq!(intent.networks.len(), NETWORKS);
    assert_eq!(intent.bgp.as_ref().unwrap().peers.len(), PEERS);
    assert_eq!(intent.publications.len(), PUBLICATIONS);
    let found = complaints(&rendered, DIALECTS[1]);
    assert!(found.is_empty(), "{:#?}", &found[..found.len().min(5)]);
    // A debug build on a busy machine: what must not happen is a step that is quadratic in reservations or peers.
    assert!(took < Duration::from_secs(20), "took {took:?}");
    eprintln!("compiled {} statements in {took:?}", rendered.desired.tree().weight());
}
