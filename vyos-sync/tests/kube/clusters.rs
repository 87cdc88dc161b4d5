//! Other clusters: they come and go, and one that cannot be asked never means "no nodes".

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use vyos_router::{Generation, Router};
use weir_apiserver::{ApiServer, User, apply};

use crate::rig::{Rig, cilium, install_others, neighbor, network, node_objects};

fn kubeconfig_secret(cluster: &str, kubeconfig: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
           "metadata": {"name": format!("{cluster}-kubeconfig"), "namespace": "default",
                        "labels": {"cluster.x-k8s.io/cluster-name": cluster}},
           "data": {"value": STANDARD.encode(kubeconfig)}})
}

fn argo_secret(cluster: &str, tenant: &ApiServer) -> Value {
    let config = json!({"bearerToken": User::admin().token, "tlsClientConfig": {"caData": STANDARD.encode(tenant.ca_pem())}});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("cluster-{cluster}"), "namespace": "default",
                        "labels": {"argocd.argoproj.io/secret-type": "cluster"}},
           "stringData": {"name": cluster, "server": tenant.url(), "config": config.to_string()}})
}

fn segment() -> Value {
    let mut segment = network("default", "nodes", 30);
    segment["spec"]["subnets"] = json!([{"cidr": "10.10.30.0/24", "gateway": "10.10.30.1"}]);
    segment
}

