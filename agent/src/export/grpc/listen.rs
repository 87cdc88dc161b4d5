//! Where the gRPC interface listens: a Unix socket, and TCP when asked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use weir_tls::Listener;

use super::Service;
use crate::export::proto::weir_server::WeirServer;
use crate::oidc::{Gate, Guarded};

/// A Unix socket that the agent listens on; its file goes when it does.
#[derive(Debug)]
pub struct UnixSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    inode: u64,
}

/// Why a Unix socket cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("{0} is served by another agent; stop it or choose another socket")]
    Served(PathBuf),
    /// Something else is in the way.
    #[error("{0} exists and is no socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}")]
    System {
        /// The socket's path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl UnixSocket {
    /// Listens at a path that only the owner may use. A file that a dead agent left is replaced; a live agent's is not.
    ///
    /// # Errors
    /// When another agent serves the path, something else is there, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        refuse_living(path)?;
        let system = |source| BindError::System { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(system)?;
        }
        // Made under another name, so that nobody can connect before its permissions are set.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        let made = finish(&unfinished, path);
        if made.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        let (listener, inode) = made.map_err(system)?;
        Ok(Self { listener: Some(listener), path: path.to_owned(), inode })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn finish(unfinished: &Path, path: &Path) -> io::Result<(UnixListener, u64)> {
    let listener = UnixListener::bind(unfinished)?;
    fs::set_permissions(unfinished, Permissions::from_mode(0o600))?;
    let inode = fs::metadata(unfinished)?.ino();
    fs::rename(unfinished, path)?;
    Ok((listener, inode))
}

fn refuse_living(path: &Path) -> Result<(), BindError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::Served(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(source) => Err(BindError::System { path: path.to_owned(), source }),
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Another agent may have taken the path over meanwhile.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Serves on a Unix socket until the service's shutdown.
///
/// # Errors
/// When the listener fails.
pub async fn serve_unix(mut socket: UnixSocket, service: Service) -> Result<(), tonic::transport::Error> {
    let Some(listener) = socket.listener.take() else { return Ok(()) };
    let shutdown = service.shutdown.clone().cancelled_owned();
    let server = Server::builder().concurrency_limit_per_connection(32).add_service(WeirServer::new(service));
    server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown).await
}

/// Serves on TCP until the service's shutdown. Who may connect is the listener's affair, who may call what that of the gate.
///
/// # Errors
/// When the listener fails.
pub async fn serve_tcp(
    listener: Listener,
    service: Service,
    gate: Option<Arc<Gate>>,
) -> Result<(), tonic::transport::Error> {
    let shutdown = service.shutdown.clone().cancelled_owned();
    let mut server = Server::builder().concurrency_limit_per_connection(32);
    let weir = WeirServer::new(service);
    let server = match gate {
        Some(gate) => server.add_service(Guarded::new(weir, gate)),
        None => server.add_service(weir),
    };
    server.serve_with_incoming_shutdown(listener.incoming(), shutdown).await
}
