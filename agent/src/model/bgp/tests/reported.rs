//! Cilium's word beside the wire's.

use serde_json::json;

use super::build::{Dialogue, update, usual};
use crate::model::bgp::{About, Reported, Side};

fn status(peer: serde_json::Value) -> serde_json::Value {
    json!({
        "kind": "CiliumBGPNodeConfig",
        "metadata": {"name": "node-1"},
        "status": {"bgpInstances": [{"name": "lab", "localASN": 64513, "peers": [peer]}]},
    })
}

fn told(state: &str, advertised: u64) -> serde_json::Value {
    status(json!({
        "name": "gateway", "peerASN": 64512, "peerAddress": "10.0.0.1", "peeringState": state,
        "establishedTime": "2026-01-01T00:00:00Z",
        "timers": {"appliedHoldTimeSeconds": 9, "appliedKeepaliveSeconds": 3},
        "routeCount": [{"afi": "ipv4", "safi": "unicast", "advertised": advertised, "received": 0}],
    }))
}

fn differences(it: &mut Dialogue, object: &serde_json::Value) -> Vec<About> {
    let (reported, bad) = Reported::of_node_config(object);
    assert!(bad.is_empty(), "{bad:?}");
    reported.differences(&it.observer.view()).into_iter().map(|one| one.about).collect()
}

#[test]
fn agreement_is_silent_and_differences_have_names() {
    let mut it = Dialogue::new();
    assert_eq!(differences(&mut it, &told("established", 1)), [About::Session]);
    assert_eq!(differences(&mut it, &told("active", 0)), []);
    it.establish(Side::Local);
    it.send(Side::Local, &update(&[], &usual(64513), &[32, 10, 10, 50, 10]));
    assert_eq!(differences(&mut it, &told("established", 1)), []);
    assert_eq!(differences(&mut it, &told("established", 2)), [About::Advertised]);
    assert_eq!(differences(&mut it, &told("idle", 1)), [About::State]);
    let mut other = told("Established", 1);
    other["status"]["bgpInstances"][0]["peers"][0]["peerASN"] = 64999.into();
    other["status"]["bgpInstances"][0]["peers"][0]["timers"]["appliedHoldTimeSeconds"] = 90.into();
    assert_eq!(differences(&mut it, &other), [About::Asn, About::HoldTime]);
    let (reported, _) = Reported::of_node_config(&told("established", 2));
    let words = reported.differences(&it.observer.view())[0].to_string();
    assert_eq!(words, "10.0.0.1: advertised: the wire shows 1 ipv4, the speaker reports 2 ipv4");
    it.fin(Side::Peer);
    // What cilium#39861 was about: routes counted as advertised on a session that is down.
    assert_eq!(differences(&mut it, &told("active", 1)), [About::Advertised]);
}

#[test]
fn one_bad_peer_does_not_stop_the_others() {
    let mut object = told("established", 1);
    let peers = object["status"]["bgpInstances"][0]["peers"].as_array_mut().unwrap();
    peers.push(json!({"name": "odd", "peerAddress": "gateway.example", "peeringState": "established"}));
    peers.push(json!({"name": "new", "peerAddress": "10.0.0.9", "peeringState": "confused"}));
    let (reported, bad) = Reported::of_node_config(&object);
    assert_eq!(reported.sessions.len(), 1);
    let words: Vec<String> = bad.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "CiliumBGPNodeConfig node-1, instance lab, peer odd: peerAddress is \"gateway.example\"; the session is left out",
            "CiliumBGPNodeConfig node-1, instance lab, peer new: peeringState is \"confused\"; the session is left out",
        ]
    );
    assert_eq!(Reported::of_node_config(&json!({})).0, Reported::default());
    assert_eq!(Reported::of_node_config(&json!({"status": []})).0, Reported::default());
}
