//! When a router is asked whom it sees.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use serde_json::{Value, json};
use vyos_router::{Generation, Router};
use vyos_sync::inputs::{ClusterName, Collector, Inputs};
use vyos_sync::reconcile::Session;
use vyos_sync::store::Store;

const HOUR: Duration = Duration::from_secs(3600);

fn inputs(router: &Router, key: &std::path::Path, more: &[Value]) -> Inputs {
    let router = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"},
        "spec": {"endpoints": [router.url()], "tls": {"spkiPins": [router.spki_pin()]}, "apiKey": {"file": key},
                 "dialect": "1.5", "grants": "Open"}});
    let mut collector = Collector::default();
    for document in [router].iter().chain(more) {
        collector.document("test", &ClusterName::local(), document.clone());
    }
    let inputs = collector.finish();
    assert_eq!(inputs.faults, []);
    inputs
}

fn hardware() -> Value {
    json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "ms02", "namespace": "t"},
           "spec": {"interfaces": [{"dhcp": {"mac": "02:00:00:00:00:01", "ip": {"address": "10.10.30.10"}}}]}})
}

/// A router that programs nothing knows no neighbours and says so; what counts here is how often it is asked.
#[tokio::test]
async fn a_router_is_asked_where_there_is_hardware_and_once_a_period() {
    let router = Router::builder().generation(Generation::G3).key("the-api-key").spawn().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "the-api-key").unwrap();
    let (mut without, mut with) = (inputs(&router, &key, &[]), inputs(&router, &key, &[hardware()]));
    let store = Store::open(&folder.path().join("state"), "gw").unwrap();
    let object = without.router("gw").unwrap().clone();
    let mut session = Session::open(&object, &without, store, None, None).await.unwrap();
    let asked = || router.journal().iter().filter(|entry| entry.endpoint == "/show").count();

    session.sight(&mut without, HOUR).await;
    assert_eq!((asked(), without.sightings), (0, None));
    session.sight(&mut with, HOUR).await;
    let why = with.sightings.clone().unwrap().unwrap_err();
    assert!(why.starts_with("`show arp` was not answered: "), "{why}");
    assert_eq!(asked(), 1, "after a refusal nothing else is asked");
    with.sightings = None;
    session.sight(&mut with, HOUR).await;
    assert_eq!((asked(), with.sightings), (1, Some(Err(why))), "what was said is remembered");
    session.sight(&mut inputs(&router, &key, &[hardware()]), Duration::ZERO).await;
    assert_eq!(asked(), 2, "the period is over");
    router.stop().await;
}
