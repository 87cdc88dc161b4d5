//! Drains on the wire: real sessions between FRR and GoBGP, requests through the virtual address all the while.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use vyos_router::{Generation, Namespace, Router};
use vyos_sync::config::Tree;
use weir_apiserver::ApiServer;
use weir_netns::topology::VIP4;
use weir_netns::traffic::{self, TCP_PORT};
use weir_netns::{Lab, Speaker, gateway, speaker};

use crate::rig::{Rig, cilium, neighbor};

pub(crate) const NODES: [(&str, &str); 3] =
    [("node1", "10.10.30.10"), ("node2", "10.10.30.11"), ("node3", "10.10.30.12")];

/// Three nodes that announce a virtual address to the router, and a client that asks for it without a pause.
pub(crate) struct Wire<'lab> {
    load: Load,
    pub(crate) rig: Rig,
    speakers: Vec<Speaker<'lab>>,
    lab: &'lab Lab,
    /// All that was applied.
    objects: Vec<Value>,
}

pub(crate) fn lab(test: &str) -> Option<Lab> {
    if let Some(reason) = weir_netns::unavailable().or_else(gateway::unavailable) {
        eprintln!("SKIPPED {test}: {reason}");
        return None;
    }
    Some(Lab::without_vip_routes().unwrap())
}

impl<'lab> Wire<'lab> {
    pub(crate) async fn lay(lab: &'lab Lab, test: &str, more: Value) -> Option<Self> {
        let api = ApiServer::start(test).await?;
        let mut tree = Tree::new();
        for (path, value) in [
            ("interfaces ethernet eth0 address", "10.10.20.1/24"),
            ("interfaces ethernet eth1 address", "10.10.30.1/24"),
        ] {
            tree.set(&path.parse().unwrap(), value).unwrap();
        }
        let router = Router::builder()
            .generation(Generation::G3)
            .key("the-api-key")
            .namespace(Namespace::Named(lab.router.name().to_owned()))
            .configuration(tree);
        let mut rig = Rig::with(api, router.spawn().await.unwrap()).await?;
        rig.install_others().await;
        let speakers = speaker::on_all_nodes(lab).unwrap();
        for node in &lab.nodes {
            node.spawn(|| traffic::serve(&[VIP4.parse()?], || Ok(()))).unwrap();
        }
        rig.controller(&[]);
        let mut bgp = json!({"bgp": {"asn": 64512, "addresses": ["10.10.30.1"], "maximumPaths": 8}});
        for (field, value) in more.as_object().into_iter().flatten() {
            bgp[field] = value.clone();
        }
        let mut objects = rig.router_objects(bgp);
        objects.extend(cilium(&NODES));
        objects.iter_mut().filter(|object| object["kind"] == "CiliumLoadBalancerIPPool").for_each(|pool| {
            pool["spec"]["blocks"] = json!([{"cidr": "10.10.50.0/24"}]);
        });
        objects.iter_mut().filter(|object| object["kind"] == "CiliumBGPPeerConfig").for_each(|config| {
            config["spec"]["timers"] = json!({"holdTimeSeconds": 9, "keepAliveTimeSeconds": 3});
        });
        rig.apply(&objects).await;
        let wire = Self { load: Load::start(lab), rig, speakers, lab, objects };
        wire.until_hops(&["10.10.30.10", "10.10.30.11", "10.10.30.12"]).await;
        wire.load.begin();
        wire.rig.until("requests are answered", async || wire.load.requests().answered > 100).await;
        Some(wire)
    }

    /// Where the router sends the virtual address's packets.
    pub(crate) fn hops(&self) -> Vec<String> {
        let routes =
            self.lab.router.output(std::process::Command::new("ip").args(["route", "show", VIP4])).unwrap();
        let text = String::from_utf8_lossy(&routes.stdout).into_owned();
        let mut words = text.split_whitespace();
        let mut hops = Vec::new();
        while let Some(word) = words.next() {
            if word == "via" {
                hops.extend(words.next().map(str::to_owned));
            }
        }
        hops.sort();
        hops
    }

    pub(crate) async fn until_hops(&self, wanted: &[&str]) {
        self.rig
            .until(&format!("the next hops are {wanted:?}, not {:?}", self.hops()), async || {
                self.hops() == wanted
            })
            .await;
    }

    /// The summary's line of a peer: a number of prefixes in place of a state where its session is up.
    pub(crate) async fn is_established(&self, peer: &str) -> bool {
        let text = std::process::Command::new("ip")
            .args([
                "netns",
                "exec",
                self.lab.router.name(),
                "ss",
                "-tnH",
                "state",
                "established",
                "dst",
                peer,
            ])
            .output()
            .unwrap();
        String::from_utf8_lossy(&text.stdout).lines().any(|line| line.contains(":179"))
    }

    pub(crate) async fn end(self) -> Requests {
        let requests = self.load.stop();
        drop((self.speakers, self.rig.controllers));
        self.rig.router.stop().await;
        requests
    }
}

