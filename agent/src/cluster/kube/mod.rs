//! The Kubernetes API as a source: one watch for each kind that this node needs, filtered by the server, and the node's own
//! word written back.
//!
//! A watch resumes where it was cut and lists again when its place is too old (410). When the server is away, what was known
//! counts on. A kind that the cluster has not is off until it appears.

mod access;
mod kinds;
mod machines;
mod mesh;
mod pods;
mod shelf;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch as latest};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use access::{Access, AccessError};
pub use mesh::follow_peers;
pub use write::{Reports, report};

use self::access::Answers;
use self::shelf::{Change, Shelf};
use super::News;
use crate::durable;
use crate::model::cluster::Server;
use crate::state::Event;

/// Changes that may wait for the shelf; watches that are faster wait.
const PENDING: usize = 512;
/// So long nothing must have changed before the cluster is put together anew,
const QUIET: Duration = Duration::from_millis(300);
/// and so long at most is waited for that.
const LATEST: Duration = Duration::from_secs(2);

/// From where the objects of virtual addresses come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// From the API.
    Api,
    /// From a folder; the API tells of this node and its Pods alone.
    Folder,
}

/// What is wanted of the cluster, besides this node and its Pods.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The objects of virtual addresses.
    pub objects: Objects,
    /// The file to which policies are copied, where they are enforced.
    pub policies: Option<PathBuf>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    node: String,
    answers: latest::Receiver<Server>,
    identity: latest::Sender<Option<Identity>>,
}

/// The Node object of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its `metadata.uid`.
    pub uid: String,
}

impl Cluster {
    /// Makes a client; nothing is asked yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub async fn new(access: &Access, node: &str) -> Result<Self, AccessError> {
        let (told, answers) = latest::channel(Server::Asked);
        let client = access.client(Answers::new(told)).await?;
        Ok(Self { client, node: node.to_owned(), answers, identity: latest::channel(None).0 })
    }
}

/// Follows the cluster until `stop`. `news` gets the objects once all are listed and after each change; `events` the Pods
/// that matter to this node, and how the source does.
pub async fn follow(
    cluster: Cluster,
    wanted: Wanted,
    news: mpsc::Sender<News>,
    events: mpsc::Sender<Vec<Event>>,
    stop: CancellationToken,
) {
    let (changes, mut inbox) = mpsc::channel(PENDING);
    let mut tasks = JoinSet::new();
    let kinds = kinds::read(&wanted);
    let mut shelf = Shelf::new(&cluster.node, kinds.iter().map(|kind| kind.told));
    let mut follow = |kind| {
        _ = tasks.spawn(watch::follow(kind, cluster.node.clone(), cluster.client.clone(), changes.clone()))
    };
    kinds.into_iter().for_each(&mut follow);
    let mut others = false;
    let mut answers = cluster.answers.clone();
    answers.mark_changed();
    let mut batch: Vec<Change> = Vec::new();
    let mut pending: Option<Pending> = None;
    loop {
        let due = pending.map(Pending::due);
        tokio::select! {
            () = stop.cancelled() => return,
            _ = inbox.recv_many(&mut batch, PENDING) => {
                batch.drain(..).for_each(|change| shelf.take(change));
                if !others && shelf.is_enrolled() {
                    others = true;
                    follow(kinds::OTHER_POD);
                }
                pending = Some(Pending::after(pending, Instant::now()));
            }
            changed = answers.changed() => {
                if changed.is_err() {
                    return;
                }
                shelf.server(answers.borrow_and_update().clone());
                pending = Some(Pending::after(pending, Instant::now()));
            }
            () = until(due), if due.is_some() => {
                pending = None;
                cluster.identity.send_if_modified(|known| {
                    let now = shelf.identity();
                    let news = now.is_some() && *known != now;
                    if news {
                        *known = now;
                    }
                    news
                });
                if let Some(file) = &wanted.policies && copy_policies(&mut shelf, file).await.is_err() {
                    pending = Some(Pending::after(None, Instant::now()));
                }
                if publish(&mut shelf, wanted.objects, &news, &events).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Copies the policies where they are news.
async fn copy_policies(shelf: &mut Shelf, file: &Path) -> Result<(), ()> {
    let Some(policies) = shelf.policies() else { return Ok(()) };
    let path = file.to_owned();
    let written =
        tokio::task::spawn_blocking(move || durable::replace_on_disk(&path, policies.as_bytes())).await;
    written.map_err(std::io::Error::other).flatten().map_err(|error| {
        tracing::error!(%error, file = %file.display(), "the cluster's policies cannot be kept; those in force stay");
        shelf.tell_policies_again();
    })
}

/// Sends what has changed; nothing when nobody listens any more.
async fn publish(
    shelf: &mut Shelf,
    objects: Objects,
    news: &mpsc::Sender<News>,
    events: &mpsc::Sender<Vec<Event>>,
) -> Option<()> {
    let mut told = Vec::new();
    told.extend(shelf.sources().map(|sources| Event::Sources(Arc::new(sources))));
    told.extend(shelf.workloads().map(|workloads| Event::Workloads(Arc::new(workloads))));
    told.extend(shelf.found().map(|found| Event::Found(Arc::new(found))));
    told.extend(shelf.guarded().map(|guarded| Event::Guarded(Arc::new(guarded))));
    if !told.is_empty() {
        events.send(told).await.ok()?;
    }
    if objects == Objects::Api
        && let Some(cluster) = shelf.cluster()
    {
        cluster.faults.iter().for_each(|fault| tracing::warn!("{fault}"));
        news.send(News::Cluster(Arc::new(cluster))).await.ok()?;
    }
    Some(())
}

/// When changes are put together.
#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Instant,
    last: Instant,
}

impl Pending {
    fn after(before: Option<Self>, now: Instant) -> Self {
        Self { first: before.map_or(now, |before| before.first), last: now }
    }

    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + LATEST)
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// A number from 0 to 1, so that the nodes of a cluster do not act at once.
fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(()) >> 11) as f64 / (1u64 << 53) as f64
}

/// An error with its causes, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
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
