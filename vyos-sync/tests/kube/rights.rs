//! vyos-sync with the rights that the chart gives it, and no others.

use serde_json::{Value, json};
use vyos_router::{Generation, Router};
use weir_apiserver::{ApiServer, User, apply, documents};

use crate::rig::{Rig, network};

/// What `deploy/plain` gives, and one Secret more, as `vyosSync.kube.secrets` does.
fn rights() -> Vec<Value> {
    let plain = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/plain/40-vyos-sync.yaml");
    let all = documents(&plain).unwrap().into_iter();
    let mut rights: Vec<Value> = all.filter(|it| it["kind"].as_str().unwrap().contains("Role")).collect();
    assert_eq!(rights.len(), 4);
    let metadata = json!({"name": "vyos-sync-secrets", "namespace": "default"});
    rights.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["gw-key"], "verbs": ["get", "list", "watch"]}]}));
    rights.push(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "vyos-sync-secrets"},
        "subjects": [{"kind": "ServiceAccount", "name": "vyos-sync", "namespace": "weir-system"}]}),
    );
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_rights_are_enough() {
    let account =
        User::new("sync-token", "system:serviceaccount:weir-system:vyos-sync", &["system:authenticated"]);
    let Some(api) = ApiServer::builder().user(account.clone()).start("the_charts_rights_are_enough").await
    else {
        return;
    };
    let router = Router::builder()
        .generation(Generation::G3)
        .key("the-api-key")
        .minute(std::time::Duration::from_secs(5));
    let mut rig = Rig::with(api, router.spawn().await.unwrap()).await.unwrap();
    rig.install_others().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "weir-system"}});
    apply(&rig.client, &namespace).await.unwrap();
    rig.apply(&rights()).await;
    let objects = rig.router_objects(json!({}));
    rig.apply(&objects).await;
    rig.apply(&[network("default", "blue", 40)]).await;
    rig.controller_of(&account, &["--namespace", "weir-system", "--no-cluster-secrets"]);
    rig.until_condition(&objects[1], "Ready", "True").await;
    rig.until_condition(&network("default", "blue", 40), "Ready", "True").await;
    assert!(rig.has(&["interfaces", "ethernet", "eth1", "vif", "40"]));
    rig.delete(&network("default", "blue", 40)).await;
    rig.until("the network is gone, from the router too", async || {
        rig.object(&network("default", "blue", 40)).await.is_none()
            && !rig.has(&["interfaces", "ethernet", "eth1", "vif", "40"])
    })
    .await;
    let said: String = rig.controllers.iter().map(crate::rig::Controller::log).collect();
    assert!(!said.contains("forbidden"), "{said}");
}