/// What became of a client's requests, each on a connection of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    answered: u64,
    /// Reset or ended by a node that did not know the connection: the router hashes over its next hops, and a change of
    /// them moves a connection that is open at that instant, also between nodes that stay (`docs/vyos-sync-clusters.md`).
    moved: u64,
    /// Refused, unreachable or never answered.
    lost: u64,
}

impl Requests {
    fn count(&mut self, outcome: std::io::Result<u64>) {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match outcome {
            Ok(_) => self.answered += 1,
            Err(error) if [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind()) => {
                self.moved += 1
            }
            Err(error) => {
                eprintln!("a request was lost: {error}");
                self.lost += 1;
            }
        }
    }

    /// No request is lost, and of one client at most one is moved by each change of the next hops.
    pub(crate) fn assert_served(&self, changes: u64) {
        eprintln!("{self:?} in {changes} changes of the next hops");
        assert_eq!(self.lost, 0, "{self:?}");
        assert!(self.moved <= changes, "{self:?}");
    }
}

/// A client that asks again and again.
struct Load {
    on: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    requests: Arc<Mutex<Requests>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    fn start(lab: &Lab) -> Self {
        let (on, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let requests = Arc::new(Mutex::new(Requests::default()));
        let shared = (on.clone(), end.clone(), requests.clone());
        let thread = lab.client.spawn(move || {
            let (on, end, requests) = shared;
            let server = SocketAddr::new(VIP4.parse::<IpAddr>()?, TCP_PORT);
            while !end.load(Ordering::Relaxed) {
                if on.load(Ordering::Relaxed) {
                    let outcome = traffic::request(server, &[100]);
                    requests.lock().unwrap().count(outcome);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        Self { on, end, requests, thread: Some(thread.unwrap()) }
    }

    fn begin(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    fn requests(&self) -> Requests {
        *self.requests.lock().unwrap()
    }

    fn stop(mut self) -> Requests {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.requests()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn machine(node: &str) -> Value {
    json!({"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "Machine",
           "metadata": {"name": node, "namespace": "default", "finalizers": ["machine.cluster.x-k8s.io"]},
           "spec": {"clusterName": "local"}, "status": {"nodeRef": {"name": node}}})
}

/// What Cluster API's own controller says of a deletion.
pub(crate) async fn deleting(rig: &Rig, machine: &Value, reason: &str) {
    let status =
        json!({"status": {"conditions": [{"type": "Deleting", "status": "True", "reason": reason}]}});
    crate::rig::api(&rig.client, machine)
        .patch_status(
            machine["metadata"]["name"].as_str().unwrap(),
            &Default::default(),
            &kube::api::Patch::Merge(&status),
        )
        .await
        .unwrap();
}

pub(crate) async fn hooks(rig: &Rig, machine: &Value) -> Vec<String> {
    let machine = rig.object(machine).await.unwrap();
    let annotations = machine.metadata.annotations.unwrap_or_default();
    annotations
        .into_keys()
        .filter_map(|key| key.split_once(".delete.hook").map(|(hook, _)| hook.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_alone_make_a_virtual_address_reachable_and_a_revert_ends_it() {
    let test = "manifests_alone_make_a_virtual_address_reachable_and_a_revert_ends_it";
    let Some(lab) = lab(test) else { return };
    let Some(wire) = Wire::lay(&lab, test, json!({})).await else { return };
    assert_eq!(wire.hops().len(), 3);
    for object in wire.objects.iter().rev() {
        wire.rig.delete(object).await;
    }
    wire.until_hops(&[]).await;
    let router = &wire.objects[1];
    wire.rig.until("the Router object is gone", async || wire.rig.object(router).await.is_none()).await;
    let left = vyos_sync::config::print::commands(&wire.rig.router.running());
    // What it began with: its ports' addresses and its API.
    let own = ["set interfaces ethernet", "set service https"];
    assert!(left.lines().all(|line| own.iter().any(|start| line.starts_with(start))), "{left}");
    wire.end().await;
}

/// A Machine is deleted and leaves, as Cluster API goes about it.
pub(crate) async fn leave(wire: &Wire<'_>, (node, address): (&str, &str), machine: &Value) {
    let rig = &wire.rig;
    let others: Vec<&str> =
        NODES.iter().map(|(_, address)| *address).filter(|other| *other != address).collect();
    let shutdown = [&neighbor(address)[..], &["shutdown"]].concat();
    rig.apply(std::slice::from_ref(machine)).await;
    rig.until("both hooks are set early", async || hooks(rig, machine).await.len() == 2).await;

    rig.delete(machine).await;
    deleting(rig, machine, "WaitingForPreDrainHook").await;
    wire.until_hops(&others).await;
    assert!(wire.is_established(address).await, "the session stays");
    rig.until("the first hook is let go", async || hooks(rig, machine).await == ["pre-terminate"]).await;
    // Now Cluster API moves the Pods. Until it says so, nothing is shut down.
    assert!(!rig.has(&shutdown));
    deleting(rig, machine, "WaitingForPreTerminateHook").await;
    rig.until("the second hook is let go", async || hooks(rig, machine).await.is_empty()).await;
    assert!(rig.has(&shutdown));
    assert!(!wire.is_established(address).await);
    assert_eq!(wire.hops(), others);

    // All objects of the node go: so does its neighbor.
    rig.delete_without_finalizer(machine).await;
    for object in crate::rig::node_objects(node, address) {
        rig.delete(&object).await;
    }
    rig.until("the neighbor is gone", async || !rig.has(&neighbor(address))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_replaced_one_by_one_without_a_lost_request() {
    let drain = json!({"machineDrain": {"timeoutSeconds": 60}});
    let test = "all_nodes_are_replaced_one_by_one_without_a_lost_request";
    let Some(lab) = lab(test) else { return };
    let Some(wire) = Wire::lay(&lab, test, drain).await else { return };
    for node in NODES {
        leave(&wire, node, &machine(node.0)).await;
        // Its successor has its place and name.
        wire.rig.apply(&crate::rig::node_objects(node.0, node.1)).await;
        wire.until_hops(&["10.10.30.10", "10.10.30.11", "10.10.30.12"]).await;
    }
    wire.end().await.assert_served(2 * NODES.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_router_never_blocks_a_deletion() {
    let test = "a_dead_router_never_blocks_a_deletion";
    let Some(mut rig) = Rig::start(test).await else { return };
    rig.install_others().await;
    rig.controller(&[]);
    let bgp =
        json!({"bgp": {"asn": 64512, "addresses": ["10.10.30.1"]}, "machineDrain": {"timeoutSeconds": 3}});
    rig.apply(&rig.router_objects(bgp)).await;
    rig.apply(&cilium(&NODES)).await;
    let (second, third) = (machine("node2"), machine("node3"));
    rig.apply(std::slice::from_ref(&third)).await;
    rig.until("both hooks are set early", async || hooks(&rig, &third).await.len() == 2).await;
    rig.router.add_fault(vyos_router::Fault::lasting(vyos_router::FaultKind::Error500));
    rig.delete(&third).await;
    deleting(&rig, &third, "WaitingForPreDrainHook").await;
    rig.until("the first hook is let go in time", async || hooks(&rig, &third).await == ["pre-terminate"])
        .await;
    deleting(&rig, &third, "WaitingForPreTerminateHook").await;
    rig.until("the second hook too", async || hooks(&rig, &third).await.is_empty()).await;
    // A Router that no longer wants hooks takes its own away, also from Machines that are not leaving.
    rig.apply(std::slice::from_ref(&second)).await;
    rig.router.clear_faults();
    rig.until("hooks on the next one", async || hooks(&rig, &second).await.len() == 2).await;
    let bgp = json!({"bgp": {"asn": 64512, "addresses": ["10.10.30.1"]}});
    rig.apply(&rig.router_objects(bgp)[1..]).await;
    rig.until("they are gone", async || hooks(&rig, &second).await.is_empty()).await;
}

fn word(node: &str, carries: &str, number: u32) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "NodeDatapath", "metadata": {"name": node}, "spec": {},
           "status": {"carries": carries, "reportedAt": format!("2026-01-01T00:00:{number:02}Z"), "reportSeconds": 20,
                      "reasons": [{"code": "UplinkDown", "message": "a test says so"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_carry_traffic_is_drained_and_comes_back() {
    let health = json!({"health": {"maxDrainedPercent": 34, "unhealthySeconds": 1, "healthySeconds": 2}});
    let test = "a_node_that_cannot_carry_traffic_is_drained_and_comes_back";
    let Some(lab) = lab(test) else { return };
    let Some(wire) = Wire::lay(&lab, test, health).await else { return };
    let rig = &wire.rig;
    rig.apply(&[word("node1", "Yes", 1), word("node2", "No", 1), word("node3", "Yes", 1)]).await;
    wire.until_hops(&["10.10.30.10", "10.10.30.12"]).await;
    assert!(wire.is_established("10.10.30.11").await, "the session stays");
    // The budget is one of three: a second one stays in service, however it feels.
    rig.apply(&[word("node3", "No", 2)]).await;
    let commits = rig.router.commits();
    rig.until("the controller has looked again", async || {
        let looks = rig.router.journal().iter().filter(|entry| entry.endpoint.contains("retrieve")).count();
        looks > 20 && rig.router.commits() == commits
    })
    .await;
    assert_eq!(wire.hops(), ["10.10.30.10", "10.10.30.12"]);
    // It is well again: it comes back by itself, and then the other one may go.
    rig.apply(&[word("node2", "Yes", 3)]).await;
    wire.until_hops(&["10.10.30.10", "10.10.30.11"]).await;
    rig.apply(&[word("node3", "Yes", 4)]).await;
    wire.until_hops(&["10.10.30.10", "10.10.30.11", "10.10.30.12"]).await;
    wire.end().await.assert_served(4);
}
