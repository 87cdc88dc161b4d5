//! Edge: asks what must answer after a change: a port, a page, a host, or a BGP session of the router.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::crd::Probe;

mod echo;

/// A probe that cannot be asked at all.
#[derive(Debug, thiserror::Error)]
#[error("probe `{name}`: {what}")]
pub struct ProbeError {
    /// Its name.
    pub name: String,
    /// The field, and what is wrong with it.
    pub what: String,
}

/// The probes of one Router object.
#[derive(Debug)]
pub struct Probes(Vec<Asked>);

#[derive(Debug)]
struct Asked {
    name: String,
    limit: Duration,
    question: Question,
}

#[derive(Debug)]
enum Question {
    Tcp(String),
    Http(reqwest::Client, String),
    Ping(IpAddr),
    BgpPeer(IpAddr),
}

impl Probes {
    /// Reads them once; what is wrong with one is better known before a change than after it.
    ///
    /// # Errors
    /// The probe, and what is wrong with it.
    pub fn new(probes: &[Probe]) -> Result<Self, ProbeError> {
        let asked = |probe: &Probe| {
            let question = question(probe).map_err(|what| ProbeError { name: probe.name.clone(), what })?;
            let limit = Duration::from_secs(probe.timeout_seconds.into());
            Ok(Asked { name: probe.name.clone(), limit, question })
        };
        probes.iter().map(asked).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them needs the router's BGP sessions.
    pub fn ask_for_sessions(&self) -> bool {
        self.0.iter().any(|asked| matches!(asked.question, Question::BgpPeer(_)))
    }

    /// Asks all at once; gives those that do not answer, with the reason. `up` is who has a session with the router,
    /// or why that is not known.
    pub async fn silent(&self, up: Result<&BTreeSet<IpAddr>, &str>) -> Vec<String> {
        let each = self.0.iter().map(|asked| asked.ask(up));
        join_all(each).await.into_iter().filter_map(Result::err).collect()
    }
}

impl Asked {
    async fn ask(&self, up: Result<&BTreeSet<IpAddr>, &str>) -> Result<(), String> {
        let answer = async {
            match &self.question {
                Question::Tcp(to) => {
                    tokio::net::TcpStream::connect(to).await.map(drop).map_err(|e| e.to_string())
                }
                Question::Http(client, url) => {
                    let answer = client.get(url).send().await.map_err(|e| causes(&e.without_url()))?;
                    answer.error_for_status().map(drop).map_err(|e| e.without_url().to_string())
                }
                Question::Ping(to) => echo::echo(*to, self.limit).await.map_err(|e| e.to_string()),
                Question::BgpPeer(peer) => match up {
                    Ok(up) if up.contains(peer) => Ok(()),
                    Ok(_) => Err(format!("the router has no established session with {peer}")),
                    Err(why) => Err(format!("the router's sessions are not known: {why}")),
                },
            }
        };
        let done = tokio::time::timeout(self.limit, answer).await;
        done.unwrap_or_else(|_| Err(format!("no answer in {:?}", self.limit)))
            .map_err(|e| format!("probe `{}`: {e}", self.name))
    }
}

fn question(probe: &Probe) -> Result<Question, String> {
    let address = |field: &str, text: &str| {
        text.parse::<IpAddr>().map_err(|_| format!("{field}: `{text}` is not an IP address"))
    };
    match (&probe.tcp, &probe.http, &probe.ping, &probe.bgp_peer) {
        (Some(to), None, None, None) => match to.parse::<SocketAddr>().is_ok() || has_port(to) {
            true => Ok(Question::Tcp(to.clone())),
            false => Err(format!("tcp: `{to}` is not HOST:PORT")),
        },
        (None, Some(url), None, None) => match reqwest::Url::parse(url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => {
                let client = client(parsed.scheme() == "https", probe.ca_bundle.as_deref())?;
                Ok(Question::Http(client, url.clone()))
            }
            _ => Err(format!("http: `{url}` is not an http:// or https:// URL")),
        },
        (None, None, Some(to), None) => address("ping", to).map(Question::Ping),
        (None, None, None, Some(peer)) => address("bgpPeer", peer).map(Question::BgpPeer),
        _ => Err("give exactly one of tcp, http, ping and bgpPeer".to_owned()),
    }
}

fn has_port(to: &str) -> bool {
    to.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// A page that moved has answered: redirects are not followed.
fn client(encrypted: bool, bundle: Option<&str>) -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    match (encrypted, bundle) {
        (true, Some(pem)) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|e| format!("caBundle: {e}"))?;
                roots.add(certificate).map_err(|e| format!("caBundle: {e}"))?;
            }
            if roots.is_empty() {
                return Err("caBundle: there is no certificate in it".to_owned());
            }
        }
        (true, None) => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("http: this system has no CA certificates; give caBundle".to_owned());
            }
        }
        (false, _) => {}
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        // A connection that was kept says nothing about the way after the change.
        .pool_max_idle_per_host(0);
    client.build().map_err(|e| e.to_string())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The error of a socket that may not be opened, with the way out.
