//! Pages over TLS: health for everybody, the rest for whom it concerns, and no scrape lost to a swap.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, middleware, routing::get};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use weir_tls::{Caller, Clients, Files, Identity, Listener, Protocol, welcome_only};

mod secret;

use secret::{Authority, Mounted, NAME};

async fn start(mounted: &Mounted, clients: Clients) -> (SocketAddr, Arc<Identity>, JoinSet<()>) {
    let identity = Identity::read(Files::in_folder(mounted.path()), clients).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener::new(tcp, Some(Arc::clone(&identity)), Protocol::Pages);
    let pages = Router::new()
        .route("/metrics", get(async || "numbers"))
        .route_layer(middleware::from_fn(welcome_only))
        .route("/livez", get(async || "ok"))
        .into_make_service_with_connect_info::<Caller>();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, pages).await.unwrap() });
    (address, identity, tasks)
}

async fn page(address: SocketAddr, client: Arc<ClientConfig>, path: &str) -> std::io::Result<String> {
    let tcp = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(client).connect(ServerName::try_from(NAME).unwrap(), tcp).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn health_is_for_everybody_and_metrics_for_the_certified() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mounted = Mounted::new(&ours.sign(), &ours);
    let (address, identity, _tasks) = start(&mounted, Clients::Certified).await;
    let stranger = || ours.client(None, "http/1.1");
    let known = ours.client(Some(&ours.sign()), "http/1.1");
    assert!(page(address, stranger(), "/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    let refused = page(address, stranger(), "/metrics").await.unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("show a client certificate"),
        "{refused}"
    );
    assert!(page(address, known, "/metrics").await.unwrap().ends_with("numbers"));
    let wrong = ours.client(Some(&theirs.sign()), "http/1.1");
    assert!(page(address, wrong, "/livez").await.is_err(), "a wrong certificate is worse than none");
    assert_eq!(identity.reading().failed, 1);
}

#[tokio::test]
async fn no_scrape_is_lost_to_a_swap() {
    let authority = Authority::new("one");
    let mounted = Mounted::new(&authority.sign(), &authority);
    let (address, identity, mut tasks) = start(&mounted, Clients::Anybody).await;
    let client = authority.client(None, "http/1.1");
    let mut scrapes = JoinSet::new();
    for _ in 0..20 {
        for _ in 0..5 {
            let client = Arc::clone(&client);
            scrapes.spawn(async move { page(address, client, "/metrics").await });
        }
        mounted.swap(&authority.sign(), &authority.pem);
        tokio::task::yield_now().await;
    }
    for answer in scrapes.join_all().await {
        assert!(answer.unwrap().ends_with("numbers"));
    }
    let reading = identity.reading();
    assert!(reading.swapped > 0 && reading.refused == 0, "{reading:?}");
    tasks.shutdown().await;
}
