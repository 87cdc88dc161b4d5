//! A real API server takes every definition of ours, and runs their CEL rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::path::Path;

use serde_json::{Value, json};
use weir_apiserver::{ApiServer, apply, documents, install};

fn network(vlan: u32, subnets: &Value) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork",
           "metadata": {"name": "mgmt", "namespace": "default"},
           "spec": {"routerRef": {"name": "gw"}, "vlan": vlan, "parent": {"name": "eth1"}, "subnets": subnets}})
}

fn router(tls: &Value, key: &Value) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"},
           "spec": {"endpoints": ["https://192.0.2.1"], "tls": tls, "apiKey": key}})
}

#[tokio::test(flavor = "multi_thread")]
async fn our_definitions_are_taken_and_their_rules_run() {
    let Some(api) = ApiServer::start("our_definitions_are_taken_and_their_rules_run").await else { return };
    let client = api.client().unwrap();
    install(&client, &vyos_sync::crd::all()).await.unwrap();

    let good = network(40, &json!([{"cidr": "10.10.40.0/24"}]));
    apply(&client, &good).await.unwrap();
    apply(&client, &router(&json!({"spkiPins": ["x"]}), &json!({"file": "/key"}))).await.unwrap();
    let refused = [
        (network(5000, &json!([{"cidr": "10.10.40.0/24"}])), "spec.vlan"),
        (router(&json!({}), &json!({"file": "/key"})), "give caBundle, caFile or spkiPins"),
        (router(&json!({"spkiPins": ["x"]}), &json!({})), "give exactly one of secretRef, file and openBao"),
    ];
    for (mut object, word) in refused {
        // A name of its own: what is left out of an object that is there would only be taken back.
        object["metadata"]["name"] = json!("bad");
        let error = format!("{:#}", apply(&client, &object).await.unwrap_err());
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_never_edited_and_a_node_says_only_known_words() {
    let test = "a_change_is_never_edited_and_a_node_says_only_known_words";
    let Some(api) = ApiServer::start(test).await else { return };
    let client = api.client().unwrap();
    install(&client, &vyos_sync::crd::all()).await.unwrap();
    let mut change = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterChange", "metadata": {"name": "gw-1"},
        "spec": {"routerRef": {"name": "gw"}, "planHash": "a", "commands": []}, "status": {"phase": "Planned"}});
    apply(&client, &change).await.unwrap();
    change["spec"]["planHash"] = json!("b");
    let error = format!("{:#}", apply(&client, &change).await.unwrap_err());
    assert!(error.contains("a change is never edited"), "{error}");

    let node = |carries: &str| {
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "NodeDatapath", "metadata": {"name": "node-a"}, "spec": {},
               "status": {"carries": carries, "reasons": [{"code": "UplinkDown", "message": "eth0 has no carrier"}]}})
    };
    let made = apply(&client, &node("No")).await.unwrap();
    assert_eq!(made.data["spec"]["routing"], "FollowHealth", "the default is filled in");
    let error = format!("{:#}", apply(&client, &node("Perhaps")).await.unwrap_err());
    assert!(error.contains("status.carries"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definitions_of_every_system_are_taken() {
    let test = "the_definitions_of_every_system_are_taken";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crds");
    if !folder.is_dir() {
        eprintln!("SKIPPED {test}: there is no {}", folder.display());
        return;
    }
    let Some(api) = ApiServer::start(test).await else { return };
    let client = api.client().unwrap();
    let mut definitions = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Two ages of the same definitions cannot be there at once.
        if path.is_dir() && !path.ends_with("cilium-1.18") && !path.ends_with("cluster-api-1.12") {
            definitions.extend(documents(&path).unwrap());
        }
    }
    let definitions: Vec<_> =
        definitions.into_iter().map(|each| serde_json::from_value(each).unwrap()).collect();
    assert!(definitions.len() > 50, "{}", definitions.len());
    install(&client, &definitions).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_comes_back_with_its_objects() {
    let Some(mut api) = ApiServer::start("a_server_comes_back_with_its_objects").await else { return };
    let client = api.client().unwrap();
    let thing = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"},
                       "data": {"b": "c"}});
    apply(&client, &thing).await.unwrap();
    api.crash();
    assert!(client.apiserver_version().await.is_err());
    api.compact().await.unwrap();
    api.resume().await.unwrap();
    assert_eq!(apply(&client, &thing).await.unwrap().data["data"]["b"], "c");
    // A certificate that has ended lets nobody in.
    let kubeconfig =
        |good_for| api.authority().kubeconfig(&api.url(), "eve", "system:masters", good_for).unwrap();
    let good = api.client_from(&kubeconfig(std::time::Duration::from_secs(60))).await.unwrap();
    assert!(good.list_api_groups().await.is_ok());
    let ended = api.client_from(&kubeconfig(std::time::Duration::ZERO)).await.unwrap();
    assert!(ended.list_api_groups().await.is_err());
}
