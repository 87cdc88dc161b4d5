//! Reads the folder and the published views again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_api::manifest;
use weir_router_view::RouterView;

use super::folder::folder;
use super::published::router_view;
use crate::model::cluster::{Cluster, Fault};

/// How often the files are looked at. Mounted ConfigMaps change by links, which a watch on files would miss.
const GLANCE: Duration = Duration::from_secs(2);

/// What has been read anew.
#[derive(Clone, Debug)]
pub enum News {
    /// The objects.
    Cluster(Arc<Cluster>),
    /// The views of all routers, and what could not be read of them.
    Routers(Vec<Arc<RouterView>>, Vec<Fault>),
}

/// Sends what the folder and the published views hold, at once and after each change, until `stop`.
pub async fn watch(
    source: Option<PathBuf>,
    views: Vec<PathBuf>,
    news: mpsc::Sender<News>,
    stop: CancellationToken,
) {
    if source.is_none() && views.is_empty() {
        return stop.cancelled().await;
    }
    let mut source = source.map(|path| (path, None));
    let mut stamps = vec![None; views.len()];
    let mut read: Vec<Option<Result<Arc<RouterView>, Fault>>> = vec![None; views.len()];
    let mut glance = tokio::time::interval(GLANCE);
    glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = glance.tick() => {}
        }
        if let Some((path, before)) = &mut source
            && let Some(now) = changed(path, before).await
        {
            *before = Some(now);
            let cluster = gather(path.clone()).await;
            cluster.faults.iter().for_each(|fault| tracing::warn!("manifests: {fault}"));
            if news.send(News::Cluster(Arc::new(cluster))).await.is_err() {
                return;
            }
        }
        let mut moved = false;
        for ((path, before), view) in views.iter().zip(&mut stamps).zip(&mut read) {
            let now = stamp(path);
            if before.as_ref() == Some(&now) {
                continue;
            }
            *before = Some(now);
            *view = Some(published(path));
            moved = true;
        }
        if moved {
            let (good, bad): (Vec<_>, Vec<_>) = read.iter().flatten().cloned().partition(Result::is_ok);
            let good = good.into_iter().filter_map(Result::ok).collect();
            let bad = bad.into_iter().filter_map(Result::err).collect();
            if news.send(News::Routers(good, bad)).await.is_err() {
                return;
            }
        }
    }
}

fn published(path: &Path) -> Result<Arc<RouterView>, Fault> {
    router_view(path).map(Arc::new).map_err(|error| {
        let what = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        tracing::warn!("{what}");
        Fault { place: path.display().to_string(), what }
    })
}

/// When a file was written, and its length; `None` where there is no such file.
type Stamp = Option<(Option<SystemTime>, u64)>;
/// The stamps of all files of a folder.
type Stamps = Vec<(PathBuf, Stamp)>;

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok(), about.len()))
}

/// The stamps of the manifests if they differ from those before.
async fn changed(path: &Path, before: &Option<Stamps>) -> Option<Stamps> {
    let path = path.to_owned();
    let look = move || -> Stamps {
        let files = manifest::find(&path).files;
        let stamped = files.into_iter().map(|file| {
            let now = stamp(&file);
            (file, now)
        });
        // The folder's own stamp tells a folder that is missing from one that is empty.
        std::iter::once((path.clone(), stamp(&path).map(|(_, length)| (None, length))))
            .chain(stamped)
            .collect()
    };
    let now = tokio::task::spawn_blocking(look).await.ok()?;
    (before.as_ref() != Some(&now)).then_some(now)
}

async fn gather(path: PathBuf) -> Cluster {
    let shown = path.display().to_string();
    match tokio::task::spawn_blocking(move || folder(&path)).await {
        Ok(cluster) => cluster,
        Err(error) => Cluster {
            faults: vec![Fault { place: shown, what: format!("reading it broke off: {error}") }],
            ..Cluster::default()
        },
    }
}
