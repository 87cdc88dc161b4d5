//! Who may write what: the admission policies, run by a real API server.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_apiserver::{ApiServer, User, apply, install};

use crate::rig::network;

const ACCOUNT: &str = "system:serviceaccount:weir-system:vyos-sync";
const AGENT: &str = "system:serviceaccount:weir-system:weir-agent";

/// A client that acts as somebody else, on a node where one is given.
async fn acting(api: &ApiServer, user: &str, node: Option<&str>) -> Client {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig(&User::admin())).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let mut header = |name: &'static str, value: &str| {
        config.headers.push((HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    };
    header("impersonate-user", user);
    header("impersonate-group", "weirs");
    if let Some(node) = node {
        header("impersonate-extra-authentication.kubernetes.io%2fnode-name", node);
    }
    Client::try_from(config).unwrap()
}

fn change() -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterChange", "metadata": {"name": "gw-1"},
           "spec": {"routerRef": {"name": "gw"}, "planHash": "a", "commands": []}})
}

fn raw() -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterConfig", "metadata": {"name": "raw"},
           "spec": {"routerRef": {"name": "gw"}, "subtree": ["system", "option"], "set": []}})
}

fn word(node: &str) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "NodeDatapath", "metadata": {"name": node}, "spec": {},
           "status": {"carries": "No"}})
}

/// As the agent does it.
async fn set_condition(client: &Client, kind: &str) -> kube::Result<Node> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"},
                      "status": {"conditions": [{"type": kind, "status": "False", "reason": "ATest", "message": ""}]}});
    let how = PatchParams::apply("weir-agent").force();
    Api::<Node>::all(client.clone()).patch_status("node-a", &how, &Patch::Apply(&node)).await
}

/// A server acts on roles and policies a moment after it took them, and tells nobody when: what is
/// asked of it is asked until it answers so.
async fn in_the_end(mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let limit = Instant::now() + Duration::from_secs(30);
    while let Err(error) = ask().await {
        assert!(Instant::now() < limit, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn refusal<T>(answer: Result<T, impl std::fmt::Display>, word: &str) -> Result<(), String> {
    match answer {
        Ok(_) => Err(format!("taken, where {word:?} was to be the answer")),
        Err(error) if format!("{error:#}").contains(word) => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    }
}

async fn taken(client: &Client, object: &Value) {
    in_the_end(async || apply(client, object).await.map(drop).map_err(|e| format!("{e:#}"))).await;
}

async fn refused(client: &Client, object: &Value, word: &str) {
    in_the_end(async || refusal(apply(client, object).await, word)).await;
}

async fn condition_taken(client: &Client, kind: &str) {
    in_the_end(async || set_condition(client, kind).await.map(drop).map_err(|e| e.to_string())).await;
}

async fn condition_refused(client: &Client, kind: &str, word: &str) {
    in_the_end(async || refusal(set_condition(client, kind).await, word)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_write_what() {
    let Some(api) = ApiServer::start("who_may_write_what").await else { return };
    let admin = api.client().unwrap();
    install(&admin, &vyos_sync::crd::all()).await.unwrap();
    let policies: Vec<Value> =
        serde_saphyr::from_multiple(&vyos_sync::crd::admission(ACCOUNT, AGENT)).unwrap();
    for policy in &policies {
        apply(&admin, policy).await.unwrap();
    }
    let role = |name: &str, rules: Value, group: &str| {
        [
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                   "subjects": [{"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}]}),
        ]
    };
    let all = json!([{"apiGroups": ["weir.dev"], "resources": ["*"], "verbs": ["get", "list", "create", "update", "patch", "delete"]}]);
    for object in role("writers", all, "weirs") {
        apply(&admin, &object).await.unwrap();
    }
    let (sync, person) = (acting(&api, ACCOUNT, None).await, acting(&api, "jane", None).await);
    refused(&person, &change(), "only vyos-sync writes it").await;
    taken(&sync, &change()).await;

    refused(&person, &raw(), "needs the verb \"configure\"").await;
    let configure = json!([{"apiGroups": ["weir.dev"], "resources": ["routers"], "resourceNames": ["gw"], "verbs": ["configure"]}]);
    for object in role("configurers", configure, "weirs") {
        apply(&admin, &object).await.unwrap();
    }
    taken(&person, &raw()).await;

    let (here, elsewhere) =
        (acting(&api, AGENT, Some("node-a")).await, acting(&api, AGENT, Some("node-b")).await);
    taken(&here, &word("node-a")).await;
    refused(&elsewhere, &word("node-a"), "on that very node").await;
    refused(&person, &word("node-a"), "on that very node").await;

    let nodes = json!([{"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]}]);
    for object in role("node-writers", nodes, "weirs") {
        apply(&admin, &object).await.unwrap();
    }
    apply(&admin, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}))
        .await
        .unwrap();
    condition_taken(&here, "WeirDatapathReady").await;
    condition_refused(&here, "Ready", "WeirDatapathReady and no other").await;
    condition_refused(&elsewhere, "WeirDatapathReady", "on that very node").await;

    let mut by_hand = word("node-a");
    by_hand.as_object_mut().unwrap().remove("status");
    by_hand["spec"]["routing"] = json!("Drained");
    taken(&person, &by_hand).await;

    let mut bad = network("default", "bad", 40);
    bad["spec"]["subnets"] = json!([{"cidr": "10.10.40.7/24"}]);
    refused(&person, &bad, "the network address").await;
    bad["spec"]["subnets"] = json!([{"cidr": "10.10.40.0/24", "gateway": "10.10.41.1"}]);
    refused(&person, &bad, "in its own subnet").await;
    taken(&person, &network("default", "good", 40)).await;
}
