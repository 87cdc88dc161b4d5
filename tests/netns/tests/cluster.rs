//! The agent of a node beside a real API server: what it reads there, what it writes, and what it does without.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, CustomResourceExt as _};
use serde_json::{Value, json};
use weir_api::{Carries, NodeDatapath, NodeDatapathStatus, Routing};
use weir_apiserver::{ApiServer, User, apply, definition, documents, install};
use weir_netns::topology::{UPLINK, VIP4, VIP6};
use weir_netns::wait::until;
use weir_netns::{Agent, Pair, Process, built, relay, traffic};

/// For things that take seconds on a machine of one's own.
const LIMIT: Duration = Duration::from_secs(120);
const NODE: &str = "node1";

/// Cilium's kinds that this cluster has; the others are missing.
const INSTALLED: [&str; 5] = [
    "CiliumLoadBalancerIPPool",
    "CiliumBGPAdvertisement",
    "CiliumBGPPeerConfig",
    "CiliumBGPNodeConfig",
    "CiliumBGPClusterConfig",
];
const MISSING: &str = "CiliumL2AnnouncementPolicy";
/// Of Harvester, which this cluster is not.
const MONITOR: &str = "LinkMonitor";

fn cilium(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": {"name": name, "labels": {"advertise": "bgp"}}, "spec": spec})
}

fn service(vips: &[&str]) -> Value {
    let ingress: Vec<Value> = vips.iter().map(|vip| json!({"ip": vip, "ipMode": "VIP"})).collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders", "namespace": "default"},
           "spec": {"type": "LoadBalancer", "ipFamilyPolicy": "SingleStack", "selector": {"app": "orders"},
                    "ports": [{"name": "db", "port": 5432, "protocol": "TCP"}]},
           "status": {"loadBalancer": {"ingress": ingress}}})
}

/// A Service with an address and an endpoint here, a Pod here, and what else decides who is to advertise it.
fn objects() -> Vec<Value> {
    let all = json!({});
    let peer = json!({"name": "router", "peerASN": 64512, "peerAddress": "10.0.0.1", "peerConfigRef": {"name": "router"}});
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders", "uid": "1", "controller": true});
    vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
               "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2"},
               "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.3"}]}}),
        service(&[VIP4]),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"name": "orders-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "orders"}},
               "endpoints": [{"addresses": ["10.0.1.9"], "nodeName": NODE, "conditions": {"ready": true}}],
               "ports": [{"name": "db", "port": 5432, "protocol": "TCP"}]}),
        json!({"apiVersion": "v1", "kind": "Pod",
               "metadata": {"name": "orders-0", "namespace": "default", "ownerReferences": [owner]},
               "spec": {"nodeName": NODE, "containers": [{"name": "db", "image": "example/db:1"}]},
               "status": {"phase": "Running", "podIP": "10.0.1.9", "podIPs": [{"ip": "10.0.1.9"}]}}),
        cilium(
            "CiliumLoadBalancerIPPool",
            "vip",
            json!({"blocks": [{"cidr": "10.10.50.0/24"}, {"cidr": "fd10:10:50::/64"}]}),
        ),
        cilium(
            "CiliumBGPAdvertisement",
            "vip",
            json!({"advertisements": [
            {"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": all}]}),
        ),
        cilium(
            "CiliumBGPPeerConfig",
            "router",
            json!({"families": [
            {"afi": "ipv4", "safi": "unicast", "advertisements": all}, {"afi": "ipv6", "safi": "unicast", "advertisements": all}]}),
        ),
        cilium(
            "CiliumBGPNodeConfig",
            NODE,
            json!({"bgpInstances": [{"name": "lab", "localASN": 64513, "peers": [peer]}]}),
        ),
    ]
}

/// The agent as the chart has it: with these rights and no others.
fn account() -> User {
    User::new("agent-token", "system:serviceaccount:weir-system:weir-agent", &["system:authenticated"])
}

fn rights() -> Result<Vec<Value>> {
    let all = documents(&weir_repo::root().join("deploy/plain/30-agent.yaml"))?;
    let rights =
        all.into_iter().filter(|it| it["kind"].as_str().is_some_and(|kind| kind.starts_with("ClusterRole")));
    let rights: Vec<Value> = rights.collect();
    ensure!(rights.len() == 2, "the chart gives the agent no rights");
    Ok(rights)
}

