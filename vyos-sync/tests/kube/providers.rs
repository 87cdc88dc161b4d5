//! Machines of Harvester's and Talos's providers, drained on the wire as others are.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use weir_apiserver::{documents, install};

use crate::drains::{NODES, Wire, deleting, hooks, lab, leave};
use crate::rig::{Rig, definition, neighbor, node_objects};

/// The providers' kinds, with their own schemas where those lie beside the repository.
const KINDS: [(&str, &str, &str, &str); 3] = [
    (
        "cluster-api-harvester/infrastructure.cluster.x-k8s.io_harvestermachines.yaml",
        "infrastructure.cluster.x-k8s.io",
        "v1beta1",
        "HarvesterMachine",
    ),
    (
        "cluster-api-talos/bootstrap.cluster.x-k8s.io_talosconfigs.yaml",
        "bootstrap.cluster.x-k8s.io",
        "v1alpha3",
        "TalosConfig",
    ),
    (
        "cluster-api-talos/controlplane.cluster.x-k8s.io_taloscontrolplanes.yaml",
        "controlplane.cluster.x-k8s.io",
        "v1alpha3",
        "TalosControlPlane",
    ),
];

async fn install_providers(rig: &Rig, test: &str) {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/crds");
    if !shared.is_dir() {
        eprintln!("SKIPPED the providers' own schemas in {test}: there is no {}", shared.display());
    }
    let all: Vec<CustomResourceDefinition> = KINDS
        .iter()
        .map(|(file, group, version, kind)| match shared.join(file) {
            file if file.exists() => {
                let found = documents(&file).unwrap().into_iter();
                let own = found.into_iter().find(|each| each["kind"] == "CustomResourceDefinition");
                serde_json::from_value(own.unwrap()).unwrap()
            }
            _ => definition(group, version, kind, "Namespaced").unwrap(),
        })
        .collect();
    install(&rig.client, &all).await.unwrap();
}

fn provider_id(node: &str) -> String {
    format!("harvester://00000000-0000-4000-8000-00000000000{}", &node[4..])
}

fn control_plane() -> Value {
    json!({"apiVersion": "controlplane.cluster.x-k8s.io/v1alpha3", "kind": "TalosControlPlane",
           "metadata": {"name": "media", "namespace": "default"},
           "spec": {"version": "v1.34.3", "replicas": 3,
                    "infrastructureTemplate": {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
                                               "kind": "HarvesterMachineTemplate", "name": "media", "namespace": "default"},
                    "controlPlaneConfig": {"controlplane": {"generateType": "controlplane", "talosVersion": "v1.12"}}}})
}

/// The provider's side of a Machine: the virtual machine and its configuration. The addresses are external, as Harvester's
/// provider has them.
fn backing(name: &str, address: &str, id: Option<&str>) -> [Value; 2] {
    let mut machine = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "HarvesterMachine",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"cpu": 2, "memory": "4Gi", "sshUser": "talos", "sshKeyPair": "default/example", "networks": ["default/nodes"],
                 "volumes": [{"volumeType": "image", "imageName": "default/talos", "volumeSize": "20Gi", "bootOrder": 0}]},
        "status": {"ready": true, "addresses": [{"type": "ExternalIP", "address": address}]}});
    if let Some(id) = id {
        machine["spec"]["providerID"] = json!(id);
    }
    let config = json!({"apiVersion": "bootstrap.cluster.x-k8s.io/v1alpha3", "kind": "TalosConfig",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"generateType": "controlplane", "talosVersion": "v1.12"}});
    [machine, config]
}

/// The Machine as Cluster API makes it from the two.
fn machine(name: &str, address: &str, id: Option<&str>) -> Value {
    let reference = |group: &str, version: &str, kind: &str| json!({"apiVersion": format!("{group}/{version}"), "kind": kind, "name": name, "namespace": "default"});
    let [(_, infrastructure, v1, machine), (_, bootstrap, v2, config), _] = KINDS;
    let mut made = json!({"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "Machine",
        "metadata": {"name": name, "namespace": "default", "finalizers": ["machine.cluster.x-k8s.io"],
                     "labels": {"cluster.x-k8s.io/cluster-name": "local", "cluster.x-k8s.io/control-plane": ""}},
        "spec": {"clusterName": "local", "version": "v1.34.3",
                 "bootstrap": {"configRef": reference(bootstrap, v2, config), "dataSecretName": format!("{name}-bootstrap-data")},
                 "infrastructureRef": reference(infrastructure, v1, machine)},
        "status": {"phase": "Running", "addresses": [{"type": "ExternalIP", "address": address}]}});
    if let Some(id) = id {
        made["spec"]["providerID"] = json!(id);
    }
    made
}

/// A Machine whose node Cluster API has not found: it waits for no pre-drain hook, and moves no Pods.
async fn leave_unseen(wire: &Wire<'_>, (node, address): (&str, &str), machine: &Value) {
    let rig = &wire.rig;
    let others: Vec<&str> =
        NODES.iter().map(|(_, address)| *address).filter(|other| *other != address).collect();
    rig.apply(std::slice::from_ref(machine)).await;
    rig.until("both hooks are set early", async || hooks(rig, machine).await.len() == 2).await;
    rig.delete(machine).await;
    deleting(rig, machine, "WaitingForPreTerminateHook").await;
    rig.until("both hooks are let go", async || hooks(rig, machine).await.is_empty()).await;
    assert!(rig.has(&[&neighbor(address)[..], &["shutdown"]].concat()));
    assert!(!wire.is_established(address).await);
    assert_eq!(wire.hops(), others);
    rig.delete_without_finalizer(machine).await;
    for object in node_objects(node, address) {
        rig.delete(&object).await;
    }
    rig.until("the neighbor is gone", async || !rig.has(&neighbor(address))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_harvester_and_talos_are_drained_by_whatever_tells_their_node() {
    let test = "machines_of_harvester_and_talos_are_drained_by_whatever_tells_their_node";
    let Some(lab) = lab(test) else { return };
    let drain = json!({"machineDrain": {"timeoutSeconds": 60}});
    let Some(wire) = Wire::lay(&lab, test, drain).await else { return };
    let rig = &wire.rig;
    install_providers(rig, test).await;
    rig.apply(&[control_plane()]).await;
    let [first, second, third] = NODES;
    for (node, address) in [first, second] {
        // As Harvester's provider does once the node has joined.
        let mut known = node_objects(node, address)[0].clone();
        known["spec"] = json!({"providerID": provider_id(node)});
        rig.apply(&[known]).await;
    }
    let back = async |(node, address): (&str, &str)| {
        rig.apply(&node_objects(node, address)).await;
        wire.until_hops(&NODES.map(|(_, address)| address)).await;
    };

    let id = provider_id(first.0);
    rig.apply(&backing("media-x2k7q", first.1, Some(&id))).await;
    let mut named = machine("media-x2k7q", first.1, Some(&id));
    named["status"]["nodeRef"] = json!({"apiVersion": "v1", "kind": "Node", "name": first.0});
    leave(&wire, first, &named).await;
    back(first).await;

    let id = provider_id(second.0);
    rig.apply(&backing("media-8fzwd", "10.10.30.99", Some(&id))).await;
    leave_unseen(&wire, second, &machine("media-8fzwd", "10.10.30.99", Some(&id))).await;
    back(second).await;

    rig.apply(&backing("media-m4c9t", third.1, None)).await;
    leave_unseen(&wire, third, &machine("media-m4c9t", third.1, None)).await;
    back(third).await;
    wire.end().await.assert_served(2 * NODES.len() as u64);
}
