//! An API server with our definitions, a router, and as many controllers as a test wants.
#![allow(unreachable_pub, reason = "shared by the tests beside it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use vyos_router::{Generation, Router};
pub use weir_apiserver::definition;
use weir_apiserver::{ApiServer, User, apply, install};

/// For things that take seconds on a machine of one's own.
pub const LIMIT: Duration = Duration::from_secs(90);

pub struct Rig {
    // Dropped in this order: nobody asks an API server that is gone.
    pub controllers: Vec<Controller>,
    pub router: Router,
    pub api: ApiServer,
    pub client: Client,
    pub folder: tempfile::TempDir,
}

impl Rig {
    /// `None` where there is no API server.
    pub async fn start(test: &str) -> Option<Self> {
        let router =
            Router::builder().generation(Generation::G3).key("the-api-key").minute(Duration::from_secs(5));
        Self::with(ApiServer::start(test).await?, router.spawn().await.unwrap()).await
    }

    pub async fn with(api: ApiServer, router: Router) -> Option<Self> {
        let client = api.client().unwrap();
        install(&client, &vyos_sync::crd::all()).await.unwrap();
        Some(Self { controllers: Vec::new(), router, api, client, folder: tempfile::tempdir().unwrap() })
    }

    /// Kinds of other systems, without their schemas: what a test writes of them is its own affair.
    pub async fn install_others(&self) {
        install_others(&self.client).await;
    }

    /// A controller of its own, as its own process.
    pub fn controller(&mut self, more: &[&str]) -> usize {
        self.controller_of(&User::admin(), more)
    }

    /// The same with the rights of a user.
    pub fn controller_of(&mut self, user: &User, more: &[&str]) -> usize {
        let kubeconfig = self.api.kubeconfig_file(user).unwrap();
        let number = self.controllers.len();
        let state = self.folder.path().join(format!("state-{number}"));
        self.controllers.push(Controller::start(&kubeconfig, &state, more));
        number
    }