struct Site<'a> {
    api: ApiServer,
    client: Client,
    agent: Agent<'a>,
    /// Answers at the addresses, so that nothing is wrong with them.
    _server: Process,
}

impl<'a> Site<'a> {
    /// An API server with these objects, and a way to it out of the node's namespace; the agent is not started yet.
    async fn new(api: ApiServer, pair: &'a Pair) -> Result<Self> {
        Self::with(api, pair, &[]).await
    }

    /// The same, with more options of the agent.
    async fn with(api: ApiServer, pair: &'a Pair, more: &[&str]) -> Result<Self> {
        let client = api.client()?;
        let cilium = |kind: &&str| definition("cilium.io", "v2", kind, "Cluster");
        let mut definitions = INSTALLED.iter().map(cilium).collect::<Result<Vec<_>>>()?;
        definitions.push(definition("kubevirt.io", "v1", "VirtualMachineInstance", "Namespaced")?);
        definitions.push(NodeDatapath::crd());
        definitions.push(serde_json::from_value(weir_agent::model::policy::definition())?);
        install(&client, &definitions).await?;
        for object in rights()?.into_iter().chain(objects()) {
            apply(&client, &object).await.with_context(|| object.to_string())?;
        }
        let address: SocketAddr = api.url().trim_start_matches("https://").parse()?;
        relay::outward(&pair.node, address)?;
        let kubeconfig = api.kubeconfig_file(&account())?.display().to_string();
        let options = ["--interface", UPLINK, "--node", NODE, "--kubeconfig", &kubeconfig];
        let options = [&options, more].concat();
        let agent = Agent::new(&pair.node, &built("weir-agent")?, &options)?;
        let server = traffic::start_server(&pair.node, &[VIP4, VIP6])?;
        Ok(Self { api, client, agent, _server: server })
    }

    async fn apply(&self, object: &Value) -> Result<()> {
        apply(&self.client, object).await.map(drop)
    }

    /// Waits until it holds; else shows what the agent said.
    fn until(&self, what: &str, holds: impl FnMut() -> Result<bool>) -> Result<()> {
        until(what, LIMIT, holds).map(drop).with_context(|| self.agent.log_text())
    }

