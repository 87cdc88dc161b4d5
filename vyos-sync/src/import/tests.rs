//! What is imported is what was rendered, and the report tells the truth.

use super::*;
use crate::compile;
use crate::config::{Dialect, parse};
use crate::gather;
use crate::inputs::{ClusterName, Collector};
use crate::plan::Ledger;

const BOOT: &str = "interfaces { ethernet eth1 { vif 40 { address 10.0.40.1/24\n mtu 1400\n }\n vif 50 { description bare\n }\n }\n }\n\
    service { dhcp-server { shared-network-name LAB { subnet 10.0.40.0/24 { range 0 { start 10.0.40.10\n stop 10.0.40.20\n }\n\
    option { name-server 10.0.40.1\n }\n subnet-id 7\n static-mapping a { mac 02:00:00:00:00:01\n ip-address 10.0.40.9\n }\n }\n }\n }\n }\n\
    nat { source { rule 100 { outbound-interface { name eth0\n }\n source { address 10.0.40.0/24\n }\n translation { address masquerade\n }\n }\n }\n\
    destination { rule 10 { inbound-interface { name eth0\n }\n protocol tcp\n destination { port 443\n }\n translation { address 172.16.0.9\n }\n }\n }\n }\n\
    protocols { bgp { neighbor 10.0.40.2 { remote-as 65001\n shutdown\n address-family { ipv4-unicast { prefix-list { import POOL\n }\n }\n }\n }\n system-as 65000\n }\n }\n\
    policy { prefix-list POOL { rule 10 { action permit\n prefix 10.99.0.0/16\n le 32\n }\n }\n }\n";

fn boot() -> Imported {
    import(&parse::boot(BOOT).unwrap().tree, "gw", "lab", &Collector::default().finish())
}

fn read(objects: Vec<Value>) -> Inputs {
    let mut collector = Collector::default();
    objects.into_iter().for_each(|object| collector.document("import", &ClusterName::local(), object));
    collector.finish()
}

#[test]
fn a_router_becomes_objects_that_our_own_reader_takes() {
    let imported = boot();
    let kinds: Vec<&str> = imported.objects.iter().filter_map(|o| o["kind"].as_str()).collect();
    assert_eq!(kinds, ["Router", "RouterNetwork", "BGPPeering"]);
    let inputs = read(imported.objects);
    assert_eq!(inputs.faults, []);
    let network = &inputs.networks[0].spec;
    assert_eq!((network.vlan, network.mtu), (Some(40), Some(1400)));
    let server = network.dhcp.as_ref().unwrap().server.as_ref().unwrap();
    assert_eq!((server.ranges.len(), server.reservations.len()), (1, 1));
    assert_eq!(network.snat.as_ref().unwrap().outbound_interface, "eth0");
    let peering = &inputs.peerings[0].spec;
    assert_eq!(peering.peer_asn, Some(65_001));
    assert_eq!((peering.accept[0].prefix.as_str(), peering.accept[0].le), ("10.99.0.0/16", Some(32)));
    assert_eq!(inputs.router("gw").unwrap().spec.bgp.as_ref().unwrap().asn, 65_000);
}

#[test]
fn what_is_not_covered_is_said_and_so_is_what_is_otherwise() {
    let imported = boot();
    let of = |part: &str| imported.coverage.iter().find(|c| c.part == part).unwrap();
    assert_eq!((of("service dhcp-server").covered, of("service dhcp-server").all), (6, 6));
    assert_eq!(of("interfaces ethernet").left, ["interfaces ethernet eth1 vif 50 description"]);
    assert_eq!(of("protocols bgp").left, ["protocols bgp neighbor 10.0.40.2 shutdown"]);
    assert_eq!((of("policy prefix-list").covered, of("policy prefix-list").all), (3, 3));
    assert_eq!(of("nat destination").covered, 0);
    let said = imported.notes.join("\n");
    for words in ["fill in spec.endpoints", "10.0.40.2 () is shut down", "announces only", "172.16.0.9"] {
        assert!(said.contains(words), "{words} in\n{said}");
    }
}

const OURS: &str = include_str!("../../../tests/golden/import/all.yaml");

/// What we made ourselves comes back as it was: the objects render to the very same statements, apart from those that
/// the report says are left.
#[test]
fn what_we_rendered_is_imported_and_rendered_the_same() {
    let inputs = gather::text("ours", OURS);
    assert_eq!(inputs.faults, []);
    for dialect in Dialect::ALL {
        let first = render(&inputs, dialect);
        let imported = import(&first, "gateway", "lab", &inputs);
        let names = |kind: &str| {
            let of_kind = imported.objects.iter().filter(|o| o["kind"] == kind);
            of_kind.map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("BGPPeering"), ["hand", "range"]);
        assert_eq!(names("PortPublication"), ["web"]);

        let rest = inputs_without_ours(OURS);
        let second = render(&read(imported.objects.iter().cloned().chain(rest).collect()), dialect);
        let left: BTreeSet<&String> = imported.coverage.iter().flat_map(|c| &c.left).collect();
        let (first, second): (BTreeSet<Leaf>, BTreeSet<Leaf>) =
            (first.leaves().into_iter().collect(), second.leaves().into_iter().collect());
        let invented: Vec<String> = second.difference(&first).map(ToString::to_string).collect();
        assert_eq!(invented, Vec::<String>::new(), "{dialect}: the objects say what the router does not");
        let lost: Vec<String> = first.difference(&second).map(|leaf| leaf.path.to_string()).collect();
        let unsaid: Vec<&String> = lost.iter().filter(|path| !left.contains(path)).collect();
        assert!(unsaid.is_empty(), "{dialect}: said to be covered, and not rendered: {unsaid:#?}");
        let wrongly: Vec<&&String> = left.iter().filter(|path| !lost.contains(path)).collect();
        assert!(wrongly.is_empty(), "{dialect}: rendered, and said to be left: {wrongly:#?}");
        assert!(left.iter().all(|path| path.starts_with("protocols static")), "{dialect}: {left:#?}");
    }
}

/// The Router, its Services and Secrets, which are no part of a router's configuration. The Secret has the name that the
/// import gives it.
fn inputs_without_ours(text: &str) -> Vec<Value> {
    let all = serde_saphyr::from_multiple::<Value>(text).unwrap();
    let kept =
        all.into_iter().filter(|o| matches!(o["kind"].as_str(), Some("Router" | "Service" | "Secret")));
    kept.map(|mut object| {
        if object["kind"] == "Secret" {
            object["metadata"]["name"] = json!("hand-bgp");
        }
        object
    })
    .collect()
}

fn render(inputs: &Inputs, dialect: Dialect) -> Tree {
    let router = inputs.router("gateway").unwrap();
    let compiled = compile::compile(inputs, router, dialect, &Tree::new(), &Ledger::default());
    let refused: Vec<String> = compiled
        .problems()
        .filter(|p| p.effect == crate::intent::Effect::Refused)
        .map(ToString::to_string)
        .collect();
    assert_eq!(refused, Vec::<String>::new(), "{dialect}");
    compiled.rendered.desired.tree().clone()
}
