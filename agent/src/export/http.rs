//! `/metrics`, `/livez` and `/readyz` over HTTP.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use weir_tls::{Caller, Listener, welcome_only};

use super::metrics::{CONTENT_TYPE, Exposition};
use super::readiness::Readiness;

/// Scrapes answered at a time; further ones wait for a short while.
pub const SCRAPES_AT_A_TIME: usize = 2;

const PATIENCE: Duration = Duration::from_secs(2);

/// Serves until `shutdown` is done; requests under way are finished.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: Listener,
    exposition: Exposition,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let pages = router(exposition, readiness).into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, pages).with_graceful_shutdown(shutdown).await
}

/// The pages as a service. Health is for everybody: the kubelet asks without a certificate.
pub fn router(exposition: Exposition, readiness: Readiness) -> Router {
    let scrapes = Arc::new(Scrapes { exposition, permits: Arc::new(Semaphore::new(SCRAPES_AT_A_TIME)) });
    Router::new()
        .route("/metrics", get(metrics))
        .route_layer(from_fn(welcome_only))
        .with_state(scrapes)
        .route("/livez", get(async || plain(StatusCode::OK, "ok\n".to_owned())))
        .route("/readyz", get(ready).with_state(readiness))
        .fallback(async || {
            plain(StatusCode::NOT_FOUND, "not found; there are /metrics, /livez and /readyz\n".to_owned())
        })
        .method_not_allowed_fallback(async || {
            plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use GET\n".to_owned())
        })
}

struct Scrapes {
    exposition: Exposition,
    permits: Arc<Semaphore>,
}

async fn metrics(State(scrapes): State<Arc<Scrapes>>) -> Response {
    let waiting = tokio::time::timeout(PATIENCE, Arc::clone(&scrapes.permits).acquire_owned());
    let Ok(Ok(permit)) = waiting.await else {
        scrapes.exposition.tally().refused.one();
        let busy = plain(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at a time\n".to_owned());
        return ([(header::RETRY_AFTER, "5")], busy).into_response();
    };
    let exposition = scrapes.exposition.clone();
    let rendered = tokio::task::spawn_blocking(move || {
        // A client that goes away does not stop the reading, so the permit stays with the work.
        let _permit = permit;
        exposition.render()
    });
    match rendered.await {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(_) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the scrape broke off; see the agent's log\n".to_owned())
        }
    }
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let waiting = readiness.waiting();
    let remarks: String = readiness.remarks().iter().map(|remark| format!("{remark}\n")).collect();
    if waiting.is_empty() {
        return plain(StatusCode::OK, format!("ok\n{remarks}"));
    }
    let waiting: String = waiting.iter().map(|task| format!("not ready: {task}\n")).collect();
    plain(StatusCode::SERVICE_UNAVAILABLE, waiting + &remarks)
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
