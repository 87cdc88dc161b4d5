//! The agent's TCP listeners over TLS: the real `weirctl`, streams over a swap, and the metrics that tell of it.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use weir_agent::export::metrics::Exposition;
use weir_agent::export::readiness::Readiness;
use weir_agent::export::{grpc, http};
use weir_tls::{Clients, Files, Identity, Listener, Protocol};

mod fixture;
#[path = "../../tls/tests/secret/mod.rs"]
mod secret;
#[path = "fixture/serve.rs"]
mod serve;

use secret::{Authority, Mounted, NAME, Signed};
use serve::Served;

/// An agent's gRPC interface over TLS, and a folder for what its clients show.
struct Guarded {
    served: Served,
    address: String,
    identity: Arc<Identity>,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start(mounted: &Mounted, clients: Clients) -> Self {
        let served = Served::start();
        let identity = Identity::read(Files::in_folder(mounted.path()), clients).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let listener = Listener::new(tcp, Some(Arc::clone(&identity)), Protocol::Calls);
        tokio::spawn(grpc::serve_tcp(listener, served.service.clone(), None));
        Self { served, address, identity, folder: tempfile::tempdir().unwrap() }
    }

    fn keep(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn weirctl(&self, ca: &str, own: Option<&Signed>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
        let ca = self.keep("ca.crt", ca);
        command.args(["--address", &self.address, "--server-name", NAME]).arg("--ca").arg(ca);
        if let Some(own) = own {
            let [certificate, key] = [("own.crt", &own.certificate), ("own.key", &own.key)];
            command.arg("--certificate").arg(self.keep(certificate.0, certificate.1));
            command.arg("--key").arg(self.keep(key.0, key.1));
        }
        command.kill_on_drop(true);
        command
    }
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_stream_outlives_a_swap_and_the_next_call_sees_the_new_authority() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mounted = Mounted::new(&old.sign(), &old);
    let agent = Guarded::start(&mounted, Clients::Anybody).await;
    let mut follow = agent.weirctl(&old.pem, None);
    follow.args(["flows", "--follow", "--interval", "100ms", "-o", "json", "--direction", "egress"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    mounted.swap(&new.sign(), &new.pem);
    let answer = agent.weirctl(&new.pem, None).arg("links").output().await.unwrap();
    assert!(answer.status.success(), "{}", told(&answer).1);
    let (code, said) = told(&agent.weirctl(&old.pem, None).arg("links").output().await.unwrap());
    assert_eq!(code, Some(3));
    assert!(said.contains("do not agree on TLS; see --ca") && said.contains("certificate"), "{said}");
    while agent.identity.reading().failed == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((agent.identity.reading().swapped, agent.identity.reading().failed), (1, 1));
    agent.served.bench.change(|now| now.flows.iter_mut().flatten().for_each(|flow| flow.packets += 7));
    let moved: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(moved["flows"][0]["new_packets"], 7, "the stream that was there goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_certified_may_call() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mounted = Mounted::new(&ours.sign(), &ours);
    let agent = Guarded::start(&mounted, Clients::Certified).await;
    let ask = async |own: Option<&Signed>| {
        agent.weirctl(&ours.pem, own).arg("links").output().await.map(|output| told(&output)).unwrap()
    };
    assert_eq!(ask(Some(&ours.sign())).await, (Some(0), String::new()));
    for own in [None, Some(theirs.sign())] {
        let (code, said) = ask(own.as_ref()).await;
        assert_ne!(code, Some(0));
        assert!(said.starts_with("weirctl: "), "{said}");
    }
    let plain = Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .args(["--address", &agent.address, "links"])
        .output()
        .await
        .unwrap();
    assert_ne!(plain.status.code(), Some(0), "without TLS nothing is told");
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_shows_in_the_metrics() {
    let authority = Authority::new("one");
    let mounted = Mounted::new(&authority.sign(), &authority);
    let identity = Identity::read(Files::in_folder(mounted.path()), Clients::Anybody).unwrap();
    let (_keep, snapshot) = tokio::sync::watch::channel(Arc::new(fixture::snapshot()));
    let exposition = Exposition::new(snapshot, fixture::Bench::new(), Arc::default());
    let exposition = exposition.with_identity(Some(Arc::clone(&identity)));
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener::new(tcp, Some(identity), Protocol::Pages);
    tokio::spawn(http::serve(listener, exposition, Readiness::default(), std::future::pending()));
    let page = scrape(address, &authority).await;
    assert!(page.contains("weir_tls_certificate_refused 0") && page.ends_with("# EOF\n"), "{page}");
    mounted.swap(&Signed { key: "nothing".to_owned(), ..authority.sign() }, &authority.pem);
    let page = scrape(address, &authority).await;
    for line in [
        "weir_tls_certificate_refused 1",
        "weir_tls_certificates_read_total{result=\"refused\"} 1",
        "weir_tls_certificate_expiry_timestamp_seconds 4102444800",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

async fn scrape(address: std::net::SocketAddr, authority: &Authority) -> String {
    let tcp = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(authority.client(None, "http/1.1"));
    let mut stream = connector.connect(ServerName::try_from(NAME).unwrap(), tcp).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn clients_are_not_certified_without_tls() {
    let options = weir_tls::Options { dir: None, clients: Some(Clients::Certified) };
    let said = options.identity().err().unwrap().to_string();
    assert!(said.contains("--tls-dir"), "{said}");
    let absent = weir_tls::Options { dir: Some(Path::new("/nonexistent").to_owned()), clients: None };
    assert!(absent.identity().err().unwrap().to_string().contains("/nonexistent/tls.crt"));
}
