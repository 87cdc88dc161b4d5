//! Properties: the order of inputs does not matter, and what intent accepts is what the router accepts.

use crate::support::{DIALECTS, commands, compile, complaints, inputs};
use proptest::prelude::*;
use serde_json::{Value, json};
use vyos_sync::inputs::{ClusterName, Collector, Inputs};
use vyos_sync::intent::Effect;

fn router() -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gateway"},
           "spec": {"endpoints": ["https://192.0.2.1"], "tls": {"spkiPins": ["x"]}, "apiKey": {"file": "key"},
                    "grants": "Open", "bgp": {"asn": 64512}}})
}

fn collect(documents: &[Value]) -> Inputs {
    let mut collector = Collector::default();
    for document in documents {
        collector.document("case", &ClusterName::local(), document.clone());
    }
    collector.finish()
}

/// Networks that may well clash: few VLANs, few subnets.
fn network() -> impl Strategy<Value = Value> {
    let parent = prop_oneof![
        Just(json!({"name": "eth1"})),
        Just(json!({"kind": "Bonding", "name": "bond0"})),
        Just(json!({"kind": "Bridge", "name": "br0", "members": ["eth2", "eth3"]})),
    ];
    let description = prop::option::of("[a-z \"'\\n]{0,12}");
    (1u16..12, 0u8..12, parent, 0u8..16, any::<[bool; 6]>(), description).prop_map(
        |(vlan, net, parent, start, has, description)| {
            let mut spec = json!({"routerRef": {"name": "gateway"}, "vlan": vlan, "parent": parent,
                "subnets": [{"cidr": format!("10.0.{net}.0/24")}]});
            if has[0] {
                spec["subnets"].as_array_mut().unwrap().push(json!({"cidr": format!("fd00:0:0:{net}::/64")}));
                spec["routerAdvertisement"] = json!({"addressing": if has[1] { "Slaac" } else { "Dhcp" }});
                spec["dhcp6"] = json!({"server": {"ranges": [{"start": format!("fd00:0:0:{net}::100"), "end": format!("fd00:0:0:{net}::1ff")}]}});
                spec["nat66"] = json!({"outboundInterface": "eth0"});
            }
            if has[2] {
                spec["dhcp"] = json!({"server": {
                    "ranges": [{"start": format!("10.0.{net}.{start}"), "end": format!("10.0.{net}.200")}],
                    "domain": "lab.example", "ntpServers": ["10.0.0.1"], "pxe": {"bootfileName": "ipxe.efi", "tftpServer": "boot.lab.example"},
                    "reservations": [{"name": "host", "mac": format!("02:00:00:00:{net:02x}:01"), "ip": format!("10.0.{net}.9")}]}});
            } else if has[3] {
                spec["dhcp"] = json!({"relay": {"servers": ["10.9.0.1"], "upstreamInterface": "eth0"}});
            }
            if has[4] {
                spec["snat"] = json!({"outboundInterface": "eth0", "exclude": ["10.0.0.0/8"]});
                spec["oneToOne"] = json!([{"external": format!("192.0.2.{net}"), "internal": format!("10.0.{net}.7"), "inboundInterface": "eth0"}]);
            }
            if has[5] {
                spec["dns"] = json!("Forward");
            }
            if let Some(text) = description {
                spec["description"] = json!(text);
            }
            spec
        },
    )
}

fn node() -> impl Strategy<Value = Value> {
    (2u8..6, 0u8..12, 64513u32..64515).prop_map(|(host, net, asn)| {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "spec": {"bgpInstances": [{
            "name": "i", "localASN": asn, "peers": [{"name": "p", "peerASN": 64512,
            "peerAddress": format!("10.0.{net}.1"), "localAddress": format!("10.0.{net}.{host}"),
            "peerConfigRef": {"name": "config"}}]}]}})
    })
}

