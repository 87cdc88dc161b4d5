//! The controller's page over TLS, while its certificate changes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

#[path = "../../tls/tests/secret/mod.rs"]
mod secret;

use secret::{Authority, Mounted, NAME, Signed};

/// A running controller without a router; it ends with this value.
struct Running {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(mounted: &Mounted, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vyos-sync"));
        command.args(["run", "--source", "source", "--state-dir", "state", "--listen", "127.0.0.1:0"]);
        command.arg("--tls-dir").arg(mounted.path()).args(more).current_dir(folder.path());
        let mut child = command.env("RUST_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it serves").unwrap();
            if let Some((_, rest)) = line.split_once("serving metrics and health address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // Whatever else it says must find a reader.
        std::thread::spawn(move || lines.count());
        Self { child, address, _folder: folder }
    }

    fn page(&self, authority: &Authority, own: Option<&Signed>, path: &str) -> std::io::Result<String> {
        let name = ServerName::try_from(NAME).unwrap();
        let session = ClientConnection::new(authority.client(own, "http/1.1"), name).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::connect(&self.address)?);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

#[test]
fn every_scrape_is_answered_while_certificates_come_and_go() {
    let authority = Authority::new("one");
    let mounted = Mounted::new(&authority.sign(), &authority);
    let running = Running::start(&mounted, &[]);
    for _ in 0..10 {
        mounted.swap(&authority.sign(), &authority.pem);
        let page = running.page(&authority, None, "/metrics").unwrap();
        assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("# EOF\n"), "{page}");
    }
    mounted.swap(&Signed { key: "nothing".to_owned(), ..authority.sign() }, &authority.pem);
    let page = running.page(&authority, None, "/metrics").unwrap();
    for line in [
        "vyos_sync_tls_certificate_refused 1",
        "vyos_sync_tls_certificates_read_total{result=\"taken\"} 10",
        "vyos_sync_tls_certificates_read_total{result=\"refused\"} 1",
        "vyos_sync_tls_certificate_expiry_timestamp_seconds 4102444800.0",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[test]
fn health_is_for_everybody_and_metrics_for_the_certified() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mounted = Mounted::new(&ours.sign(), &ours);
    let running = Running::start(&mounted, &["--tls-clients", "certified"]);
    assert!(running.page(&ours, None, "/livez").unwrap().starts_with("HTTP/1.1 200"));
    assert!(running.page(&ours, None, "/metrics").unwrap().starts_with("HTTP/1.1 403"));
    assert!(running.page(&ours, Some(&ours.sign()), "/metrics").unwrap().starts_with("HTTP/1.1 200"));
    assert!(running.page(&ours, Some(&theirs.sign()), "/livez").is_err());
}

#[test]
fn it_does_not_start_with_a_pair_that_is_none() {
    let authority = Authority::new("one");
    let mounted = Mounted::new(&authority.sign_until(2001), &authority);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vyos-sync"));
    command.args(["run", "--source", "nowhere", "--state-dir", "nowhere", "--listen", "127.0.0.1:0"]);
    let output = command.arg("--tls-dir").arg(mounted.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is not valid now"), "{said}");
}
