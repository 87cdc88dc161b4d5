//! Cilium's own test cases as an oracle: whatever a node announces there, the router's filter lets in.

use crate::support::{DIALECTS, commands, compile, complaints, golden, numbers, planned, repository, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use vyos_sync::config::Dialect;
use vyos_sync::inputs::{ClusterName, Collector, Inputs, Kind};
use vyos_sync::intent::{self, Intent, RouterName};
use vyos_sync::render;

fn documents(file: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap()
}

fn identity(document: &Value) -> String {
    format!("{} {}", document["kind"], document["metadata"]["name"])
}

/// One router for each peer of the node, as in Cilium's tests: its AS number and address are what the node dials.
fn routers(objects: &BTreeMap<String, Value>, gateways: &[IpAddr]) -> Vec<Value> {
    let config = objects.values().find(|object| object["kind"] == "CiliumBGPNodeConfig");
    let peers =
        config.and_then(|config| config.pointer("/spec/bgpInstances/0/peers")).and_then(Value::as_array);
    let mut documents = Vec::new();
    for (at, peer) in peers.into_iter().flatten().enumerate() {
        let address = peer["peerAddress"].as_str().map(|text| text.parse().unwrap());
        let address: IpAddr = address.or_else(|| gateways.get(at).copied()).unwrap();
        let name = format!("router-{at}");
        documents.push(json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": name},
            "spec": {"endpoints": ["https://192.0.2.1"], "tls": {"spkiPins": ["x"]}, "apiKey": {"file": "key"},
                     "grants": "Open", "bgp": {"asn": peer["peerASN"], "addresses": [address]}}
        }));
        if peer["peerAddress"].is_null() {
            let length = if address.is_ipv4() { 24 } else { 112 };
            let subnet = ipnet::IpNet::new(address, length).unwrap().trunc();
            documents.push(json!({
                "apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork",
                "metadata": {"name": name, "namespace": "test"},
                "spec": {"routerRef": {"name": name}, "vlan": 10 + at, "parent": {"name": "eth1"},
                         "subnets": [{"cidr": subnet, "gateway": address}]}
            }));
        }
    }
    documents
}

fn gateways(folder: &Path) -> Vec<IpAddr> {
    let file = folder.join("routes.yaml");
    let routes = if file.exists() { documents(&file) } else { Vec::new() };
    routes.iter().filter_map(|route| route["gw"].as_str()?.parse().ok()).collect()
}

fn gather(objects: &BTreeMap<String, Value>, extra: Vec<Value>) -> Inputs {
    let mut collector = Collector::default();
    for document in objects.values().cloned().chain(extra) {
        collector.document("case", &ClusterName::local(), document);
    }
    collector.finish()
}

