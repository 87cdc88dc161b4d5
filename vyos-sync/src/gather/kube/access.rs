//! How a cluster is reached: a client that counts its calls and tells whether the API server answers.

use std::collections::BTreeMap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{Layer, Service};

use super::shelf::Shelf;
use crate::inputs::ClusterName;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the API is.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// A kubeconfig, in place of the one of the environment or of the pod.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// A context of it, in place of its current one.
    pub context: Option<String>,
}

impl Access {
    /// The configuration: the named file, else `KUBECONFIG`, else the pod's own account.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let Some(file) = &self.kubeconfig else {
            return match &self.context {
                Some(_) => {
                    Config::from_kubeconfig(&options).await.context("the kubeconfig of the environment")
                }
                None => Config::infer()
                    .await
                    .context("there is no kubeconfig and no account of a pod; give --kubeconfig"),
            };
        };
        let kubeconfig =
            Kubeconfig::read_from(file).with_context(|| format!("kubeconfig {}", file.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.with_context(|| format!("kubeconfig {}", file.display()))
    }
}

/// Calls sent to the API servers, by verb.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<BTreeMap<&'static str, AtomicU64>>);

/// The verbs that are counted; the last one stands for all others.
const VERBS: [&str; 5] = ["get", "watch", "patch", "create", "other"];

impl Calls {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self(Arc::new(VERBS.into_iter().map(|verb| (verb, AtomicU64::new(0))).collect()))
    }

    /// Each verb with its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(verb, count)| (*verb, count.load(Ordering::Relaxed)))
    }

    fn count<T>(&self, request: &http::Request<T>) {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let verb = match request.method().as_str() {
            "GET" if watches => "watch",
            "GET" => "get",
            "PATCH" => "patch",
            "POST" => "create",
            _ => "other",
        };
        if let Some(count) = self.0.get(verb) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A client of a cluster. Each answer, and each failure to get one, is told to the shelf.
///
/// # Errors
/// The configuration cannot be used.
pub fn client(
    mut config: Config,
    cluster: &ClusterName,
    shelf: &Arc<Shelf>,
    calls: &Calls,
) -> Result<Client> {
    config.connect_timeout = Some(CONNECT);
    let watcher = Watcher { cluster: cluster.clone(), shelf: shelf.clone(), calls: calls.clone() };
    Ok(ClientBuilder::try_from(config)?.with_layer(&watcher).build())
}

#[derive(Clone)]
struct Watcher {
    cluster: ClusterName,
    shelf: Arc<Shelf>,
    calls: Calls,
}

impl<S> Layer<S> for Watcher {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watched { inner, by: self.clone() }
    }
}

#[derive(Clone)]
struct Watched<S> {
    inner: S,
    by: Watcher,
}

impl<S, B> Service<http::Request<Body>> for Watched<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Error: Into<tower::BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<S::Response, tower::BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.by.calls.count(&request);
        let (answer, by) = (self.inner.call(request), self.by.clone());
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into);
            by.shelf.away(&by.cluster, judge(&answer));
            answer
        })
    }
}

/// Why the cluster cannot be asked, as far as one answer tells. Too many requests, or a missing kind, are answers.
fn judge<B>(answer: &Result<http::Response<B>, tower::BoxError>) -> Option<String> {
    match answer {
        Ok(answer) if answer.status() == http::StatusCode::UNAUTHORIZED => {
            Some("it does not know the credentials; they may have expired".to_owned())
        }
        Ok(answer) if answer.status().is_server_error() => Some(format!("it answers {}", answer.status())),
        Ok(_) => None,
        Err(error) => Some(causes(error.as_ref())),
    }
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