    fn row(&self, vip: &str) -> Result<Value> {
        let table: Value = serde_json::from_str(&self.agent.weirctl(&["vips", "-o", "json"])?)?;
        let rows = table["vips"].as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().find(|row| row["address"] == vip).unwrap_or_default())
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.agent.weirctl(&["status", "-o", "json"])?)?)
    }

    fn words(&self) -> Api<NodeDatapath> {
        Api::all(self.client.clone())
    }

    /// Waits until the node's word fits.
    async fn until_word(&self, what: &str, fits: impl Fn(&NodeDatapath) -> bool) -> Result<NodeDatapath> {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            let word = self.words().get_opt(NODE).await?;
            if let Some(word) = word.as_ref().filter(|word| fits(word)) {
                return Ok(word.clone());
            }
            ensure!(tokio::time::Instant::now() < end, "{what}: {word:#?}\n{}", self.agent.log_text());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn carries(word: &NodeDatapath) -> Carries {
    word.status.as_ref().map(|status| status.carries).unwrap_or_default()
}

macro_rules! api_or_skip {
    ($name:literal) => {{
        if let Some(reason) = weir_netns::unavailable() {
            writeln!(std::io::stderr(), "SKIPPED {}: {reason}", $name)?;
            return Ok(());
        }
        let Some(api) = ApiServer::builder().user(account()).start($name).await else { return Ok(()) };
        api
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_cluster_become_rows_and_workloads() -> Result<()> {
    let api = api_or_skip!("objects_of_the_cluster_become_rows_and_workloads");
    let pair = Pair::new()?;
    pair.node.address("lo", "10.0.1.9/32")?;
    pair.peer.ip("route add 10.0.1.9/32 via 10.0.0.2")?;
    let mut site = Site::new(api, &pair).await?;
    site.agent.start()?;
    site.until("the address has a row", || {
        let row = site.row(VIP4)?;
        Ok(row["services"][0] == "default/orders" && row["wanted"] == "here" && row["pool"] == "vip")
    })?;
    let row = site.row(VIP4)?;
    assert_eq!((&row["endpoints_here"], &row["endpoints"]), (&json!(1), &json!(1)), "{row:#}");
    // What other nodes are to do is not known, and nothing is concluded from that.
    assert_eq!(row["findings"].as_array().map_or(0, Vec::len), 0, "{row:#}");

    // The other node answers at an address that its Node tells.
    pair.peer.address(UPLINK, "10.0.0.3/24")?;
    site.until("the other node is probed", || {
        let other = site.status()?["mesh"][0].clone();
        let answered = |echo: &Value| {
            echo["sent"].as_u64().zip(echo["lost"].as_u64()).is_some_and(|(sent, lost)| sent > lost)
        };
        Ok(other["node"] == "node2" && other["address"] == "10.0.0.3" && answered(&other["echo"]))
    })?;

    // A kind that is not there is off, says so, and comes when it comes.
    site.until("the missing kinds are told", || {
        Ok(site.status()?["cluster"]["missing"] == json!([MISSING, MONITOR]))
    })?;
    let (code, text) = site.agent.readiness()?;
    ensure!(code == 200 && text == "ok\n", "{text}");
    install(&site.client, &[definition("cilium.io", "v2", MISSING, "Cluster")?]).await?;
    site.until("the new kind is followed", || {
        let labels = [("kind", MISSING), ("state", "following")];
        Ok(site.agent.scrape()?.sum("weir_cluster_kind_state", &labels) == 1.0)
    })?;

    // Packets of a Pod are its workload's.
    pair.peer.run(|| {
        let socket = std::net::UdpSocket::bind("10.0.0.1:4000")?;
        Ok(socket.send_to(b"hello", "10.0.1.9:5432")?)
    })?;
    site.until("the flow has its workload", || {
        let flows: Value =
            serde_json::from_str(&site.agent.weirctl(&["flows", "--port", "5432", "-o", "json"])?)?;
        Ok(flows["flows"][0]["destination_workload"] == "default/orders")
    })?;
    let text = site.agent.weirctl(&["flows", "--port", "5432"])?;
    ensure!(text.contains("default/orders:5432"), "{text}");
    let text = site.agent.weirctl(&["flows", "--port", "5432", "--addresses"])?;
    ensure!(text.contains("10.0.1.9:5432"), "{text}");

    // Objects change and go.
    site.apply(&service(&[VIP4, VIP6])).await?;
    site.until("the second address has a row", || Ok(site.row(VIP6)?["wanted"] == "here"))?;
    site.apply(&service(&[VIP6])).await?;
    site.until("the first one's row is gone", || Ok(site.row(VIP4)?.is_null()))
}

/// What Harvester says of this node's links, and of another's.
fn monitor(links: &[(&str, &str)]) -> Value {
    let links: Vec<Value> = links.iter().map(|(name, state)| json!({"name": name, "state": state})).collect();
    json!({"apiVersion": "network.harvesterhci.io/v1beta1", "kind": MONITOR, "metadata": {"name": "data"},
           "spec": {"targetLinkRule": {"nameRule": UPLINK}},
           "status": {"linkStatus": {NODE: links, "node2": [{"name": "data-bo", "state": "down"}]}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_harvester_has_wrong_about_a_link_is_named() -> Result<()> {
    let api = api_or_skip!("what_harvester_has_wrong_about_a_link_is_named");
    let pair = Pair::new()?;
    let mut site = Site::new(api, &pair).await?;
    install(&site.client, &[definition("network.harvesterhci.io", "v1beta1", MONITOR, "Cluster")?]).await?;
    site.apply(&monitor(&[(UPLINK, "down"), ("data-bo", "up")])).await?;
    site.agent.start()?;
    let differences = || -> Result<Vec<Value>> {
        Ok(site.status()?["link_differences"].as_array().cloned().unwrap_or_default())
    };
    let told = |interface: &str| -> Result<Vec<u64>> {
        let (scrape, labels) = (site.agent.scrape()?, [("interface", interface)]);
        let of = scrape.select("weir_link_monitor_disagrees", &labels);
        Ok(of.map(|sample| sample.value as u64).collect())
    };
    site.until("both differences are named", || Ok(differences()?.len() == 2))?;
    let named = differences()?;
    assert_eq!(named[0], json!({"interface": UPLINK, "monitor": "data", "says": "down", "is": "up"}));
    assert_eq!((&named[1]["interface"], &named[1]["is"]), (&json!("data-bo"), &Value::Null), "{named:?}");
    assert_eq!((told(UPLINK)?, told("data-bo")?), (vec![1], vec![1]));
    let text = site.agent.weirctl(&["status"])?;
    ensure!(text.contains("WHAT HARVESTER HAS WRONG") && text.contains("not there"), "{text}");

    // It catches up; then the link goes down, and it does not take notice.
    site.apply(&monitor(&[(UPLINK, "up")])).await?;
    site.until("nothing differs", || Ok(told(UPLINK)? == [0] && told("data-bo")?.is_empty()))?;
    assert_eq!(differences()?, [Value::Null; 0]);
    pair.node.ip("link set eth0 down")?;
    site.until("the link that is down is named", || {
        let named = differences()?;
        Ok(named.len() == 1 && named[0]["says"] == "up" && named[0]["is"] == "down")
    })?;

    // What it said before the API server went away is held against nobody.
    site.api.pause();
    site.until("nothing is compared", || Ok(told(UPLINK)?.is_empty()))
}

fn pod(name: &str, node: &str, address: &str, enrolled: bool) -> Value {
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": "1", "controller": true});
    let annotations = if enrolled { json!({"ambient.istio.io/redirection": "enabled"}) } else { json!({}) };
    json!({"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": format!("{name}-0"), "namespace": "default", "annotations": annotations, "ownerReferences": [owner]},
           "spec": {"nodeName": node, "containers": [{"name": "it", "image": "example/it:1"}]},
           "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_workloads_of_the_mesh_say_in_clear_is_told_beside_what_is_under_mtls() -> Result<()> {
    const CART: &str = "10.0.1.21";
    const STOCK: &str = "10.0.2.21";
    const PRINTER: &str = "10.0.2.22";
    let api = api_or_skip!("what_workloads_of_the_mesh_say_in_clear_is_told_beside_what_is_under_mtls");
    let pair = Pair::new()?;
    pair.node.address("lo", &format!("{CART}/32"))?;
    for address in [STOCK, PRINTER] {
        pair.peer.address("lo", &format!("{address}/32"))?;
    }
    pair.peer.ip(&format!("route add {CART}/32 via 10.0.0.2 src {STOCK}"))?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("mesh.yaml");
    std::fs::write(
        &policy,
        "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {name: mesh}\nspec: {meshGuard: {mode: Audit}}\n",
    )?;
    let policy = policy.to_str().context("a plain path")?;
    let mut site = Site::with(api, &pair, &["--policy", policy, "--policy-deadline", "600"]).await?;
    site.agent.start()?;
    let list = || -> Result<Value> {
        Ok(serde_json::from_str(&site.agent.weirctl(&["policy", "list", "-o", "json"])?)?)
    };
    let rules = || -> Result<usize> {
        let list = list()?;
        let guards = |rule: &&Value| rule["action"].is_string() && rule["policy"] == "mesh";
        Ok(list["rules"].as_array().map_or(0, |all| all.iter().filter(guards).count()))
    };
    // No Pod is in the mesh: there is nothing to guard, and that is no fault.
    site.until("the policy is confirmed", || {
        let list = list()?;
        Ok(list["confirmed"] == 1 && list["policy_problems"].as_array().is_none_or(Vec::is_empty))
    })?;
    assert_eq!(rules()?, 0);
    site.apply(&pod("stock", "node2", STOCK, true)).await?;
    site.apply(&pod("printer", "node2", PRINTER, false)).await?;
    site.apply(&pod("cart", NODE, CART, true)).await?;
    site.until("the guard knows who is enrolled", || Ok(rules()? == 8))?;

    let packets = |security: &str| -> Result<f64> {
        let labels = [("workload", "default/cart"), ("security", security)];
        Ok(site.agent.scrape()?.sum("weir_ambient_packets_total", &labels))
    };
    // Until all Pods of other nodes are listed, a packet may be of nobody known.
    site.until("the other side of HBONE is known", || {
        let hbone = pair.node.run(|| Ok(std::net::TcpListener::bind((CART, 15_008))?))?;
        pair.peer.run(|| Ok(std::net::TcpStream::connect((CART, 15_008))?))?;
        drop(hbone);
        Ok(packets("mtls")? >= 3.0)
    })?;
    assert_eq!(packets("plain")?, 0.0);
    for from in [STOCK, PRINTER] {
        pair.peer.run(|| {
            let socket = std::net::UdpSocket::bind((from, 4000))?;
            (0..5).try_for_each(|_| socket.send_to(b"in clear", (CART, 5000)).map(drop)).map_err(Into::into)
        })?;
    }
    site.until("what was in clear is told", || Ok(packets("plain")? == 5.0))?;
    let list = list()?;
    let talk = &list["talks"][0];
    assert_eq!((&talk["here"], &talk["peer"]), (&json!("default/cart"), &json!("default/stock")), "{list:#}");
    assert_eq!(talk["plain_packets"], 5, "{list:#}");
    ensure!(list["pairs"].as_array().is_some_and(|pairs| pairs.len() == 1), "{list:#}");
    let text = site.agent.weirctl(&["policy", "list"])?;
    ensure!(text.contains("WORKLOADS OF THE MESH") && text.contains("default/stock"), "{text}");

    // A Pod that leaves the mesh is no longer guarded.
    site.apply(&pod("cart", NODE, CART, false)).await?;
    site.until("the guard has one Pod only", || {
        pair.peer.run(|| {
            let socket = std::net::UdpSocket::bind((STOCK, 4000))?;
            Ok(socket.send_to(b"in clear", (CART, 5000)).map(drop)?)
        })?;
        let traced =
            ["--interface", UPLINK, "--from", STOCK, "--to", CART, "--protocol", "udp", "--port", "5000"];
        let traced = site.agent.weirctl(&[&["policy", "trace", "-o", "json"], &traced[..]].concat())?;
        let traced: Value = serde_json::from_str(&traced)?;
        Ok(traced["kernel"]["matched"].as_array().is_none_or(Vec::is_empty) && traced["agree"] == true)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_leave_their_storage_network_are_told() -> Result<()> {
    const MANAGER: &str = "10.0.1.31";
    let api = api_or_skip!("replicas_that_leave_their_storage_network_are_told");
    let pair = Pair::new()?;
    pair.node.address("lo", &format!("{MANAGER}/32"))?;
    pair.peer.ip(&format!("route add {MANAGER}/32 via 10.0.0.2"))?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("storage.yaml");
    std::fs::write(
        &policy,
        "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {name: storage}\nspec: {storageGuard: {}}\n",
    )?;
    let policy = policy.to_str().context("a plain path")?;
    let mut site = Site::with(api, &pair, &["--policy", policy, "--policy-deadline", "600"]).await?;
    site.agent.start()?;
    let mut manager = pod("instance-manager-1", NODE, MANAGER, false);
    manager["metadata"]["labels"] = json!({"longhorn.io/component": "instance-manager"});
    manager["metadata"]["annotations"] =
        json!({"k8s.v1.cni.cncf.io/networks": "[{\"name\": \"storage\", \"interface\": \"lhnet1\"}]"});
    site.apply(&manager).await?;
    site.until("the guard knows the instance manager", || {
        Ok(site.agent.weirctl(&["policy", "list"])?.contains("storage/guard-storage-answer-out"))
    })?;
    let would_drop = || -> Result<u64> {
        let labels = [("policy", "storage"), ("verdict", "drop"), ("mode", "audit")];
        Ok(site.agent.scrape()?.count("weir_policy_packets_total", &labels))
    };
    let connect = |port: u16| -> Result<()> {
        let listener = pair.node.run(|| Ok(std::net::TcpListener::bind((MANAGER, port))?))?;
        pair.peer.run(|| Ok(std::net::TcpStream::connect((MANAGER, port))?))?;
        drop(listener);
        Ok(())
    };
    // Its control is in the cluster's network, and stays there.
    connect(8_500)?;
    assert_eq!(would_drop()?, 0);
    connect(10_007)?;
    site.until("what replicas say there is told", || Ok(would_drop()? >= 3))?;
    let list = site.agent.weirctl(&["policy", "list"])?;
    ensure!(list.contains("PAIRS OUTSIDE THEIR NETWORK") && list.contains(MANAGER), "{list}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_move_and_replicas_are_classes_by_what_their_objects_say() -> Result<()> {
    const STORAGE: &str = "10.10.60.31";
    let api = api_or_skip!("machines_that_move_and_replicas_are_classes_by_what_their_objects_say");
    let pair = Pair::new()?;
    pair.node.address("lo", &format!("{STORAGE}/32"))?;
    pair.peer.ip(&format!("route add {STORAGE}/32 via 10.0.0.2"))?;
    let mut site = Site::new(api, &pair).await?;
    site.agent.start()?;
    site.agent.await_interface(UPLINK)?;
    let machine = |over: bool| {
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
               "metadata": {"name": "worker-0", "namespace": "default"},
               "status": {"phase": "Running", "migrationState": {
                   "sourceNode": "node2", "targetNode": NODE, "targetNodeAddress": "10.0.0.2", "completed": over,
                   "targetDirectMigrationNodePorts": {"40001": 49152, "40002": 49153}}}})
    };
    let mut manager = pod("instance-manager-1", NODE, "10.0.1.31", false);
    manager["metadata"]["labels"] = json!({"longhorn.io/component": "instance-manager"});
    manager["metadata"]["annotations"] = json!({
        "k8s.v1.cni.cncf.io/networks": "[{\"name\": \"storage\", \"interface\": \"lhnet1\"}]",
        "k8s.v1.cni.cncf.io/network-status": format!("[{{\"interface\": \"lhnet1\", \"ips\": [\"{STORAGE}\"]}}]")});
    let counted = |class: &str| -> Result<u64> {
        Ok(site.agent.scrape()?.count("weir_class_packets_total", &[("class", class)]))
    };
    let send = |to: &str, port: u16| -> Result<()> {
        let listener = pair.node.run(|| Ok(std::net::TcpListener::bind((to, port))?))?;
        pair.peer.run(|| Ok(std::net::TcpStream::connect((to, port))?))?;
        drop(listener);
        Ok(())
    };
    send("10.0.0.2", 40_001)?;
    // To a port that no class has.
    send(STORAGE, 9_999)?;
    assert_eq!((counted("vm-migration")?, counted("storage-data")?), (0, 0));
    site.apply(&machine(false)).await?;
    site.apply(&manager).await?;
    site.until("what moves the machine is its class", || {
        send("10.0.0.2", 40_001)?;
        Ok(counted("vm-migration")? >= 3)
    })?;
    site.until("what replicas say is their class", || {
        send(STORAGE, 9_999)?;
        Ok(counted("storage-data")? >= 3)
    })?;
    site.apply(&machine(true)).await?;
    site.until("the machine has moved, and its port is any port again", || {
        let before = counted("vm-migration")?;
        send("10.0.0.2", 40_001)?;
        Ok(counted("vm-migration")? == before)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_says_whether_it_carries_traffic() -> Result<()> {
    let api = api_or_skip!("the_node_says_whether_it_carries_traffic");
    let pair = Pair::new()?;
    let mut site = Site::new(api, &pair).await?;
    site.agent.start()?;
    let word = site.until_word("all is well", |word| carries(word) == Carries::Yes).await?;
    let owner = word.metadata.owner_references.iter().flatten().next().context("nobody owns it")?;
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Node", NODE));
    let status = word.status.context("no status")?;
    assert_eq!((status.report_seconds, status.reasons.len()), (Some(60), 0));
    assert!(status.reported_at.is_some() && !status.capabilities.is_empty(), "{status:#?}");
    let link = status.links.first().context("no link")?;
    assert_eq!((link.name.as_str(), link.up, link.gateway_answers), (UPLINK, true, Some(true)));
    assert_eq!(
        status.conditions.iter().map(|one| one.type_.as_str()).collect::<Vec<_>>(),
        ["Ready", "SourcesInstalled"]
    );
    site.until_word("addresses are told", |word| {
        let vips = word.status.as_ref().and_then(|status| status.vips.as_ref());
        vips.is_some_and(|vips| vips.intended == 1)
    })
    .await?;

    // A person decides about the spec, and the agent leaves it alone.
    let decided = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "NodeDatapath", "metadata": {"name": NODE},
                         "spec": {"routing": "InService"}});
    site.words().patch(NODE, &PatchParams::apply("jane"), &Patch::Apply(&decided)).await?;
    let word = site.until_word("the spec is seen", |word| {
        word.status.as_ref().is_some_and(|status| status.observed_generation == word.metadata.generation)
    });
    let word = word.await?;
    assert_eq!(word.spec.routing, Routing::InService);

    // The same objects again change nothing, and so nothing is written but now and then.
    let settled = site.words().get(NODE).await?;
    for object in objects() {
        site.apply(&object).await?;
    }
    let again = PatchParams::apply("jane");
    site.words().patch(NODE, &again, &Patch::Apply(&decided)).await?;
    let mut writes = BTreeSet::new();
    let early = tokio::time::Instant::now() + Duration::from_secs(15);
    while tokio::time::Instant::now() < early {
        let now = site.words().get(NODE).await?;
        ensure!(
            said(&now) == said(&settled),
            "it was written though nothing changed: {settled:#?}\n{now:#?}"
        );
        writes.insert(now.metadata.resource_version);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(writes.len() <= 2, "one heartbeat may fall into that time: {writes:?}");

    // The uplink fails: the node says so, with the reason, and an Event tells it.
    pair.node.ip("link set eth0 down")?;
    let word = site.until_word("it cannot carry traffic", |word| carries(word) == Carries::No).await?;
    let reason = word.status.as_ref().and_then(|status| status.reasons.first()).context("no reason")?;
    ensure!(reason.code == "UplinksDown" && reason.message.contains(UPLINK), "{reason:?}");
    until_condition(&site, "False", "UplinksDown").await?;
    pair.node.ip("link set eth0 up")?;
    // What the kernel forgets with the link.
    pair.node.ip_all(
        "-6 addr replace fd00::2/64 dev eth0 nodad\nroute replace default via 10.0.0.1\n-6 route replace default via fd00::1",
    )?;
    site.until_word("it carries again", |word| carries(word) == Carries::Yes).await?;
    until_condition(&site, "True", "CarriesYes").await?;
    let events: Api<Event> = Api::default_namespaced(site.client.clone());
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let all = events.list(&ListParams::default()).await?;
        let reasons: Vec<&str> = all.items.iter().filter_map(|event| event.reason.as_deref()).collect();
        if reasons.contains(&"CarriesNo") && reasons.contains(&"CarriesYes") {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < end, "{reasons:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The condition of the Node.
async fn until_condition(site: &Site<'_>, status: &str, reason: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(site.client.clone());
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let conditions =
            nodes.get(NODE).await?.status.and_then(|status| status.conditions).unwrap_or_default();
        let ours = conditions.iter().find(|condition| condition.type_ == "WeirDatapathReady");
        if ours.is_some_and(|ours| ours.status == status && ours.reason.as_deref() == Some(reason)) {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < end, "{status} {reason}: {conditions:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn policy(port: u16) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "DatapathPolicy", "metadata": {"name": "quiet"},
           "spec": {"rules": [{"name": "port", "action": "Deny", "mode": "Enforce", "match": {"protocol": "TCP", "ports": [port]}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_the_cluster_are_enforced_and_outlive_its_api_server() -> Result<()> {
    let api = api_or_skip!("policies_of_the_cluster_are_enforced_and_outlive_its_api_server");
    let pair = Pair::new()?;
    let mut site = Site::with(api, &pair, &["--policy-from-cluster"]).await?;
    site.agent.start()?;
    let policies = |site: &Site<'_>| -> Result<Value> {
        Ok(serde_json::from_str(&site.agent.weirctl(&["policy", "list", "-o", "json"])?)?)
    };
    let confirmed = |site: &Site<'_>, rules: usize| -> Result<bool> {
        let list = policies(site)?;
        Ok(list["pending"].is_null() && list["rules"].as_array().map_or(0, Vec::len) >= rules)
    };
    let answers = || {
        let server = SocketAddr::new(VIP4.parse()?, traffic::TCP_PORT);
        pair.peer.run(|| Ok(traffic::request(server, &[100]).is_ok()))
    };
    ensure!(answers()?, "nothing is enforced yet");
    site.apply(&policy(traffic::TCP_PORT)).await?;
    // The gateway and the API server answer under the rules, and so they are confirmed.
    site.until("the rule is confirmed", || confirmed(&site, 1))?;
    ensure!(!answers()?, "{:#}", policies(&site)?);

    // The server goes away, the agent ends, the rules stay in force: of this agent and of the next one.
    site.api.pause();
    ensure!(!answers()?);
    site.agent.process()?.stop()?;
    ensure!(!answers()?);
    site.agent.start()?;
    site.until("the rules are known again", || confirmed(&site, 1))?;
    ensure!(!answers()?);

    // It changes, and goes.
    site.api.resume().await?;
    site.apply(&policy(1)).await?;
    site.until("the port is open again", answers)?;
    let gvk = GroupVersionKind::gvk("weir.dev", "v1alpha1", "DatapathPolicy");
    let kind = ApiResource::from_gvk_with_plural(&gvk, "datapathpolicies");
    let policies: Api<DynamicObject> = Api::all_with(site.client.clone(), &kind);
    policies.delete("quiet", &DeleteParams::default()).await?;
    site.until("there are no rules", || {
        Ok(site.agent.scrape()?.sum("weir_policy_generation", &[("state", "active")]) == 0.0)
    })
}

/// What is said, without what a heartbeat alone renews.
fn said(word: &NodeDatapath) -> Option<NodeDatapathStatus> {
    word.status.clone().map(|status| NodeDatapathStatus { reported_at: None, ..status })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_goes_on_without_its_api_server() -> Result<()> {
    let api = api_or_skip!("the_agent_goes_on_without_its_api_server");
    let pair = Pair::new()?;
    let mut site = Site::new(api, &pair).await?;
    site.agent.start()?;
    site.until("the address has a row", || Ok(site.row(VIP4)?["wanted"] == "here"))?;
    site.until_word("the node has a word", |word| word.status.is_some()).await?;

    site.api.pause();
    let away = |site: &Site<'_>| -> Result<bool> {
        let (code, text) = site.agent.readiness()?;
        let labels = [("state", "away")];
        Ok(code == 200
            && text.contains("cluster: the API server is away")
            && site.agent.scrape()?.sum("weir_cluster_state", &labels) == 1.0)
    };
    site.until("the agent says that the server is away", || away(&site))?;
    assert_eq!(site.row(VIP4)?["wanted"], "here", "what was known counts on");
    ensure!(site.agent.weirctl(&["status"])?.contains("the API server is away"));

    // An agent that starts meanwhile measures all the same, with the addresses that the last one knew.
    site.agent.process()?.stop()?;
    site.agent.start()?;
    ensure!(away(&site)?, "{:?}", site.agent.readiness());
    assert_eq!(site.status()?["vips"], json!([VIP4]));

    site.api.resume().await?;
    site.until("the server answers again", || {
        Ok(site.row(VIP4)?["wanted"] == "here" && site.agent.readiness()?.1 == "ok\n")
    })?;
    site.apply(&service(&[VIP4, VIP6])).await?;
    site.until("changes come again", || Ok(site.row(VIP6)?["wanted"] == "here"))?;
    // A server that crashes, and comes back with another history.
    site.api.crash();
    site.until("the agent says that the server is away", || away(&site))?;
    site.api.resume().await?;
    site.api.compact().await?;
    site.apply(&service(&[VIP6])).await?;
    site.until("changes come after a crash", || Ok(site.row(VIP4)?.is_null() && !site.row(VIP6)?.is_null()))
}
