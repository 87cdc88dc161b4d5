//! The way to the agent: its socket, or TCP with TLS and a token.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::SOCKET;
use crate::export::proto::weir_client::WeirClient;

/// A client of the agent.
pub(super) type Client = WeirClient<InterceptedService<Channel, Bearer>>;

const PATIENCE: Duration = Duration::from_secs(5);

/// Where the agent is, and what it is shown.
#[derive(clap::Args, Debug)]
pub(super) struct Way {
    /// The agent's Unix socket.
    #[arg(long, global = true, env = "WEIR_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
    /// The agent's TCP address instead of its socket, such as 127.0.0.1:9471.
    #[arg(long, global = true, env = "WEIR_ADDRESS", value_name = "HOST:PORT")]
    address: Option<String>,
    /// Speak TLS to the address, and trust this authority (PEM), such as the ca.crt of the agent's Secret.
    #[arg(long, global = true, env = "WEIR_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Name that the agent's certificate is for [default: the host of the address]
    #[arg(long, global = true, env = "WEIR_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,
    /// Certificate to show (PEM), where the agent asks for one; goes with --key.
    #[arg(long, global = true, env = "WEIR_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, global = true, env = "WEIR_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the token to show, where the agent asks for one; without it the environment variable WEIR_TOKEN is taken.
    #[arg(long, global = true, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The token, where there is one.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Why the agent cannot be reached, and the way out.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("no agent answers at {0}; start weir-agent, or name its socket with --socket")]
    NotRunning(PathBuf),
    #[error("{0} may not be opened by this user; run weirctl as root")]
    Forbidden(PathBuf),
    #[error("cannot connect to {path}")]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0:?} is no address; write --address as 127.0.0.1:9471")]
    BadAddress(String),
    #[error("no agent answers at {address}; start weir-agent with its gRPC interface on that address")]
    Tcp {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("{address} and weirctl do not agree on TLS; see --ca and --server-name")]
    Tls {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("{option}: cannot read {path}")]
    File {
        option: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--certificate and --key go together, and both need --ca")]
    HalfAPair,
    #[error("{0} holds no token")]
    NoToken(String),
    #[error("a token is not sent to {0} in clear: speak TLS with --ca")]
    TokenInClear(String),
}

/// Connects to the TCP address if there is one, else to the socket.
pub(super) async fn connect(way: &Way) -> Result<Client, ConnectError> {
    match &way.address {
        Some(address) => over_tcp(address, way).await,
        None => over_socket(&way.socket).await,
    }
}

async fn over_tcp(address: &str, way: &Way) -> Result<Client, ConnectError> {
    let bad = || ConnectError::BadAddress(address.to_owned());
    let (host, _) = address.rsplit_once(':').ok_or_else(bad)?;
    let (tls, bearer) = (way.tls(host)?, way.token()?);
    if tls.is_none() && bearer.0.is_some() && !is_loopback(host) {
        return Err(ConnectError::TokenInClear(address.to_owned()));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|_| bad())?;
    let failed = |source| failed(address, source);
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls).map_err(failed)?,
        None => endpoint,
    };
    let channel = endpoint.connect_timeout(PATIENCE).connect().await.map_err(failed)?;
    Ok(WeirClient::with_interceptor(channel, bearer))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Way {
    fn tls(&self, host: &str) -> Result<Option<ClientTlsConfig>, ConnectError> {
        let Some(ca) = &self.ca else {
            let half = self.certificate.is_some() || self.key.is_some();
            return if half { Err(ConnectError::HalfAPair) } else { Ok(None) };
        };
        let name = self.server_name.as_deref().unwrap_or(host.trim_matches(['[', ']']));
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--ca", ca)?)).domain_name(name);
        match (&self.certificate, &self.key) {
            (None, None) => Ok(Some(tls)),
            (Some(certificate), Some(key)) => Ok(Some(
                tls.identity(Identity::from_pem(read("--certificate", certificate)?, read("--key", key)?)),
            )),
            _ => Err(ConnectError::HalfAPair),
        }
    }
}

impl Way {
    fn token(&self) -> Result<Bearer, ConnectError> {
        let (place, text) = match &self.token_file {
            Some(path) => (
                path.display().to_string(),
                String::from_utf8(read("--token-file", path)?).unwrap_or_default(),
            ),
            None => match std::env::var("WEIR_TOKEN") {
                Ok(text) => ("WEIR_TOKEN".to_owned(), text),
                Err(_) => return Ok(Bearer(None)),
            },
        };
        let token = format!("Bearer {}", text.trim()).parse::<MetadataValue<Ascii>>();
        let mut token = token.ok().filter(|_| !text.trim().is_empty()).ok_or(ConnectError::NoToken(place))?;
        token.set_sensitive(true);
        Ok(Bearer(Some(token)))
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|source| ConnectError::File { option, path: path.to_owned(), source })
}

fn failed(address: &str, source: tonic::transport::Error) -> ConnectError {
    let address = address.to_owned();
    // What TLS says comes as data that is not valid; what TCP says does not.
    let tls = causes(&source).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    });
    if tls { ConnectError::Tls { address, source } } else { ConnectError::Tcp { address, source } }
}

/// The causes of an error, the nearest first.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}

async fn over_socket(path: &Path) -> Result<Client, ConnectError> {
    // Connecting once by hand tells why it fails; the transport's error would not.
    let first = UnixStream::connect(path).await.map_err(|error| explain(path, error))?;
    let mut first = Some(first);
    let again = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let (ready, path) = (first.take(), again.clone());
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            io::Result::Ok(TokioIo::new(stream))
        }
    });
    // The name is not used: the socket is the address.
    let endpoint = Endpoint::from_static("http://weir-agent");
    let connected = endpoint.connect_with_connector(connector).await;
    let channel = connected.map_err(|error| explain(path, io::Error::other(error)))?;
    // The socket's own permissions say who may call.
    Ok(WeirClient::with_interceptor(channel, Bearer(None)))
}

fn explain(path: &Path, error: io::Error) -> ConnectError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NotRunning(path),
        io::ErrorKind::PermissionDenied => ConnectError::Forbidden(path),
        _ => ConnectError::Socket { path, source: error },
    }
}
