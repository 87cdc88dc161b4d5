//! Faults of the API server, and what was written before our schemas.

use std::time::Instant;

use serde_json::{Value, json};
use vyos_router::{Generation, Router};
use weir_apiserver::{ApiServer, User, apply, install};

use crate::rig::{Rig, cilium, definition, install_others, neighbor, network, node_objects, vif, words};

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_lost_history_are_survived() {
    let Some(mut rig) = Rig::start("restarts_and_lost_history_are_survived").await else { return };
    rig.controller(&[]);
    rig.apply(&rig.router_objects(json!({}))).await;
    let a = network("default", "a", 40);
    rig.apply(std::slice::from_ref(&a)).await;
    rig.until_condition(&a, "Ready", "True").await;
    // While nobody watches, objects change and their history is forgotten: the place of every watch is too old (410).
    let leader = rig.controllers[0].pid();
    rig.controllers[0].signal(nix::sys::signal::Signal::SIGSTOP);
    rig.api.pause();
    rig.api.resume().await.unwrap();
    rig.delete_without_finalizer(&a).await;
    let b = network("default", "b", 50);
    rig.apply(std::slice::from_ref(&b)).await;
    rig.api.compact().await.unwrap();
    rig.api.crash();
    rig.api.resume().await.unwrap();
    rig.controllers[0].signal(nix::sys::signal::Signal::SIGCONT);
    rig.until_condition(&b, "Ready", "True").await;
    rig.until("what was deleted unseen is removed", async || !rig.has(&words(&vif(40)))).await;
    assert_eq!(rig.controllers[0].pid(), leader, "the same process");
    assert!(rig.controllers[0].log().contains("too old"), "the API server said 410 to a watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_installed_is_off_until_it_appears() {
    let Some(mut rig) = Rig::start("a_kind_that_is_not_installed_is_off_until_it_appears").await else {
        return;
    };
    rig.controller(&[]);
    let router = rig.router_objects(json!({}));
    let mut segment = network("default", "nodes", 30);
    segment["spec"]["subnets"] = json!([{"cidr": "10.10.30.0/24", "gateway": "10.10.30.1"}]);
    rig.apply(&router).await;
    rig.apply(std::slice::from_ref(&segment)).await;
    rig.until_condition(&segment, "Ready", "True").await;
    let said = rig.until_condition(&router[1], "SourcesInstalled", "False").await;
    assert!(said["message"].as_str().unwrap().contains("CiliumBGPNodeConfig"), "{said}");
    let start = Instant::now();
    install_others(&rig.client).await;
    rig.apply(&cilium(&[("a", "10.10.30.10")])).await;
    rig.until("its objects are followed", async || rig.has(&neighbor("10.10.30.10"))).await;
    eprintln!("followed {:.1} s after the definitions were applied", start.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_too_much_to_do_is_waited_for() {
    let test = "a_server_with_too_much_to_do_is_waited_for";
    // Few requests at once, for everybody who is not of the masters: the others get 429.
    let weir = User::new("weir-token", "weir", &["weirs"]);
    let api = ApiServer::builder()
        .user(weir.clone())
        .flag("--enable-priority-and-fairness=false")
        .flag("--max-requests-inflight=2")
        .flag("--max-mutating-requests-inflight=1");
    let Some(api) = api.start(test).await else { return };
    let router = Router::builder().generation(Generation::G3).key("the-api-key").spawn().await.unwrap();
    let Some(mut rig) = Rig::with(api, router).await else { return };
    rig.apply(&[json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "weirs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": "weirs", "apiGroup": "rbac.authorization.k8s.io"}]})])
    .await;
    install_others(&rig.client).await;
    rig.apply(&rig.router_objects(json!({}))).await;
    let networks: Vec<Value> = (0..20).map(|n| network("default", &format!("n{n}"), 40 + n)).collect();
    rig.apply(&networks).await;
    let kubeconfig = rig.api.kubeconfig_file(&weir).unwrap();
    // Several at once, so that they get into each other's way.
    for number in 0..3 {
        let state = rig.folder.path().join(format!("busy-{number}"));
        rig.controllers.push(crate::rig::Controller::start(&kubeconfig, &state, &[]));
    }
    for network in &networks {
        rig.until_condition(network, "Ready", "True").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_taken_without_a_restart() {
    let Some(mut rig) = Rig::start("a_rotated_key_is_taken_without_a_restart").await else { return };
    rig.controller(&[]);
    let mut objects = rig.router_objects(json!({}));
    objects[0]["stringData"]["key"] = json!("wrong");
    rig.apply(&objects).await;
    let a = network("default", "a", 40);
    rig.apply(std::slice::from_ref(&a)).await;
    rig.until_condition(&objects[1], "Ready", "False").await;
    assert!(!rig.has(&words(&vif(40))));
    rig.apply(&rig.router_objects(json!({}))[..1]).await;
    rig.until_condition(&a, "Ready", "True").await;
    // Gone altogether: what is there stays.
    rig.delete(&objects[0]).await;
    rig.until_condition(&objects[1], "Ready", "False").await;
    assert!(rig.has(&words(&vif(40))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_our_schemas_stops_nobody() {
    let test = "what_was_written_before_our_schemas_stops_nobody";
    let Some(api) = ApiServer::start(test).await else { return };
    let client = api.client().unwrap();
    install(&client, &[definition("weir.dev", "v1alpha1", "RouterNetwork", "Namespaced").unwrap()])
        .await
        .unwrap();
    let broken = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork", "metadata": {"name": "old", "namespace": "default"},
                        "spec": {"vlan": "forty"}});
    apply(&client, &broken).await.unwrap();
    let router = Router::builder().generation(Generation::G3).key("the-api-key").spawn().await.unwrap();
    let Some(mut rig) = Rig::with(api, router).await else { return };
    rig.controller(&[]);
    rig.apply(&rig.router_objects(json!({}))).await;
    let a = network("default", "a", 40);
    rig.apply(std::slice::from_ref(&a)).await;
    rig.until_condition(&a, "Ready", "True").await;
    assert!(rig.has(&words(&vif(40))));
    rig.until("the other one is named", async || {
        rig.controllers[0].log().contains("RouterNetwork default/old")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_objects() {
    let Some(mut rig) = Rig::start("ten_thousand_objects").await else { return };
    rig.install_others().await;
    let mut segment = network("default", "nodes", 30);
    segment["spec"]["subnets"] = json!([{"cidr": "10.10.30.0/24", "gateway": "10.10.30.1"}]);
    rig.apply(&rig.router_objects(json!({}))).await;
    rig.apply(&[segment]).await;
    rig.apply(&cilium(&[("a", "10.10.30.10")])).await;
    let (client, start) = (rig.client.clone(), Instant::now());
    let services = (0..10_000).map(|n| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}"), "namespace": "default",
                "annotations": {"noise": "x".repeat(200)}},
               "spec": {"selector": {"app": n.to_string()}, "ports": [{"port": 80}]}})
    });
    let services: Vec<Value> = services.collect();
    let puts = services.iter().map(|service| {
        let client = client.clone();
        async move {
            let api = crate::rig::api(&client, service);
            api.create(&Default::default(), &serde_json::from_value(service.clone()).unwrap()).await.map(drop)
        }
    });
    let done: Vec<_> =
        futures::StreamExt::collect(futures::StreamExt::buffer_unordered(futures::stream::iter(puts), 16))
            .await;
    let failed = done.iter().filter(|each| each.is_err()).count();
    assert_eq!(failed, 0, "{:?}", done.into_iter().find_map(Result::err));
    eprintln!("10000 Services written in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let number = rig.controller(&[]);
    rig.until("the router follows", async || rig.has(&neighbor("10.10.30.10"))).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.controllers[number].pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap();
    eprintln!("in force {:.1} s after the start, {} MiB at most", start.elapsed().as_secs_f64(), peak / 1024);
    assert!(peak < 400 * 1024, "{peak} KiB");
    // One change among ten thousand.
    let start = Instant::now();
    rig.apply(&node_objects("b", "10.10.30.11")).await;
    rig.until("one more neighbor", async || rig.has(&neighbor("10.10.30.11"))).await;
    eprintln!("one more node in force after {:.1} s", start.elapsed().as_secs_f64());
}
