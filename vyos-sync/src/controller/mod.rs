//! vyos-sync in a cluster: watches everywhere, one leader, one worker for each Router.

mod peers;
mod told;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bao::Bao;
use crate::config::{Dialect, Schema};
use crate::export::Metrics;
use crate::gather::kube::{self as source, Access, Calls, Fleet, Shelf, Sources};
use crate::inputs::{ClusterName, Snapshot, SourceState};
use crate::lease::{self, Leadership};
use crate::report::{self, Reporter};

/// How the controller runs.
#[derive(Clone)]
pub struct Options {
    /// Where the API is.
    pub access: Access,
    /// Which other clusters are followed.
    pub sources: Sources,
    /// Folder for what is kept while this process runs; the cluster has it too.
    pub state_dir: PathBuf,
    /// Namespace of the Lease and of the ledgers, by default that of the access.
    pub namespace: Option<String>,
    /// Name of the Lease; no election where absent.
    pub lease: Option<String>,
    /// So long a leader may be silent.
    pub lease_duration: Duration,
    /// Only this Router.
    pub router: Option<String>,
    /// Between two looks at a router when nothing changes.
    pub period: Duration,
    /// The release's syntax, where it is not asked for.
    pub dialect: Option<Dialect>,
    /// A full schema.
    pub schema: Option<Schema>,
    /// The store of secrets, where there is one.
    pub bao: Option<Arc<Bao>>,
}

/// Changes that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(250);

/// What all workers share.
struct Shared {
    options: Options,
    client: Client,
    namespace: String,
    leadership: Leadership,
    reporter: Reporter,
    metrics: Metrics,
}

/// Runs until it is stopped.
///
/// # Errors
/// The API cannot be reached at all, or the configuration makes no sense.
pub async fn run(
    options: Options,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<()> {
    let config = options.access.config().await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let (shelf, calls) = (Arc::new(Shelf::default()), Calls::new());
    let client = source::client(config, &ClusterName::local(), &shelf, &calls).context("the API's client")?;
    let identity = identity();
    let leadership = Leadership::default();
    // A worker brings a change under way to its end before the Lease is given back.
    let after = CancellationToken::new();
    let campaign = elect(&options, &client, &namespace, &identity, &leadership, &after);
    let fleet = Fleet::start(client.clone(), shelf.clone(), calls.clone(), options.sources.clone());
    let reporter = Reporter::new(client.clone(), &identity);
    let shared = Arc::new(Shared { options, client, namespace, leadership, reporter, metrics });
    let done = conduct(&shared, fleet, &shelf, &calls, &ready, &stop).await;
    after.cancel();
    if let Some(campaign) = campaign {
        campaign.await.context("the election")?;
    }
    done
}

/// A name that no other process has: the pod's, and something that differs at each start.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let start = jiff::Timestamp::now().as_nanosecond();
    format!("{host}_{}-{:x}", std::process::id(), start & 0xff_ffff_ffff)
}

fn elect(
    options: &Options,
    client: &Client,
    namespace: &str,
    identity: &str,
    leadership: &Leadership,
    after: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let Some(name) = options.lease.clone() else {
        leadership.alone();
        return None;
    };
    let settings = lease::Settings {
        namespace: namespace.to_owned(),
        name,
        identity: identity.to_owned(),
        duration: options.lease_duration,
    };
    Some(tokio::spawn(lease::campaign(client.clone(), settings, leadership.clone(), after.clone())))
}

async fn conduct(
    shared: &Arc<Shared>,
    mut fleet: Fleet,
    shelf: &Arc<Shelf>,
    calls: &Calls,
    ready: &AtomicBool,
    stop: &CancellationToken,
) -> Result<()> {
    let (shots, shot) = watch::channel(Arc::new(Snapshot::default()));
    let mut workers: BTreeMap<String, (CancellationToken, JoinHandle<()>)> = BTreeMap::new();
    let (mut changes, mut turns) = (shelf.changes(), shared.leadership.changes());
    let mut waits = Waits::default();
    while !stop.is_cancelled() {
        changes.mark_unchanged();
        let now = Arc::new(shelf.snapshot());
        let known = fleet.follow(&now).await && now.settled;
        ready.store(known, Ordering::Release);
        shared.metrics.count_calls(calls.counts());
        shared.metrics.show_clusters(&now);
        waits.tell(known, &now);
        if known && shared.leadership.holds() {
            shots.send_replace(now.clone());
            hire(shared, &mut workers, &now, &shot);
            shared.reporter.bid(&report::orphans(&now), &now).await;
            shared.reporter.sweep_hooks(&now).await;
        } else if !shared.leadership.holds() {
            dismiss(&mut workers).await;
        }
        tokio::select! {
            _ = changes.changed() => tokio::time::sleep(TOGETHER).await,
            _ = turns.changed() => {}
            () = tokio::time::sleep(shared.options.period.min(Duration::from_secs(60))) => {}
            () = stop.cancelled() => {}
        }
    }
    dismiss(&mut workers).await;
    Ok(())
}

/// A worker for each Router, and none for those that are gone.
fn hire(
    shared: &Arc<Shared>,
    workers: &mut BTreeMap<String, (CancellationToken, JoinHandle<()>)>,
    now: &Snapshot,
    shot: &watch::Receiver<Arc<Snapshot>>,
) {
    let wanted = |name: &str| shared.options.router.as_deref().is_none_or(|only| only == name);
    workers.retain(|name, (stop, task)| {
        let stays = now.inputs.router(name).is_some() && !task.is_finished();
        if !stays {
            stop.cancel();
        }
        stays
    });
    for router in now.inputs.routers.iter().filter(|router| wanted(&router.id.name)) {
        let name = &router.id.name;
        if !workers.contains_key(name) {
            let stop = CancellationToken::new();
            let work = worker::work(shared.clone(), name.clone(), shot.clone(), stop.clone());
            workers.insert(name.clone(), (stop, tokio::spawn(work)));
        }
    }
}

/// Ends all workers. A change under way comes to its end, or to where it may not go on without the Lease.
async fn dismiss(workers: &mut BTreeMap<String, (CancellationToken, JoinHandle<()>)>) {
    workers.values().for_each(|(stop, _)| stop.cancel());
    for (name, (_, task)) in std::mem::take(workers) {
        if let Err(error) = task.await {
            tracing::error!(router = name, %error, "a worker died");
        }
    }
}

/// Says now and then what is waited for.
#[derive(Default)]
struct Waits {
    told: Option<std::time::Instant>,
}

impl Waits {
    fn tell(&mut self, known: bool, shot: &Snapshot) {
        let due = self.told.is_none_or(|told| told.elapsed() > Duration::from_secs(30));
        if known || !due {
            return;
        }
        self.told = Some(std::time::Instant::now());
        let starting = shot
            .sources
            .iter()
            .filter(|(cluster, _, state)| cluster.is_local() && *state == SourceState::Starting);
        let names: Vec<&str> = starting.map(|(_, name, _)| name.as_str()).collect();
        tracing::info!(waiting_for = names.join(", "), "not all is listed yet");
    }
}