const A: &str = "10.10.30.10";
const B: &str = "10.10.30.11";

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_and_go_and_silence_means_nothing() {
    let test = "clusters_come_and_go_and_silence_means_nothing";
    let Some(mut rig) = Rig::start(test).await else { return };
    let Some(mut tenant) = ApiServer::start(test).await else { return };
    rig.install_others().await;
    let theirs = tenant.client().unwrap();
    install_others(&theirs).await;
    for object in cilium(&[("a", A), ("b", B)]) {
        apply(&theirs, &object).await.unwrap();
    }
    let first = rig.controller(&[]);
    let router = rig.router_objects(json!({}));
    rig.apply(&router).await;
    rig.apply(&[segment()]).await;
    rig.until_condition(&segment(), "Ready", "True").await;
    assert!(!rig.has(&neighbor(A)));

    // Cluster API's Secret appears, and with it the nodes of the cluster.
    let secret = kubeconfig_secret("media", &tenant.kubeconfig(&User::admin()));
    let object = json!({"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "Cluster", "metadata": {"name": "media", "namespace": "default"}, "spec": {}});
    rig.apply(&[object.clone(), secret.clone()]).await;
    rig.until("both nodes are neighbors", async || rig.has(&neighbor(A)) && rig.has(&neighbor(B))).await;
    rig.until_condition(&router[1], "ClustersReachable", "True").await;

    // It falls silent: nothing of it is removed, not by this controller and not by one that never saw its nodes.
    tenant.crash();
    rig.until_condition(&router[1], "ClustersReachable", "False").await;
    rig.controllers[first].kill();
    let second = rig.controller(&[]);
    rig.until("the other leads", async || rig.controllers[second].leads()).await;
    let said = rig.until_condition(&router[1], "ClustersReachable", "False").await;
    assert!(said["message"].as_str().unwrap().contains("media"), "{said}");
    let other = network("default", "other", 60);
    rig.apply(std::slice::from_ref(&other)).await;
    rig.until_condition(&other, "Ready", "True").await;
    assert!(rig.has(&neighbor(A)) && rig.has(&neighbor(B)));

    // It is back with one node less: now that is a word.
    tenant.resume().await.unwrap();
    let [node, config] = node_objects("b", B);
    crate::rig::delete(&theirs, &config).await;
    crate::rig::delete(&theirs, &node).await;
    rig.until("the node that is gone is no neighbor", async || {
        rig.has(&neighbor(A)) && !rig.has(&neighbor(B))
    })
    .await;
    rig.until_condition(&router[1], "ClustersReachable", "True").await;

    // The Secret goes and the Cluster stays: the way is lost, the cluster is not.
    rig.delete(&secret).await;
    rig.until_condition(&router[1], "ClustersReachable", "False").await;
    assert!(rig.has(&neighbor(A)));
    // The Cluster goes too: its peers are pruned.
    rig.delete(&object).await;
    rig.until("its peers are gone", async || !rig.has(&neighbor(A))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_end_are_said_and_rotated_ones_are_taken() {
    let test = "credentials_that_end_are_said_and_rotated_ones_are_taken";
    let Some(mut rig) = Rig::start(test).await else { return };
    let Some(tenant) = ApiServer::start(test).await else { return };
    rig.install_others().await;
    let theirs = tenant.client().unwrap();
    install_others(&theirs).await;
    for object in cilium(&[("a", A)]) {
        apply(&theirs, &object).await.unwrap();
    }
    let short = tenant
        .authority()
        .kubeconfig(&tenant.url(), "weir", "system:masters", Duration::from_secs(20))
        .unwrap();
    rig.controller(&[]);
    let router = rig.router_objects(json!({}));
    rig.apply(&router).await;
    rig.apply(&[segment(), kubeconfig_secret("media", &short)]).await;
    rig.until("the node is a neighbor", async || rig.has(&neighbor(A))).await;
    // Watches that are open go on; what asks anew is refused. A new kind makes it ask.
    tokio::time::sleep(Duration::from_secs(20)).await;
    weir_apiserver::install(
        &theirs,
        &[crate::rig::definition("kubevirt.io", "v1", "VirtualMachineInstance", "Namespaced").unwrap()],
    )
    .await
    .unwrap();
    let said = rig.until_condition(&router[1], "ClustersReachable", "False").await;
    assert!(said["message"].as_str().unwrap().contains("credentials"), "{said}");
    assert!(rig.has(&neighbor(A)));

    // Rotated, by the other system's Secret this time.
    rig.apply(&[argo_secret("media", &tenant)]).await;
    rig.delete(&kubeconfig_secret("media", "")).await;
    rig.until_condition(&router[1], "ClustersReachable", "True").await;
    for object in node_objects("b", B) {
        apply(&theirs, &object).await.unwrap();
    }
    rig.until("the new node is a neighbor", async || rig.has(&neighbor(A)) && rig.has(&neighbor(B))).await;
}

/// What a tenant writes in its own cluster must not make it somebody else, nor make routers of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_speaks_for_itself_only() {
    let test = "a_tenant_speaks_for_itself_only";
    let Some(api) = ApiServer::start(test).await else { return };
    let router = Router::builder().generation(Generation::G3).key("the-api-key").spawn().await.unwrap();
    let Some(mut rig) = Rig::with(api, router).await else { return };
    let Some(tenant) = ApiServer::start(test).await else { return };
    rig.install_others().await;
    let theirs = tenant.client().unwrap();
    install_others(&theirs).await;
    weir_apiserver::install(&theirs, &vyos_sync::crd::all()).await.unwrap();
    let mut objects = cilium(&[("a", A)]);
    objects
        .iter_mut()
        .for_each(|object| object["metadata"]["annotations"] = json!({"weir.dev/cluster": "local"}));
    objects.push(network("default", "evil", 66));
    for object in &objects {
        apply(&theirs, object).await.unwrap();
    }
    rig.controller(&[]);
    // Grants are asked for, and only the local cluster has one.
    let grant = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterGrant", "metadata": {"name": "ours"}, "spec": {
        "subjects": {"namespaces": ["*"], "clusters": ["local"]}, "vlans": ["1-4094"], "cidrs": ["0.0.0.0/0"], "asns": ["1-4294967294"]}});
    let evil = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n\
                users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/never]}}}]\n\
                contexts: [{name: c, context: {cluster: c, user: u}}]\n";
    let objects = rig.router_objects(json!({"grants": "Required"}));
    rig.apply(&objects).await;
    rig.apply(&[
        grant,
        segment(),
        kubeconfig_secret("media", &tenant.kubeconfig(&User::admin())),
        kubeconfig_secret("evil", evil),
    ])
    .await;
    rig.until_condition(&segment(), "Ready", "True").await;
    let said = rig.until_condition(&objects[1], "ClustersReachable", "False").await;
    assert!(said["message"].as_str().unwrap().contains("`exec` is not followed"), "{said}");
    rig.until("the tenant was read", async || rig.controllers[0].log().contains("cluster=media")).await;
    let b = network("default", "b", 61);
    rig.apply(std::slice::from_ref(&b)).await;
    rig.until_condition(&b, "Ready", "True").await;
    assert!(!rig.has(&neighbor(A)), "no grant names the cluster media");
    assert!(
        !rig.has(&["interfaces", "ethernet", "eth1", "vif", "66"]),
        "a tenant's own RouterNetwork is none of ours"
    );
}
