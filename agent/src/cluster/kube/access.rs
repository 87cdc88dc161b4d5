//! How the cluster is reached: a client that tells whether the API server answers.

use std::env;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

use super::chain;
use crate::model::cluster::Server;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The port of a server that names none.
const HTTPS: u16 = 443;

/// Where a Pod has the token of its account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Where the account of the Pod says.
    Pod,
    /// Where a kubeconfig says.
    File(PathBuf),
}

/// The cluster cannot be reached as it was meant to be.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path} cannot be used")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The account of the Pod cannot be used.
    #[error("the account of the Pod cannot be used; is its token mounted (automountServiceAccountToken)?")]
    Pod(#[source] kube::config::InClusterError),
    /// No client can be made of it.
    #[error("no client of the Kubernetes API can be made")]
    Client(#[source] kube::Error),
}

impl Access {
    /// The named file, else the account of the Pod that this is; nothing outside a Pod, and in one without a token.
    pub fn find(kubeconfig: Option<PathBuf>) -> Option<Self> {
        let in_pod = || env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).is_file();
        kubeconfig.map(Self::File).or_else(|| in_pod().then_some(Self::Pod))
    }

    /// The addresses of the API server, as far as they can be told without asking it.
    pub fn servers(&self) -> Vec<SocketAddr> {
        let found = match self {
            Self::Pod => env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| {
                let port = env::var("KUBERNETES_SERVICE_PORT").ok().and_then(|port| port.parse().ok());
                (host.as_str(), port.unwrap_or(HTTPS)).to_socket_addrs().ok()
            }),
            Self::File(path) => server_of(path).and_then(|server| {
                let host = server.host()?.trim_matches(['[', ']']);
                (host, server.port_u16().unwrap_or(HTTPS)).to_socket_addrs().ok()
            }),
        };
        found.map(Iterator::collect).unwrap_or_default()
    }

    /// Whether it can be used at all; nothing is asked yet.
    ///
    /// # Errors
    /// The kubeconfig or the account cannot be used.
    pub async fn check(&self) -> Result<(), AccessError> {
        self.config().await.map(drop)
    }

    async fn config(&self) -> Result<Config, AccessError> {
        match self {
            Self::Pod => Config::incluster().map_err(AccessError::Pod),
            Self::File(path) => {
                let refused = |source| AccessError::File { path: path.clone(), source };
                let kubeconfig = Kubeconfig::read_from(path).map_err(refused)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(refused)
            }
        }
    }

    /// A client that tells of each answer, and of each failure to get one.
    pub(super) async fn client(&self, answers: Answers) -> Result<Client, AccessError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        let builder = ClientBuilder::try_from(config).map_err(AccessError::Client)?;
        Ok(builder.with_layer(&answers).build())
    }
}

/// The URL of the cluster that a kubeconfig means.
fn server_of(kubeconfig: &Path) -> Option<http::Uri> {
    let config = Kubeconfig::read_from(kubeconfig).ok()?;
    let current = config.current_context?;
    let context = config.contexts.into_iter().find(|context| context.name == current)?.context?;
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == context.cluster)?.cluster?;
    cluster.server?.parse().ok()
}

/// Tells whether the API server answers.
#[derive(Clone)]
pub(super) struct Answers(watch::Sender<Server>);

impl Answers {
    pub(super) fn new(told: watch::Sender<Server>) -> Self {
        Self(told)
    }

    fn tell<B>(&self, answer: &Result<http::Response<B>, BoxError>) {
        let now = judge(answer);
        self.0.send_if_modified(|known| {
            let news = *known != now;
            match &now {
                _ if !news => {}
                Server::Away(why) if !matches!(known, Server::Away(_)) => {
                    tracing::warn!("the API server is away ({why}); the agent goes on with what it knows");
                }
                Server::Answers if matches!(known, Server::Away(_)) => {
                    tracing::info!("the API server answers again");
                }
                _ => {}
            }
            if news {
                *known = now;
            }
            news
        });
    }
}

impl<S> Layer<S> for Answers {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watched { inner, answers: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Watched<S> {
    inner: S,
    answers: Answers,
}

impl<S, B> Service<http::Request<Body>> for Watched<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, answers) = (self.inner.call(request), self.answers.clone());
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into);
            answers.tell(&answer);
            answer
        })
    }
}

/// What one answer tells of the server. Too many requests, or a missing kind, are answers.
fn judge<B>(answer: &Result<http::Response<B>, BoxError>) -> Server {
    match answer {
        Ok(answer) if answer.status() == http::StatusCode::UNAUTHORIZED => {
            Server::Away("it does not know the agent's credentials".to_owned())
        }
        Ok(answer) if answer.status().is_server_error() => {
            Server::Away(format!("it answers {}", answer.status()))
        }
        Ok(_) => Server::Answers,
        Err(error) => Server::Away(chain(error.as_ref())),
    }
}
