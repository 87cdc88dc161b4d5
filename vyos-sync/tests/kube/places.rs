//! A machine on a real wire: it boots in the wrong VLAN, is named, and is moved.

use std::process::Command;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use vyos_router::{Generation, Namespace, Router};
use weir_apiserver::{ApiServer, install};
use weir_netns::{Host, gateway};

use crate::rig::{Rig, definition, network};

const MAC: &str = "02:00:00:00:30:0a";

fn hardware() -> Value {
    json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "ms02", "namespace": "default"},
           "spec": {"interfaces": [{"dhcp": {"mac": MAC, "ip": {"address": "10.10.30.10"}}}]}})
}

/// The router's port with two VLANs, each a wire to the machine.
fn wires(test: &str) -> Option<(Host, Host)> {
    if let Some(reason) = weir_netns::unavailable().or_else(gateway::unavailable) {
        eprintln!("SKIPPED {test}: {reason}");
        return None;
    }
    let (router, machine) = (Host::new("router").unwrap(), Host::new("ms02").unwrap());
    router.ip_all("link add eth1 type bridge\nlink set eth1 up").unwrap();
    for (port, vif) in [("tenant", "eth1.40"), ("nodes", "eth1.30")] {
        machine.veth(port, &router, vif).unwrap();
        machine.ip_all(&format!("link set {port} down\nlink set {port} address {MAC}")).unwrap();
    }
    Some((router, machine))
}

/// Plugs the machine in; from now on it can be heard.
async fn boot(rig: &Rig, machine: &Host, port: &str, address: &str, gateway: &str) {
    machine.ip_all(&format!("address add {address}/24 dev {port}\nlink set {port} up")).unwrap();
    rig.until("the machine reaches its gateway", async || {
        machine.output(Command::new("ping").args(["-c1", "-W1", gateway])).is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_boots_in_the_wrong_vlan_is_named_until_it_is_moved() {
    let test = "a_machine_that_boots_in_the_wrong_vlan_is_named_until_it_is_moved";
    let Some((wire, machine)) = wires(test) else { return };
    let Some(api) = ApiServer::start(test).await else { return };
    let router = Router::builder()
        .generation(Generation::G3)
        .key("the-api-key")
        .namespace(Namespace::Named(wire.name().to_owned()));
    let Some(mut rig) = Rig::with(api, router.spawn().await.unwrap()).await else { return };
    install(&rig.client, &[definition("tinkerbell.org", "v1alpha1", "Hardware", "Namespaced").unwrap()])
        .await
        .unwrap();
    rig.controller(&[]);
    let objects = rig.router_objects(json!({}));
    rig.apply(&objects).await;
    rig.apply(&[network("default", "nodes", 30), network("default", "tenant", 40), hardware()]).await;
    rig.until_condition(&objects[1], "MachinesInPlace", "True").await;

    boot(&rig, &machine, "tenant", "10.10.40.77", "10.10.40.1").await;
    let said = rig.until_condition(&objects[1], "MachinesInPlace", "False").await;
    let text = said["message"].as_str().unwrap();
    for part in ["Hardware default/ms02", MAC, "seen on eth1.40", "belongs on eth1.30", "into VLAN 30"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let events: Api<Event> = Api::namespaced(rig.client.clone(), "default");
    rig.until("an event on the Hardware", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        events.iter().any(|event| {
            event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some("ms02")
                && event.reason.as_deref() == Some("WrongVlan")
        })
    })
    .await;

    machine.ip("link set tenant down").unwrap();
    boot(&rig, &machine, "nodes", "10.10.30.10", "10.10.30.1").await;
    rig.until_condition(&objects[1], "MachinesInPlace", "True").await;
    rig.until_condition(&objects[1], "Ready", "True").await;
    drop(rig.controllers);
    rig.router.stop().await;
}
