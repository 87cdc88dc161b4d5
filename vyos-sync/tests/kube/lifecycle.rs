//! From nothing to a router that holds all, and back to nothing, by manifests alone.

use std::time::Duration;

use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::rig::{Rig, network, vif, words};

fn peering() -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bgp", "namespace": "lab"}, "stringData": {"password": "correct-horse"}}),
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "BGPPeering", "metadata": {"name": "hand", "namespace": "lab"},
               "spec": {"routerRef": {"name": "gw"}, "peerASN": 64513, "peers": [{"name": "a", "address": "10.10.40.10"}],
                        "accept": [{"prefix": "10.99.0.0/24", "le": 32}], "passwordRef": {"name": "bgp"}}}),
    ]
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

const PASSWORD: [&str; 6] = ["protocols", "bgp", "neighbor", "10.10.40.10", "password", "correct-horse"];

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_all_and_back() {
    let Some(mut rig) = Rig::start("from_nothing_to_all_and_back").await else { return };
    rig.controller(&[]);
    let mut all = vec![namespace("lab"), network("lab", "a", 40), network("lab", "b", 50)];
    all.extend(peering());
    all.extend(rig.router_objects(json!({})));
    rig.apply(&all).await;

    rig.until("the router holds all", async || {
        rig.has(&words(&vif(40))) && rig.has(&words(&vif(50))) && rig.has(&PASSWORD)
    })
    .await;
    let ours: Vec<&Value> = all.iter().filter(|each| each["apiVersion"] == "weir.dev/v1alpha1").collect();
    for object in &ours {
        rig.until_condition(object, "Ready", "True").await;
        for (kind, status) in [("Synced", "True"), ("Reconciling", "False"), ("Stalled", "False")] {
            rig.until_condition(object, kind, status).await;
        }
    }
    assert!(rig.router.saved().exists(&words(&vif(40))));
    the_record_tells_all_but_the_password(&rig).await;
    nothing_moves_when_nothing_changes(&rig, &all, &ours).await;

    // A revert in Git: all of it goes at once, in no good order.
    for object in all.iter().rev().filter(|each| each["kind"] != "Namespace") {
        rig.delete(object).await;
    }
    rig.until("every object is gone", async || {
        let mut left = 0;
        for object in &ours {
            left += usize::from(rig.object(object).await.is_some());
        }
        left == 0
    })
    .await;
    for path in [["interfaces"], ["protocols"], ["policy"]] {
        assert!(
            !rig.has(&path),
            "{path:?} is left: {}",
            vyos_sync::config::print::commands(&rig.router.running())
        );
    }
}

async fn the_record_tells_all_but_the_password(rig: &Rig) {
    let changes: Api<vyos_sync::crd::RouterChange> = Api::all(rig.client.clone());
    let list = changes.list(&ListParams::default().labels("weir.dev/router=gw")).await.unwrap();
    assert!(!list.items.is_empty());
    let text = serde_json::to_string(&list.items).unwrap();
    assert!(
        text.contains("10.10.40.10") && !text.contains("correct-horse") && !text.contains("the-api-key"),
        "{text}"
    );
    assert!(list.items.iter().all(|change| change.status.as_ref().is_some_and(|s| s.finished_at.is_some())));
    assert!(
        list.items.iter().all(|change| change
            .metadata
            .owner_references
            .as_ref()
            .is_some_and(|o| o[0].kind == "Router"))
    );
    let said = rig.controllers[0].log();
    assert!(!said.contains("correct-horse") && !said.contains("the-api-key"));
}

/// The same manifests once more, and some passes of the controller: not one object is written to.
async fn nothing_moves_when_nothing_changes(rig: &Rig, all: &[Value], ours: &[&Value]) {
    let versions = async || {
        let mut versions = Vec::new();
        for object in ours {
            versions.push(rig.object(object).await.unwrap().metadata.resource_version);
        }
        versions
    };
    let passes = || rig.router.journal().iter().filter(|entry| entry.endpoint.contains("retrieve")).count();
    let settled = std::cell::Cell::new(passes());
    rig.until("the first passes are over", async || passes() > settled.get() + 1).await;
    let (before, commits) = (versions().await, rig.router.commits());
    rig.apply(all).await;
    settled.set(passes());
    rig.until("some passes", async || passes() > settled.get() + 2).await;
    assert_eq!((versions().await, rig.router.commits()), (before, commits));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_object_is_named_and_the_good_ones_go_on() {
    let Some(mut rig) = Rig::start("one_bad_object_is_named_and_the_good_ones_go_on").await else { return };
    rig.controller(&[]);
    let (good, mut bad) = (network("default", "good", 40), network("default", "bad", 50));
    bad["spec"]["subnets"] = json!([{"cidr": "10.10.50.1/24"}]);
    rig.apply(&rig.router_objects(json!({}))).await;
    rig.apply(&[good.clone(), bad.clone()]).await;
    rig.until_condition(&good, "Ready", "True").await;
    let said = rig.until_condition(&bad, "Accepted", "False").await;
    assert!(said["message"].as_str().unwrap().contains("cidr"), "{said}");
    rig.until_condition(&bad, "Stalled", "True").await;
    assert!(rig.has(&words(&vif(40))) && !rig.has(&words(&vif(50))));
    // An event says so to whoever looks at the object.
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(rig.client.clone(), "default");
    rig.until("an event on it", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        events.iter().any(|event| {
            event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some("bad")
                && event.type_.as_deref() == Some("Warning")
        })
    })
    .await;
    bad["spec"]["subnets"] = json!([{"cidr": "10.10.50.0/24"}]);
    rig.apply(std::slice::from_ref(&bad)).await;
    rig.until_condition(&bad, "Ready", "True").await;
    assert!(rig.has(&words(&vif(50))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_what_it_had_also_when_the_router_is_away() {
    let test = "a_namespace_goes_with_what_it_had_also_when_the_router_is_away";
    let Some(mut rig) = Rig::start(test).await else { return };
    rig.controller(&[]);
    let (a, b) = (network("lab", "a", 40), network("default", "b", 50));
    rig.apply(&rig.router_objects(json!({}))).await;
    rig.apply(&[namespace("lab"), a.clone(), b.clone()]).await;
    rig.until_condition(&a, "Ready", "True").await;
    rig.until_condition(&b, "Ready", "True").await;
    // No namespace controller is here: what it does is to delete the objects and wait for them.
    rig.delete(&namespace("lab")).await;
    rig.delete(&a).await;
    rig.until("the object is gone", async || rig.object(&a).await.is_none()).await;
    assert!(!rig.has(&words(&vif(40))) && rig.has(&words(&vif(50))));
    // In a namespace that is going nothing can be made, and nothing of it stops the rest.
    let c = network("default", "c", 60);
    rig.apply(std::slice::from_ref(&c)).await;
    rig.until_condition(&c, "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_changes_nothing_and_lets_objects_go() {
    let Some(mut rig) = Rig::start("observing_changes_nothing_and_lets_objects_go").await else { return };
    rig.controller(&[]);
    let a = network("default", "a", 40);
    rig.apply(&rig.router_objects(json!({"mode": "Observe"}))).await;
    rig.apply(std::slice::from_ref(&a)).await;
    let said = rig.until_condition(&a, "Synced", "False").await;
    assert_eq!(said["reason"], "Observed");
    assert_eq!(rig.router.commits(), 0);
    rig.delete(&a).await;
    rig.until_within("it is gone", Duration::from_secs(20), async || rig.object(&a).await.is_none()).await;
}