fn prefixes(table: &Path) -> Vec<ipnet::IpNet> {
    let text = fs::read_to_string(table).unwrap();
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// Steps of a case, held against the router's filter at each expected table. Returns how many prefixes were checked.
fn run(folder: &Path) -> usize {
    let steps = &documents(&folder.join("steps.yaml"))[0];
    let (mut objects, mut names, mut checked) = (BTreeMap::new(), Vec::<String>::new(), 0);
    for step in steps["steps"].as_array().unwrap() {
        for verb in ["add", "update", "delete"] {
            for file in step[verb].as_array().into_iter().flatten() {
                for document in documents(&folder.join(file.as_str().unwrap())) {
                    if verb == "delete" {
                        objects.remove(&identity(&document));
                    } else {
                        objects.insert(identity(&document), document);
                    }
                }
            }
        }
        if let Some(words) = step["router_has_peer"].as_array()
            && let Some(at) = words.iter().position(|word| word == "-s")
        {
            names.push(words[at + 1].as_str().unwrap().to_owned());
        }
        let of = step["of"].as_str().unwrap_or_default();
        if !of.starts_with("gobgp/routes") {
            continue;
        }
        let table = folder.join(step["expect"].as_str().unwrap());
        let server = of.split_whitespace().skip_while(|word| *word != "-s").nth(1);
        let at = server.and_then(|server| names.iter().position(|name| name == server)).unwrap_or(0);
        let inputs = gather(&objects, routers(&objects, &gateways(folder)));
        let intent = intent::derive(&inputs, &RouterName::from(format!("router-{at}").as_str()));
        checked += check(&intent, &table);
    }
    written(folder, &objects);
    checked
}

/// What each router of the case holds and plans in the end, as committed text.
fn written(folder: &Path, objects: &BTreeMap<String, Value>) {
    let case = repository().join("tests/golden/cilium").join(folder.file_name().unwrap());
    let inputs = gather(objects, routers(objects, &gateways(folder)));
    for router in inputs.routers.iter().map(|router| router.id.name.as_str()) {
        for dialect in DIALECTS {
            let (intent, rendered) = compile(&inputs, router, dialect);
            assert_eq!(complaints(&rendered, dialect), Vec::<String>::new(), "{}", case.display());
            golden(&case.join(format!("{router}-commands-{dialect}.txt")), &commands(&rendered));
            golden(&case.join(format!("{router}-plan-{dialect}.txt")), &planned(&inputs, router, dialect));
            let problems = intent.problems.iter().chain(&rendered.problems);
            let text: String = problems.map(|problem| format!("{:?}: {problem}\n", problem.effect)).collect();
            golden(&case.join(format!("{router}-problems-{dialect}.txt")), &text);
        }
    }
}

fn check(intent: &Intent, table: &Path) -> usize {
    let wanted = prefixes(table);
    let bgp = intent.bgp.as_ref().unwrap();
    for prefix in &wanted {
        let [peer] = bgp.peers.as_slice() else { panic!("{}: {:#?}", table.display(), intent.problems) };
        let policy = bgp.policies.iter().find(|policy| policy.owner == peer.session.policy).unwrap();
        assert!(
            policy.accept.iter().any(|rule| rule.permits(prefix)),
            "{}: {prefix} is not let in",
            table.display()
        );
        assert!(peer.session.max_prefixes as usize >= wanted.len(), "{}: too few prefixes", table.display());
    }
    let rendered = render::render(intent, Dialect::V1_5, &numbers(intent, Dialect::V1_5));
    assert_eq!(complaints(&rendered, Dialect::V1_5), Vec::<String>::new(), "{}", table.display());
    wanted.len()
}

#[test]
fn what_cilium_announces_is_let_in() {
    let Some(shared) = shared("what_cilium_announces_is_let_in", "cilium-bgp-cases") else { return };
    let mut checked = BTreeMap::new();
    for entry in fs::read_dir(shared).unwrap() {
        let folder = entry.unwrap().path();
        let case = folder.file_name().unwrap().to_string_lossy().into_owned();
        // Interface addresses are in no object: see the test below.
        if case != "interface" {
            checked.insert(case, run(&folder));
        }
    }
    assert_eq!(checked.len(), 9, "{checked:?}");
    assert!(checked.values().all(|count| *count > 0), "{checked:?}");
}

#[test]
fn what_cannot_be_told_is_said() {
    let Some(shared) = shared("what_cannot_be_told_is_said", "cilium-bgp-cases/interface") else { return };
    let files =
        ["bgp-advertisement.yaml", "bgp-node-config.yaml", "bgp-peer-config-v4.yaml", "cilium-node.yaml"];
    let read = files.iter().flat_map(|file| documents(&shared.join(file)));
    let mut objects: BTreeMap<_, _> = read.map(|document| (identity(&document), document)).collect();
    let config = objects.values_mut().find(|object| object["kind"] == "CiliumBGPPeerConfig").unwrap();
    let name = config["metadata"]["name"].clone();
    let inputs = gather(&objects, routers(&objects, &[]));
    let intent = intent::derive(&inputs, &RouterName::from("router-0"));
    let noted = intent.problems.iter().any(|problem| problem.object.kind == Kind::CiliumBgpAdvertisement);
    assert!(noted, "{name}: {:#?}", intent.problems);
}

#[test]
fn a_password_is_taken_and_a_missing_one_is_no_empty_one() {
    let Some(shared) =
        shared("a_password_is_taken_and_a_missing_one_is_no_empty_one", "cilium-bgp-cases/peering-auth")
    else {
        return;
    };
    let files = ["auth-secret.yaml", "bgp-node-config.yaml", "bgp-peer-config.yaml", "cilium-node.yaml"];
    let read = files.iter().flat_map(|file| documents(&shared.join(file)));
    let mut objects: BTreeMap<_, _> = read.map(|document| (identity(&document), document)).collect();
    let derive = |objects: &BTreeMap<String, Value>| {
        intent::derive(&gather(objects, routers(objects, &[])), &RouterName::from("router-0"))
    };
    let with = derive(&objects);
    let password = with.bgp.as_ref().unwrap().peers[0].session.password.as_ref().unwrap();
    assert_eq!(password.reveal(), "Cilium123");
    assert!(!format!("{with:?}").contains("Cilium123"));
    objects.retain(|_, object| object["kind"] != "Secret");
    let without = derive(&objects);
    assert!(without.bgp.as_ref().unwrap().peers.is_empty());
    assert!(
        without.problems.iter().any(|problem| problem.field == "spec.authSecretRef"),
        "{:#?}",
        without.problems
    );
}
