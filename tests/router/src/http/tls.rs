//! The certificate, the listener, and connections that can be cut.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long the certificate is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// From long ago to long after.
    #[default]
    Good,
    /// It ended in the year 2001.
    Expired,
}

/// A server certificate under its own CA, made anew at each start.
#[derive(Debug)]
pub(crate) struct Identity {
    config: Arc<rustls::ServerConfig>,
    /// The CA that signed it, PEM.
    pub(crate) ca_pem: String,
    /// Base64 of SHA-256 of the server's SubjectPublicKeyInfo (RFC 7469 section 2.4).
    pub(crate) spki_pin: String,
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// By the certificate library.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// By the TLS library.
    #[error("cannot serve the certificate")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    pub(crate) fn generate(names: &[String], validity: Validity) -> Result<Self, IdentityError> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "stand-in router CA");
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        if validity == Validity::Expired {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let leaf = params.signed_by(&key, &Issuer::new(ca, ca_key))?;
        let pin = Sha256::digest(key.subject_public_key_info());
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private.into())?;
        let spki_pin = base64::engine::general_purpose::STANDARD.encode(pin);
        Ok(Self { config: Arc::new(config), ca_pem, spki_pin })
    }
}

/// A connection, TLS or plain, that its owner can cut without a farewell.
pub(crate) struct Wire {
    inner: Box<dyn Stream>,
    link: Link,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The handle by which a connection is cut.
#[derive(Clone, Debug)]
pub(crate) struct Link(CancellationToken);

impl Link {
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Accepts connections; handshakes run beside each other.
pub(crate) struct WireListener {
    ready: mpsc::Receiver<(Wire, SocketAddr)>,
    local: SocketAddr,
}

impl WireListener {
    /// `down` says whether the router is off: connections are then dropped at once.
    pub(crate) fn new(
        listener: TcpListener,
        identity: Option<&Identity>,
        down: impl Fn() -> bool + Send + 'static,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(64);
        let acceptor = identity.map(|identity| TlsAcceptor::from(identity.config.clone()));
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept_all(listener, acceptor, down, sender) => {}
            }
        });
        Ok(Self { ready, local })
    }
}

async fn accept_all(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    down: impl Fn() -> bool,
    sender: mpsc::Sender<(Wire, SocketAddr)>,
) {
    while !sender.is_closed() {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        if down() {
            // A router that is off answers nothing; a reset is the nearest that a live host can do.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
            continue;
        }
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            if let Ok(wire) = shake_hands(stream, acceptor).await {
                // Nobody waits any more when the server is stopping.
                let _ = sender.send((wire, peer)).await;
            }
        });
    }
}

async fn shake_hands(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<Wire> {
    let inner: Box<dyn Stream> = match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
        None => Box::new(stream),
    };
    let token = CancellationToken::new();
    Ok(Wire { inner, cut: Box::pin(token.clone().cancelled_owned()), link: Link(token) })
}

impl Listener for WireListener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Connected<IncomingStream<'_, WireListener>> for Link {
    fn connect_info(stream: IncomingStream<'_, WireListener>) -> Self {
        stream.io().link.clone()
    }
}

impl Wire {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
