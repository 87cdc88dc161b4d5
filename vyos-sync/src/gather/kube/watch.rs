//! One watch: from the API server's events to the shelf.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::ApiResource;
use kube::runtime::watcher::{self as watching, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Error};
use tokio::sync::Notify;

use super::kinds::Extent;
use super::shelf::{Shelf, Source};
use super::trim::trim;
use crate::inputs::{ClusterName, Kind, SourceState, read_one};

/// Objects in one page of a list: memory is bounded, whatever the cluster holds.
const PAGE: u32 = 500;
/// How long to wait after a refusal, at first and at most.
const REFUSED: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// What to watch.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) cluster: ClusterName,
    pub(super) source: Source,
    pub(super) kind: Kind,
    pub(super) resource: ApiResource,
    pub(super) extent: Extent,
    pub(super) namespace: Option<String>,
    pub(super) fields: Option<String>,
    /// Rung when the kind is not where it was.
    pub(super) missing: Arc<Notify>,
}

impl Watch {
    /// Follows until it is dropped.
    pub(super) async fn follow(self, client: Client, shelf: Arc<Shelf>) {
        let mut wait = REFUSED[0];
        loop {
            let why = match self.extent {
                Extent::Whole => {
                    let stream = watcher(self.objects(&client), self.config()).default_backoff();
                    self.take(stream, &shelf, &mut wait, |object| object).await
                }
                Extent::Metadata => {
                    let api =
                        Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &self.resource);
                    let stream = watcher(api, self.config()).default_backoff();
                    self.take(stream, &shelf, &mut wait, of_metadata).await
                }
            };
            if let Some(why) = why {
                shelf.set(&self.cluster, &self.source, SourceState::Failing(why));
            } else {
                self.missing.notify_one();
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REFUSED[1]);
        }
    }

    /// A Secret is watched where it is, everything else in all namespaces.
    fn objects(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    fn config(&self) -> watching::Config {
        let config = watching::Config::default().page_size(PAGE);
        match &self.fields {
            Some(fields) => config.fields(fields),
            None => config,
        }
    }

    /// Takes events until the API server refuses: then the reason, or nothing where the kind is missing.
    async fn take<K>(
        &self,
        stream: impl Stream<Item = watching::Result<Event<K>>>,
        shelf: &Shelf,
        wait: &mut Duration,
        whole: impl Fn(K) -> DynamicObject,
    ) -> Option<String> {
        let mut stream = std::pin::pin!(stream);
        let mut seen = BTreeSet::new();
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => seen.clear(),
                Ok(Event::InitApply(object)) => seen.extend(self.put(whole(object), shelf)),
                Ok(Event::InitDone) => {
                    shelf.listed(&self.cluster, &self.source, &std::mem::take(&mut seen));
                    *wait = REFUSED[0];
                }
                Ok(Event::Apply(object)) => drop(self.put(whole(object), shelf)),
                Ok(Event::Delete(object)) => {
                    let (document, _) = trim(self.kind, whole(object));
                    if let Some((id, _)) = read_one("", &self.cluster, &document) {
                        shelf.remove(&id);
                    }
                }
                Err(error) => match refusal(&error) {
                    Some(404) => return None,
                    Some(code @ (401 | 403)) => {
                        return Some(format!("the API server answers {code}: {}", chain(&error)));
                    }
                    // The watcher itself waits and goes on; whether the server answers at all is told elsewhere.
                    _ => {
                        tracing::debug!(cluster = %self.cluster, kind = self.kind.as_str(), error = chain(&error), "a watch was cut")
                    }
                },
            }
        }
        Some("the watch ended".to_owned())
    }

    fn put(&self, object: DynamicObject, shelf: &Shelf) -> Option<crate::inputs::ObjectId> {
        let (document, meta) = trim(self.kind, object);
        let place = match self.cluster.is_local() {
            true => "the API".to_owned(),
            false => format!("the API of cluster {}", self.cluster),
        };
        let (id, fragment) = read_one(&place, &self.cluster, &document)?;
        shelf.put(id.clone(), fragment, meta);
        Some(id)
    }
}

fn of_metadata(object: PartialObjectMeta<DynamicObject>) -> DynamicObject {
    DynamicObject { types: object.types, metadata: object.metadata, data: serde_json::Value::Null }
}

fn refusal(error: &watching::Error) -> Option<u16> {
    match error {
        watching::Error::InitialListFailed(Error::Api(status))
        | watching::Error::WatchStartFailed(Error::Api(status))
        | watching::Error::WatchFailed(Error::Api(status)) => Some(status.code),
        watching::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn chain(error: &watching::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