fn forbidden(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("an ICMP socket is refused ({error}); give CAP_NET_RAW"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: &str) -> Probe {
        serde_saphyr::from_str(&format!("{{name: p, timeoutSeconds: 1, {text}}}")).unwrap()
    }

    async fn asked(text: &str) -> Vec<String> {
        let up = ["192.0.2.1".parse().unwrap()].into();
        Probes::new(&[probe(text)]).unwrap().silent(Ok(&up)).await
    }

    #[tokio::test]
    async fn a_port_answers_or_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(asked(&format!("tcp: '{address}'")).await, Vec::<String>::new());
        drop(listener);
        assert!(asked(&format!("tcp: '{address}'")).await[0].starts_with("probe `p`: "));
    }

    /// Answers every connection with this status over TLS; gives where, and the authority of its certificate.
    fn page(status: &'static str) -> (SocketAddr, String) {
        use std::io::{BufRead, BufReader, Write};

        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let served = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into());
        let served = std::sync::Arc::new(served.unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = rustls::ServerConnection::new(served.clone()).unwrap();
                let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
                // A client that does not trust it hangs up; the next may.
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 2) {}
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.get_mut().write_all(answer.as_bytes());
                stream.get_mut().conn.send_close_notify();
                let _ = stream.get_mut().flush();
            }
        });
        (address, made.cert.pem())
    }

    #[tokio::test]
    async fn a_page_over_tls_is_asked_under_its_own_authority() {
        let ((address, authority), (failing, failing_authority)) = (page("204 No Content"), page("503 Busy"));
        let ask = |address: SocketAddr, authority: &str| {
            let authority = serde_json::to_string(authority).unwrap();
            format!("http: 'https://{address}/', caBundle: {authority}")
        };
        assert_eq!(asked(&ask(address, &authority)).await, Vec::<String>::new());
        let said = asked(&ask(address, &failing_authority)).await;
        assert!(said[0].contains("certificate"), "{said:?}");
        let said = asked(&ask(failing, &failing_authority)).await;
        assert!(said[0].contains("503"), "{said:?}");
    }

    #[tokio::test]
    async fn a_session_is_up_or_not() {
        assert_eq!(asked("bgpPeer: 192.0.2.1").await, Vec::<String>::new());
        let said = asked("bgpPeer: 192.0.2.2").await;
        assert_eq!(said, ["probe `p`: the router has no established session with 192.0.2.2"]);
        let probes = Probes::new(&[probe("bgpPeer: 192.0.2.1")]).unwrap();
        assert!(probes.ask_for_sessions());
        assert!(probes.silent(Err("busy")).await[0].contains("busy"));
    }

    #[test]
    fn what_cannot_be_asked_is_said_before_a_change() {
        for (text, said) in [
            ("tcp: nowhere", "HOST:PORT"),
            ("tcp: ':80'", "HOST:PORT"),
            ("http: 'ftp://x/'", "http"),
            ("ping: gateway.lan", "IP address"),
            ("bgpPeer: x", "IP address"),
            ("http: 'https://x/', caBundle: none", "caBundle"),
            ("tcp: 'x:1', ping: 10.0.0.1", "exactly one"),
            ("bgpPeer: 10.0.0.1, http: 'http://x/'", "exactly one"),
        ] {
            let error = Probes::new(&[probe(text)]).unwrap_err().to_string();
            assert!(error.starts_with("probe `p`: ") && error.contains(said), "{text}: {error}");
        }
    }
}
