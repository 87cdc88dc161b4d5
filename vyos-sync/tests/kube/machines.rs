//! VLANs that go, and the virtual machines on them.

use serde_json::{Value, json};
use weir_apiserver::install;

use crate::rig::{Rig, definition, network, vif, words};

fn attachment(name: &str, vlan: u16, route: &Value) -> Value {
    let annotations = json!({"network.harvesterhci.io/route": route.to_string()});
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
           "metadata": {"name": name, "namespace": "default", "annotations": annotations},
           "spec": {"config": json!({"type": "bridge", "bridge": "mgmt-br", "vlan": vlan}).to_string()}})
}

fn virtual_machine(name: &str, network: &str) -> Value {
    let networks = json!([{"name": "pod", "pod": {}}, {"name": "vlan", "multus": {"networkName": network}}]);
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name, "namespace": "default"},
           "spec": {"template": {"spec": {"networks": networks}}}})
}

fn instance(name: &str, network: &str) -> Value {
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name, "namespace": "default"},
           "spec": {"networks": [{"name": "vlan", "multus": {"networkName": network}}]}})
}

async fn start(test: &str) -> Option<Rig> {
    let mut rig = Rig::start(test).await?;
    let kinds = [
        ("k8s.cni.cncf.io", "NetworkAttachmentDefinition"),
        ("kubevirt.io", "VirtualMachine"),
        ("kubevirt.io", "VirtualMachineInstance"),
    ];
    let definitions = kinds.map(|(group, kind)| definition(group, "v1", kind, "Namespaced").unwrap());
    install(&rig.client, &definitions).await.unwrap();
    rig.controller(&[]);
    Some(rig)
}

fn says(condition: &Value, parts: &[&str]) {
    let text = condition["message"].as_str().unwrap();
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vlan_is_not_taken_from_under_a_machine() {
    let Some(rig) = start("a_vlan_is_not_taken_from_under_a_machine").await else { return };
    let objects = rig.router_objects(json!({"sources": {"harvester": {"parent": {"name": "eth1"}}}}));
    let route = json!({"mode": "manual", "cidr": "10.10.40.0/24", "gateway": "10.10.40.1"});
    let (tenant, prod) = (attachment("tenant", 40, &route), attachment("prod", 50, &json!({"mode": "auto"})));
    let mut ours = network("default", "prod", 50);
    ours["spec"]["harvesterRef"] = json!({"namespace": "default", "name": "prod"});
    let (web, db) = (virtual_machine("web", "default/tenant"), instance("db", "prod"));
    rig.apply(&objects).await;
    rig.apply(&[tenant.clone(), prod, ours.clone(), web.clone(), db.clone()]).await;
    rig.until_condition(&ours, "Ready", "True").await;
    rig.until("both are there", async || rig.has(&words(&vif(40))) && rig.has(&words(&vif(50)))).await;

    // Harvester's definition goes: its VLAN stays, and all else goes on.
    rig.delete(&tenant).await;
    let said = rig.until_condition(&objects[1], "PruneAllowed", "False").await;
    says(
        &said,
        &[
            "NetworkAttachmentDefinition default/tenant",
            "VLAN 40",
            "VirtualMachine default/web",
            "delete the machine",
        ],
    );
    assert_eq!(said["reason"], "InUse");
    let other = network("default", "other", 60);
    rig.apply(std::slice::from_ref(&other)).await;
    rig.until_condition(&other, "Ready", "True").await;
    rig.delete(&other).await;
    rig.until("another one goes", async || rig.object(&other).await.is_none() && !rig.has(&words(&vif(60))))
        .await;
    assert!(rig.has(&words(&vif(40))));

    // A network of ours is deleted: it waits, and says for whom.
    rig.delete(&ours).await;
    let said = rig.until_condition(&ours, "Complete", "False").await;
    says(
        &said,
        &[
            "it is being deleted",
            "VirtualMachineInstance default/db",
            "NetworkAttachmentDefinition default/prod",
        ],
    );
    assert!(rig.has(&words(&vif(40))) && rig.has(&words(&vif(50))));

    // The last machine leaves.
    rig.delete(&web).await;
    rig.until("its VLAN goes", async || !rig.has(&words(&vif(40)))).await;
    rig.until_condition(&objects[1], "PruneAllowed", "True").await;
    assert!(rig.has(&words(&vif(50))) && rig.object(&ours).await.is_some());
    rig.delete(&db).await;
    rig.until("the other goes", async || rig.object(&ours).await.is_none() && !rig.has(&words(&vif(50))))
        .await;
}
