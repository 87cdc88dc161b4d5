//! Metrics, and the health that Kubernetes asks for.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

mod certificate;
mod store;

pub use certificate::of_certificate;
pub use store::of_store;

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, middleware::from_fn,
    response::IntoResponse, routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio_util::sync::CancellationToken;
use weir_tls::{Caller, Identity, Listener, Protocol, welcome_only};

use crate::{inputs::Look, intent::Problem};

/// A router's name: as many values as there are Router objects.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfRouter {
    /// Name of the Router object.
    pub router: String,
}

/// A router and one word out of a fixed list.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WithReason {
    /// Name of the Router object.
    pub router: String,
    /// How it ended; one of the words of `Outcome`.
    pub result: &'static str,
}

/// One verb out of a fixed list.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfVerb {
    /// `get`, `watch`, `patch`, `create` or `other`.
    pub verb: &'static str,
}

/// Whether clusters answer.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfReach {
    /// `reachable` or `stale`.
    pub state: &'static str,
}

/// Everything that is counted and measured. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reconciliations, by how they ended.
    pub reconciles: Family<WithReason, Counter>,
    /// How long they took.
    pub seconds: Family<OfRouter, Histogram, fn() -> Histogram>,
    /// Requests sent to the router's API.
    pub requests: Family<OfRouter, Counter>,
    /// Commits sent.
    pub commits: Family<OfRouter, Counter>,
    /// Commands that the newest plan wants.
    pub planned: Family<OfRouter, Gauge>,
    /// Conflicts, foreign edits and refusals in the newest plan.
    pub problems: Family<OfRouter, Gauge>,
    /// 1 where the router holds all that is wanted.
    pub synced: Family<OfRouter, Gauge>,
    /// Hardware that the router sees in the wrong VLAN.
    pub misplaced: Family<OfRouter, Gauge>,
    /// 1 where the router's API answered last time.
    pub reachable: Family<OfRouter, Gauge>,
    /// When the router last held all that is wanted.
    pub synced_at: Family<OfRouter, Gauge<f64, AtomicU64>>,
    /// Calls of the Kubernetes APIs.
    pub calls: Family<OfVerb, Counter>,
    /// Other clusters, by whether they answer.
    pub clusters: Family<OfReach, Gauge>,
}

fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 14))
}

impl Metrics {
    /// The metrics, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(durations),
            requests: Family::default(),
            commits: Family::default(),
            planned: Family::default(),
            problems: Family::default(),
            synced: Family::default(),
            misplaced: Family::default(),
            reachable: Family::default(),
            synced_at: Family::default(),
            calls: Family::default(),
            clusters: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("vyos_sync");
        let m = metrics.clone();
        r.register("reconciles", "Reconciliations by result", m.reconciles);
        r.register_with_unit("reconcile_duration", "Time of one reconciliation", Unit::Seconds, m.seconds);
        r.register("requests", "Requests sent to the router's API", m.requests);
        r.register("commits", "Commits sent to the router", m.commits);
        r.register("planned_commands", "Commands that the newest plan wants", m.planned);
        r.register("plan_problems", "Conflicts and refusals in the newest plan", m.problems);
        r.register("synced", "1 where the router holds all that is wanted", m.synced);
        r.register("misplaced_machines", "Hardware seen in the wrong VLAN", m.misplaced);
        r.register("reachable", "1 where the router's API answered last", m.reachable);
        r.register_with_unit("synced_timestamp", "When the router last held all", Unit::Seconds, m.synced_at);
        r.register("api_calls", "Calls of the Kubernetes APIs of all clusters", m.calls);
        r.register("clusters", "Other clusters that are followed, by whether they answer", m.clusters);
        metrics
    }

    /// Shows how many machines the router sees in the wrong VLAN; none where it was not asked. While it does not say,
    /// the number stays.
    pub fn show_places(&self, of: &OfRouter, misplaced: Option<&Look<Problem>>) {
        let number = match misplaced {
            Some(Err(_)) => return,
            Some(Ok(found)) => found.len(),
            None => 0,
        };
        self.misplaced.get_or_create(of).set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// Set once every router was looked at.
    pub ready: Arc<AtomicBool>,
}

/// Serves /metrics, /livez and /readyz until stopped, over TLS where there is an identity. Health is for everybody: the
/// kubelet asks without a certificate.
///
/// # Errors
/// The address cannot be bound, or the server fails.
pub async fn serve(
    address: SocketAddr,
    identity: Option<Arc<Identity>>,
    shown: Shown,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route_layer(from_fn(welcome_only))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shown);
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics and health");
    let listener = Listener::new(listener, identity, Protocol::Pages);
    let routes = routes.into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &shown.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.ready.load(Ordering::Acquire) {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no router was looked at yet\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_misplaced_machines_stays_while_the_router_does_not_say() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let of = OfRouter { router: "gw".to_owned() };
        let shown = |look: Option<&Look<Problem>>| {
            metrics.show_places(&of, look);
            metrics.misplaced.get_or_create(&of).get()
        };
        let object = crate::inputs::ObjectId {
            kind: crate::inputs::Kind::Hardware,
            cluster: crate::inputs::ClusterName::local(),
            namespace: None,
            name: "ms02".to_owned(),
        };
        let problem = Problem {
            object,
            field: String::new(),
            what: String::new(),
            way_out: String::new(),
            effect: crate::intent::Effect::Noted,
        };
        assert_eq!(shown(Some(&Ok(vec![problem]))), 1);
        assert_eq!(shown(Some(&Err("it is away".to_owned()))), 1);
        assert_eq!(shown(Some(&Ok(Vec::new()))), 0);
        assert_eq!(shown(None), 0);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        assert!(page.contains("vyos_sync_misplaced_machines{router=\"gw\"} 0"), "{page}");
    }
}
