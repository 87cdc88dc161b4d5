//! A hundred tenant clusters on one port: as much of the Kubernetes API as a watcher needs, over lists that change. The
//! cluster of the Router is a real API server; a hundred of those do not fit one machine.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// All clusters.
pub(super) struct Tenants(Vec<Tenant>);

struct Tenant {
    state: Mutex<Objects>,
    events: broadcast::Sender<(&'static str, String)>,
}

#[derive(Default)]
struct Objects {
    version: u64,
    by_kind: BTreeMap<&'static str, BTreeMap<String, Value>>,
}

/// Kind, API version and plural of what is served.
const KINDS: [(&str, &str, &str); 7] = [
    ("Node", "v1", "nodes"),
    ("Service", "v1", "services"),
    ("CiliumBGPNodeConfig", "cilium.io/v2", "ciliumbgpnodeconfigs"),
    ("CiliumBGPPeerConfig", "cilium.io/v2", "ciliumbgppeerconfigs"),
    ("CiliumBGPAdvertisement", "cilium.io/v2", "ciliumbgpadvertisements"),
    ("CiliumLoadBalancerIPPool", "cilium.io/v2", "ciliumloadbalancerippools"),
    ("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions"),
];

impl Tenants {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let tenant = || Tenant { state: Mutex::default(), events: broadcast::channel(1024).0 };
        Arc::new(Self((0..count).map(|_| tenant()).collect()))
    }

    /// Puts an object into a cluster, or changes it.
    pub(super) fn put(&self, cluster: usize, object: Value) {
        self.change(cluster, object, true);
    }

    /// Takes an object out of a cluster.
    pub(super) fn remove(&self, cluster: usize, object: Value) {
        self.change(cluster, object, false);
    }

    fn change(&self, cluster: usize, mut object: Value, there: bool) {
        let kind = KINDS.iter().find(|(kind, ..)| object["kind"] == *kind);
        let (Some((_, _, plural)), Some(tenant)) = (kind, self.0.get(cluster)) else { return };
        let mut state = tenant.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let of_kind = state.by_kind.entry(plural).or_default();
        let was = if there { of_kind.insert(name, object.clone()) } else { of_kind.remove(&name) };
        let word = match (there, was.is_some()) {
            (true, false) => "ADDED",
            (true, true) => "MODIFIED",
            (false, _) => "DELETED",
        };
        let line = format!("{}\n", json!({"type": word, "object": object}));
        tenant.events.send((plural, line)).ok();
    }

    /// Serves them at `/c/NUMBER`.
    pub(super) async fn serve(self: Arc<Self>) -> Result<SocketAddr> {
        let app = Router::new()
            .route("/c/{cluster}/apis", get(discovery))
            .route("/c/{cluster}/api/v1/{plural}", get(core))
            .route("/c/{cluster}/apis/{group}/{version}/{plural}", get(grouped))
            .with_state(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(address)
    }
}

async fn discovery() -> Json<Value> {
    let resources =
        KINDS.iter().filter(|(_, version, _)| *version == "cilium.io/v2").map(|(kind, _, plural)| {
            json!({"resource": plural, "responseKind": {"group": "cilium.io", "version": "v2", "kind": kind},
               "scope": "Cluster", "verbs": ["list", "watch"]})
        });
    let resources: Vec<Value> = resources.collect();
    Json(json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{"metadata": {"name": "cilium.io"}, "versions": [{"version": "v2", "resources": resources}]}]}))
}

async fn core(
    State(all): State<Arc<Tenants>>,
    Path((cluster, plural)): Path<(usize, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    all.answer(cluster, &plural, &query.unwrap_or_default())
}

async fn grouped(
    State(all): State<Arc<Tenants>>,
    Path((cluster, _, _, plural)): Path<(usize, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    all.answer(cluster, &plural, &query.unwrap_or_default())
}

impl Tenants {
    fn answer(&self, cluster: usize, plural: &str, query: &str) -> Response {
        let kind = KINDS.iter().find(|(.., known)| *known == plural);
        let (Some((kind, version, plural)), Some(tenant)) = (kind, self.0.get(cluster)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        if query.contains("watch=true") {
            let events = BroadcastStream::new(tenant.events.subscribe());
            let lines = events.filter_map(move |event| async move {
                let (of, line) = event.ok()?;
                (of == *plural).then_some(Ok::<_, Infallible>(line))
            });
            return ([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response();
        }
        let state = tenant.state.lock().unwrap_or_else(PoisonError::into_inner);
        let items: Vec<&Value> = state.by_kind.get(plural).into_iter().flat_map(BTreeMap::values).collect();
        let (kind, version) = match *kind {
            // Definitions are asked for by their metadata alone.
            "CustomResourceDefinition" => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
            kind => (format!("{kind}List"), *version),
        };
        Json(json!({"kind": kind, "apiVersion": version,
                    "metadata": {"resourceVersion": state.version.to_string()}, "items": items}))
        .into_response()
    }
}
