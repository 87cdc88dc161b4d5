//! The HTTP pages over a real socket.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use weir_agent::export::http;
use weir_agent::export::metrics::Exposition;
use weir_agent::export::readiness::Readiness;
use weir_tls::{Listener, Protocol};

mod fixture;

async fn start(readiness: Readiness) -> (std::net::SocketAddr, oneshot::Sender<()>) {
    let (keep, snapshot) = watch::channel(Arc::new(fixture::snapshot()));
    let exposition = Exposition::new(snapshot, fixture::Bench::new(), Arc::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let _keep = keep;
        http::serve(Listener::new(listener, None, Protocol::Pages), exposition, readiness, async {
            drop(stopped.await)
        })
        .await
        .unwrap();
    });
    (address, stop)
}

async fn request(address: std::net::SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.to_lowercase()
}

#[tokio::test]
async fn metrics_health_and_nothing_else() {
    let (address, _stop) = start(Readiness::default()).await;
    let metrics = request(address, "GET", "/metrics").await;
    assert!(metrics.starts_with("http/1.1 200"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(metrics.ends_with("# eof\n"));
    assert!(request(address, "GET", "/livez").await.starts_with("http/1.1 200"));
    assert!(request(address, "GET", "/elsewhere").await.starts_with("http/1.1 404"));
    let refused = request(address, "POST", "/metrics").await;
    assert!(refused.starts_with("http/1.1 405") && refused.contains("allow: get,head"), "{refused}");
}

#[tokio::test]
async fn ready_once_every_guard_is_dropped() {
    let readiness = Readiness::default();
    let (links, datapath) = (readiness.guard("links"), readiness.guard("datapath"));
    let (address, _stop) = start(readiness).await;
    let answer = request(address, "GET", "/readyz").await;
    assert!(
        answer.starts_with("http/1.1 503") && answer.ends_with("not ready: datapath\nnot ready: links\n")
    );
    drop(datapath);
    assert!(request(address, "GET", "/readyz").await.ends_with("\r\n\r\nnot ready: links\n"));
    drop(links);
    assert!(request(address, "GET", "/readyz").await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn many_scrapes_at_once_are_all_answered_or_refused() {
    let (address, _stop) = start(Readiness::default()).await;
    let scrapes = (0..20).map(|_| request(address, "GET", "/metrics"));
    for answer in futures::future::join_all(scrapes).await {
        assert!(answer.starts_with("http/1.1 200") || answer.starts_with("http/1.1 503"), "{answer}");
    }
}
