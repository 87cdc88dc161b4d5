//! A listener whose connections are past their handshake.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, connect_info::Connected},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
    serve::IncomingStream,
};
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, unfold},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::identity::{Clients, Identity};

/// Handshakes under way; whoever comes later waits in the kernel's queue.
const AT_A_TIME: usize = 128;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait when the system has no room for another connection.
const PAUSE: Duration = Duration::from_secs(1);

/// What is spoken on a listener, and so what becomes of strangers where clients are to be certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Pages over HTTP/1.1: strangers are let in, and [`welcome_only`] keeps them from what is not theirs.
    Pages,
    /// gRPC: strangers are refused in the handshake.
    Calls,
}

/// What is known of somebody who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// All that is asked of a client was shown.
    Welcome,
    /// A certificate is asked for, and none was shown.
    Stranger,
}

/// Accepts connections, over TLS where there is an identity.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<(Arc<Identity>, Protocol)>,
    handshakes: FuturesUnordered<BoxFuture<'static, Option<(Stream, SocketAddr)>>>,
}

/// A connection that is ready for use.
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, and who is at the other end.
    Tls(Box<TlsStream<TcpStream>>, Caller),
}

impl Listener {
    /// Listens with this identity, or without TLS.
    pub fn new(tcp: TcpListener, identity: Option<Arc<Identity>>, protocol: Protocol) -> Self {
        let tls = identity.map(|identity| (identity, protocol));
        Self { tcp, tls, handshakes: FuturesUnordered::new() }
    }

    /// The connections as a stream without an end. Handshakes go on while it is polled.
    pub fn incoming(self) -> impl futures::Stream<Item = io::Result<Stream>> + Send {
        unfold(self, async |mut listener| {
            let (stream, _) = listener.next().await;
            Some((Ok(stream), listener))
        })
    }

    async fn next(&mut self) -> (Stream, SocketAddr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept(), if self.handshakes.len() < AT_A_TIME => match (accepted, &self.tls) {
                    (Ok((stream, peer)), None) => return (Stream::Plain(stream), peer),
                    (Ok((stream, peer)), Some((identity, protocol))) => {
                        self.handshakes.push(Box::pin(shake_hands(stream, peer, Arc::clone(identity), *protocol)));
                    }
                    (Err(error), _) => wait_for_room(&error).await,
                },
                Some(shaken) = self.handshakes.next() => if let Some(ready) = shaken { return ready },
            }
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    identity: Arc<Identity>,
    protocol: Protocol,
) -> Option<(Stream, SocketAddr)> {
    let accepting = TlsAcceptor::from(identity.offer(protocol)).accept(stream);
    let why = match timeout(PATIENCE, accepting).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().is_some();
            let stranger = identity.clients() == Clients::Certified && !shown;
            let caller = if stranger { Caller::Stranger } else { Caller::Welcome };
            return Some((Stream::Tls(Box::new(stream), caller), peer));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {PATIENCE:?}"),
    };
    identity.handshake_failed();
    tracing::debug!(%peer, why, "a handshake failed");
    None
}

/// What the other side did is its own affair; what the system lacks is waited for.
async fn wait_for_room(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "no connection can be accepted; trying again in {PAUSE:?}");
        sleep(PAUSE).await;
    }
}

/// For pages that hold more than health: a stranger is told what to bring.
pub async fn welcome_only(
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    match caller {
        Caller::Welcome => next.run(request).await,
        Caller::Stranger => {
            let text = "show a client certificate of the authority that this listener trusts (its ca.crt)\n";
            (StatusCode::FORBIDDEN, text).into_response()
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, Listener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().caller()
    }
}

#[cfg(feature = "tonic")]
impl tonic::transport::server::Connected for Stream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller()
    }
}

impl Stream {
    fn caller(&self) -> Caller {
        match self {
            Self::Plain(_) => Caller::Welcome,
            Self::Tls(_, caller) => *caller,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
