//! One cluster: its watches follow what it has. Definitions that come and go are seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PartialObjectMeta};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::discover::discover;
use super::kinds;
use super::shelf::{Shelf, Source};
use super::watch::Watch;
use crate::inputs::{ClusterName, Kind, SourceState};

/// How often versions are looked at when nothing says that they changed.
const PERIOD: Duration = Duration::from_secs(600);
/// A definition is served a moment after it was made: so long after it each look is.
const AFTER: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// How long to wait after a discovery that failed, at first and at most.
const FAILED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(20)];

/// Follows a cluster until it is dropped.
pub(super) async fn follow(cluster: ClusterName, client: Client, shelf: Arc<Shelf>) {
    let missing = Arc::new(Notify::new());
    let mut following = Following {
        cluster,
        client: client.clone(),
        shelf,
        missing: missing.clone(),
        watches: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    following.tasks.spawn(definitions(client, missing.clone()));
    let mut failed = FAILED[0];
    loop {
        match following.look().await {
            Ok(()) => {
                failed = FAILED[0];
                tokio::select! {
                    () = missing.notified() => {}
                    () = tokio::time::sleep(PERIOD) => continue,
                }
                for wait in AFTER {
                    tokio::time::sleep(wait).await;
                    if following.look().await.is_err() {
                        break;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(cluster = %following.cluster, %error, "its kinds cannot be asked for");
                tokio::time::sleep(failed).await;
                failed = (failed * 2).min(FAILED[1]);
            }
        }
    }
}

struct Following {
    cluster: ClusterName,
    client: Client,
    shelf: Arc<Shelf>,
    missing: Arc<Notify>,
    watches: BTreeMap<Kind, (ApiResource, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Following {
    /// Starts what is new and ends what is gone.
    async fn look(&mut self) -> Result<(), kube::Error> {
        let local = self.cluster.is_local();
        let served = discover(&self.client, local).await?;
        let states = kinds::read_in(local).filter_map(|read| {
            let known = self.watches.get(&read.kind).map(|(resource, _)| resource);
            match served.get(&read.kind) {
                None => Some((Source::Kind(read.kind), SourceState::Off)),
                Some(now) if known == Some(now) => None,
                Some(_) => Some((Source::Kind(read.kind), SourceState::Starting)),
            }
        });
        self.shelf.declare(&self.cluster, states.collect::<Vec<_>>());
        for read in kinds::read_in(local) {
            let running = self.watches.get(&read.kind).map(|(resource, _)| resource.clone());
            let wanted = served.get(&read.kind);
            if running.as_ref() == wanted {
                continue;
            }
            if let Some((_, task)) = self.watches.remove(&read.kind) {
                task.abort();
            }
            let Some(resource) = wanted.cloned() else {
                tracing::info!(cluster = %self.cluster, kind = read.kind.as_str(), "the kind is no longer served");
                continue;
            };
            tracing::debug!(cluster = %self.cluster, kind = read.kind.as_str(), version = resource.api_version, "following");
            let watch = Watch {
                cluster: self.cluster.clone(),
                source: Source::Kind(read.kind),
                kind: read.kind,
                resource: resource.clone(),
                extent: read.extent,
                namespace: None,
                fields: read.fields.map(str::to_owned),
                missing: self.missing.clone(),
            };
            let task = self.tasks.spawn(watch.follow(self.client.clone(), self.shelf.clone()));
            self.watches.insert(read.kind, (resource, task));
        }
        Ok(())
    }
}

/// Rings for every definition that comes, goes or changes, if it is of a group that is read.
async fn definitions(client: Client, ring: Arc<Notify>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let mut stream = std::pin::pin!(watcher(api, Config::default().page_size(500)).default_backoff());
    let read = |name: &str| kinds::READ.iter().any(|read| name.ends_with(&format!(".{}", read.kind.group())));
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(definition) | Event::Delete(definition)) if read(&definition.name_any()) => {
                ring.notify_one();
            }
            // Whoever may not list definitions sees new ones when versions are looked at.
            _ => {}
        }
    }
}
