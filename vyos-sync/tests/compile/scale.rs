//! The platform at its target size: deriving and rendering stay far below a second in a release build.

use crate::platform::{NETWORKS, PEERS, PUBLICATIONS, groups, router};
use crate::support::{DIALECTS, compile, complaints};
use serde_json::json;
use std::time::{Duration, Instant};
use vyos_sync::inputs::{ClusterName, Collector, Inputs};

fn platform() -> Inputs {
    let mut collector = Collector::default();
    collector.document("router", &ClusterName::local(), router(&json!({})));
    for (cluster, name, documents) in groups(1) {
        let cluster = cluster.map_or_else(ClusterName::local, |name| ClusterName::from(name.as_str()));
        documents.into_iter().for_each(|each| collector.document(&name, &cluster, each));
    }
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
