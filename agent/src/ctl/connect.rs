//! The way to the agent.

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::export::proto::weir_client::WeirClient;

/// A client of the agent.
pub(super) type Client = WeirClient<Channel>;

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
}

/// Connects to the TCP address if there is one, else to the socket.
pub(super) async fn connect(socket: &Path, address: Option<&str>) -> Result<Client, ConnectError> {
    match address {
        Some(address) => over_tcp(address).await,
        None => over_socket(socket).await,
    }
}

async fn over_tcp(address: &str) -> Result<Client, ConnectError> {
    let bad = || ConnectError::BadAddress(address.to_owned());
    if !address.contains(':') {
        return Err(bad());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| bad())?;
    let connected = endpoint.connect_timeout(std::time::Duration::from_secs(5)).connect().await;
    let channel = connected.map_err(|source| ConnectError::Tcp { address: address.to_owned(), source })?;
    Ok(WeirClient::new(channel))
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
    Ok(WeirClient::new(channel))
}

fn explain(path: &Path, error: io::Error) -> ConnectError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NotRunning(path),
        io::ErrorKind::PermissionDenied => ConnectError::Forbidden(path),
        _ => ConnectError::Socket { path, source: error },
    }
}