    /// The Router object and its key.
    pub fn router_objects(&self, more: Value) -> Vec<Value> {
        let mut spec = json!({
            "endpoints": [self.router.url()], "tls": {"spkiPins": [self.router.spki_pin()]},
            "apiKey": {"secretRef": {"namespace": "default", "name": "gw-key", "key": "key"}},
            "mode": "Sync", "drift": "Revert", "grants": "Open", "bgp": {"asn": 64512}, "deletionBudget": 1000,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gw-key", "namespace": "default"},
                   "stringData": {"key": "the-api-key"}}),
            json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"}, "spec": spec}),
        ]
    }

    pub async fn apply(&self, objects: &[Value]) {
        for object in objects {
            apply(&self.client, object).await.unwrap_or_else(|error| panic!("{object}: {error:#}"));
        }
    }

    pub async fn delete(&self, object: &Value) {
        delete(&self.client, object).await;
    }

    /// Makes an object go at once, as if nobody had asked it to wait.
    pub async fn delete_without_finalizer(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let none = json!({"metadata": {"finalizers": null}});
        api(&self.client, object)
            .patch(name, &Default::default(), &kube::api::Patch::Merge(&none))
            .await
            .unwrap();
        self.delete(object).await;
    }

    pub async fn object(&self, object: &Value) -> Option<DynamicObject> {
        api(&self.client, object).get_opt(object["metadata"]["name"].as_str().unwrap()).await.unwrap()
    }

    pub fn has(&self, path: &[&str]) -> bool {
        self.router.running().exists(path)
    }

    /// Waits until it holds; else shows what the controllers said.
    pub async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) -> Duration {
        self.until_within(what, LIMIT, holds).await
    }

    pub async fn until_within(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl AsyncFnMut() -> bool,
    ) -> Duration {
        let start = Instant::now();
        while !holds().await {
            if start.elapsed() > limit {
                let said: String = self.controllers.iter().map(Controller::said).collect();
                panic!(
                    "not within {limit:?}: {what}\n{said}\n{}",
                    vyos_sync::config::print::commands(&self.router.running())
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        start.elapsed()
    }

    /// Waits for a condition of an object to have a status, for the newest generation.
    pub async fn until_condition(&self, object: &Value, kind: &str, status: &str) -> Value {
        let found = std::cell::RefCell::new(Value::Null);
        self.until(&format!("{kind}={status} of {}", object["metadata"]["name"]), async || {
            let Some(now) = self.object(object).await else { return false };
            let conditions = now.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let condition = conditions.into_iter().find(|each| each["type"] == kind).unwrap_or_default();
            let fits = condition["status"] == status
                && condition["observedGeneration"] == json!(now.metadata.generation);
            *found.borrow_mut() = condition;
            fits
        })
        .await;
        found.into_inner()
    }
}

pub struct Controller {
    child: Child,
    log: PathBuf,
}

impl Controller {
    pub fn start(kubeconfig: &Path, state: &Path, more: &[&str]) -> Self {
        std::fs::create_dir_all(state).unwrap();
        let log = state.join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_vyos-sync"))
            .args(["run", "--kube", "--period", "2", "--lease-seconds", "4", "--kubeconfig"])
            .arg(kubeconfig)
            .arg("--state-dir")
            .arg(state)
            .args(more)
            .env("RUST_LOG", "info,vyos_sync=debug")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// As a crash does.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// As Kubernetes does. Waits for the end.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.child.wait().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn leads(&self) -> bool {
        self.log().contains("leading")
    }

    fn said(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().rev().take(40).collect();
        format!("--- {}\n{}\n", self.log.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The API of an object's kind; plurals as Kubernetes forms them.
pub fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

pub async fn delete(client: &Client, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    match api(client, object).delete(name, &DeleteParams::default()).await {
        // It went with its last finalizer.
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        done => drop(done.unwrap()),
    }
}

pub async fn install_others(client: &Client) {
    let all = [
        ("cilium.io", "v2", "CiliumBGPClusterConfig", "Cluster"),
        ("cilium.io", "v2", "CiliumBGPPeerConfig", "Cluster"),
        ("cilium.io", "v2", "CiliumBGPNodeConfig", "Cluster"),
        ("cilium.io", "v2", "CiliumBGPAdvertisement", "Cluster"),
        ("cilium.io", "v2", "CiliumLoadBalancerIPPool", "Cluster"),
        ("cluster.x-k8s.io", "v1beta1", "Cluster", "Namespaced"),
        ("cluster.x-k8s.io", "v1beta1", "Machine", "Namespaced"),
    ];
    let definitions: Vec<_> = all
        .into_iter()
        .map(|(group, version, kind, scope)| definition(group, version, kind, scope).unwrap())
        .collect();
    install(client, &definitions).await.unwrap();
}

pub fn network(namespace: &str, name: &str, vlan: u16) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork", "metadata": {"name": name, "namespace": namespace},
           "spec": {"routerRef": {"name": "gw"}, "vlan": vlan, "parent": {"name": "eth1"},
                    "subnets": [{"cidr": format!("10.10.{}.0/24", vlan % 250)}]}})
}

pub fn vif(vlan: u16) -> [String; 5] {
    ["interfaces", "ethernet", "eth1", "vif", &vlan.to_string()].map(str::to_owned)
}

pub fn words(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// Cilium's objects for nodes of these names and addresses, which dial the router at 10.10.30.1.
pub fn cilium(nodes: &[(&str, &str)]) -> Vec<Value> {
    let mut all = vec![
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "gw"},
               "spec": {"families": [{"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"bgp": "vips"}}}]}}),
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": {"name": "vips", "labels": {"bgp": "vips"}},
               "spec": {"advertisements": [{"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]},
                                            "selector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}]}}),
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "pool"},
               "spec": {"blocks": [{"cidr": "10.99.0.0/24"}]}}),
    ];
    for (node, address) in nodes {
        all.extend(node_objects(node, address));
    }
    all
}

pub fn node_objects(node: &str, address: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
               "status": {"addresses": [{"type": "InternalIP", "address": address}]}}),
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": node},
               "spec": {"bgpInstances": [{"name": "i", "localASN": 64513, "peers": [
                    {"name": "gw", "peerAddress": "10.10.30.1", "peerASN": 64512, "peerConfigRef": {"name": "gw"}}]}]}}),
    ]
}

pub fn neighbor(address: &str) -> Vec<&str> {
    vec!["protocols", "bgp", "neighbor", address]
}