fn documents() -> impl Strategy<Value = Vec<Value>> {
    let named = |kind: &'static str, mut document: Value, at: usize| {
        if kind == "RouterNetwork" {
            document = json!({"apiVersion": "weir.dev/v1alpha1", "kind": kind, "spec": document});
        }
        document["metadata"] = json!({"name": format!("n{at}"), "namespace": "lab"});
        if kind != "RouterNetwork" {
            document["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        document
    };
    (prop::collection::vec(network(), 0..6), prop::collection::vec(node(), 0..5)).prop_map(move |(networks, nodes)| {
        let mut all = vec![
            router(),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "config"},
                   "spec": {"families": [{"afi": "ipv4", "safi": "unicast", "advertisements": {}}]}}),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": {"name": "a"},
                   "spec": {"advertisements": [{"advertisementType": "Service", "selector": {}, "service": {"addresses": ["LoadBalancerIP"]}}]}}),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "p"},
                   "spec": {"blocks": [{"start": "10.50.0.10", "stop": "10.50.0.99"}]}}),
        ];
        all.extend(networks.into_iter().enumerate().map(|(at, each)| named("RouterNetwork", each, at)));
        all.extend(nodes.into_iter().enumerate().map(|(at, each)| named("CiliumBGPNodeConfig", each, at)));
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_inputs_does_not_matter((documents, shuffled) in documents().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))) {
        for dialect in DIALECTS {
            let (one, two) = (compile(&collect(&documents), "gateway", dialect), compile(&collect(&shuffled), "gateway", dialect));
            prop_assert_eq!(&one.0, &two.0);
            prop_assert_eq!(commands(&one.1), commands(&two.1));
        }
    }

    #[test]
    fn what_is_rendered_is_what_the_router_takes(documents in documents()) {
        for dialect in DIALECTS {
            let (intent, rendered) = compile(&collect(&documents), "gateway", dialect);
            let found = complaints(&rendered, dialect);
            prop_assert!(found.is_empty(), "{:#?}\n{:#?}", found, intent.problems);
            prop_assert!(rendered.problems.is_empty(), "{:#?}", rendered.problems);
        }
    }

    #[test]
    fn a_refused_object_has_no_part_in_the_tree_and_is_held(documents in documents()) {
        let (intent, rendered) = compile(&collect(&documents), "gateway", DIALECTS[1]);
        for problem in intent.problems.iter().filter(|problem| problem.effect == Effect::Refused) {
            let name = &problem.object.name;
            prop_assert!(intent.held.iter().any(|owner| owner.name == *name), "{problem}");
            let part = rendered.desired.claims().values().any(|claim| {
                claim.owners().iter().any(|owner| owner.name == *name && owner.kind == problem.object.kind.as_str())
            });
            prop_assert!(!part, "{problem}");
        }
    }
}

#[test]
fn an_unknown_router_is_a_problem_and_nothing_is_desired() {
    let (intent, rendered) = compile(&inputs(&[]), "gateway", DIALECTS[0]);
    assert_eq!(intent.problems.len(), 1);
    assert!(rendered.desired.tree().is_empty());
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        any::<String>(),
        Just("10.0.0.0/8".to_owned()),
        Just("10.0.0.1".to_owned()),
        Just("FD00:0:0::/64".to_owned()),
        Just("::ffff:10.0.0.1".to_owned()),
        Just("eth1".to_owned()),
        Just("0.0.0.0/0".to_owned()),
        Just("a.b".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_never_reaches_the_tree(words in prop::collection::vec(words(), 24), vlan in any::<u16>(), asn in any::<u32>()) {
        let word = |at: usize| json!(words[at]);
        let lab = |kind: &str, name: &str, mut spec: Value| {
            spec["routerRef"] = json!({"name": "gateway"});
            json!({"apiVersion": "weir.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "lab"}, "spec": spec})
        };
        let documents = [
            router(),
            lab("RouterNetwork", "a", json!({"vlan": vlan, "parent": {"name": word(0)}, "description": word(1),
                "subnets": [{"cidr": word(2), "gateway": word(3)}, {"cidr": "10.7.0.0/24"}],
                "dhcp": {"server": {"ranges": [{"start": word(4), "end": word(5)}], "domain": word(6), "pxe": {"bootfileName": word(7), "tftpServer": word(8)},
                         "reservations": [{"name": word(9), "mac": word(10), "ip": "10.7.0.7"}]}}})),
            lab("RouterNetwork", "b", json!({"vlan": 5, "parent": {"name": "eth1"}, "subnets": [{"cidr": word(11)}],
                "snat": {"outboundInterface": word(12), "address": word(13), "exclude": [word(14)]},
                "dhcp": {"relay": {"servers": [word(15)], "upstreamInterface": word(16)}}})),
            lab("BGPPeering", "c", json!({"peerASN": asn, "peers": [{"name": word(17), "address": word(18)}],
                "accept": [{"prefix": word(19), "ge": vlan % 200}], "advertise": [word(20)]})),
            lab("PortPublication", "d", json!({"serviceRef": {"name": "s"}, "interface": word(21), "address": word(22), "hostnames": [word(23)]})),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "lab"},
                   "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}, "status": {"loadBalancer": {"ingress": [{"ip": "10.50.0.1"}]}}}),
        ];
        for dialect in DIALECTS {
            let (intent, rendered) = compile(&collect(&documents), "gateway", dialect);
            let found = complaints(&rendered, dialect);
            prop_assert!(found.is_empty(), "{:#?}\n{:#?}\n{}", found, intent.problems, commands(&rendered));
        }
    }
}
