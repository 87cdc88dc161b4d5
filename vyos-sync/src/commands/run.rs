//! `run`: every Router of the source is followed by a loop of its own, so that one that is away holds up no other.

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Chosen, full_schema,
    online::{keep_status, open},
};
use crate::{
    args::{LiveArgs, Output, RunArgs, SourceArgs},
    bao::{Bao, Pace},
    controller,
    export::{self, Metrics, OfRouter, Shown, WithReason},
    gather::{
        self,
        kube::{Access, Follow, Sources},
    },
    inputs::{Completeness, Inputs},
    pacing::Backoff,
    pass::{self, Again, Outcome, Report},
    reconcile::{Session, print},
    task,
};

/// How often the manifests are looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// The loops, until the process is told to stop.
pub(super) async fn run(args: RunArgs) -> Result<ExitCode> {
    let stop = task::until_signal()?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let identity = args.tls.identity().context("the listener has no certificate")?;
    if let Some(identity) = identity.clone() {
        export::of_certificate(&mut registry, move || identity.reading());
    }
    let defaults = Pace::default();
    let pace = Pace { period: args.period.min(defaults.period), ..defaults };
    let bao = super::bao(&args.bao, pace)?;
    if let Some(bao) = bao.clone() {
        export::of_store(&mut registry, move || bao.reading());
    }
    let ready = Arc::new(AtomicBool::new(false));
    let shown = Shown { registry: Arc::new(registry), ready: ready.clone() };
    let server =
        args.listen.map(|address| tokio::spawn(export::serve(address, identity, shown, stop.clone())));
    let done = match (&args.source, &args.state_dir) {
        (Some(source), Some(state)) => {
            let args = OverFolder {
                live: live(&args, source, state),
                period: args.period,
                view_period: args.view_period,
                bao,
            };
            Followed::new(args, metrics, ready).until(&stop).await;
            Ok(())
        }
        _ => controller::run(options(args, bao)?, metrics, ready, stop.clone()).await,
    };
    stop.cancel();
    if let Some(server) = server {
        server.await.context("the metrics server died")?.context("the metrics server")?;
    }
    done.map(|()| ExitCode::SUCCESS)
}

/// What the loops over a folder need.
#[derive(Clone)]
struct OverFolder {
    live: LiveArgs,
    period: Duration,
    view_period: Option<Duration>,
    bao: Option<Arc<Bao>>,
}

fn live(args: &RunArgs, source: &Path, state: &Path) -> LiveArgs {
    LiveArgs {
        source: SourceArgs { source: source.to_owned(), router: args.router.clone() },
        dialect: args.dialect.clone(),
        state_dir: state.to_owned(),
        bao: args.bao.clone(),
        output: Output::default(),
    }
}

fn options(args: RunArgs, bao: Option<Arc<Bao>>) -> Result<controller::Options> {
    let schema = full_schema(&args.dialect)?;
    let kube = args.cluster;
    Ok(controller::Options {
        access: Access { kubeconfig: kube.kubeconfig, context: kube.context },
        sources: Sources {
            files: kube.clusters,
            namespaces: kube.cluster_namespaces,
            secrets: if kube.no_cluster_secrets { Follow::No } else { Follow::Yes },
        },
        state_dir: args.state_dir.unwrap_or_else(|| "/run/vyos-sync".into()),
        namespace: kube.namespace,
        lease: (!kube.no_lease).then_some(kube.lease),
        lease_duration: kube.lease_seconds,
        router: args.router,
        period: args.period,
        dialect: args.dialect.dialect,
        schema,
        bao,
    })
}

/// The routers that are followed. Dropping it ends their loops.
struct Followed {
    args: OverFolder,
    metrics: Metrics,
    loops: JoinSet<()>,
    /// What ends each loop.
    names: BTreeMap<String, CancellationToken>,
    first: FirstPasses,
}

/// Ready once every router that was there at the start had its first pass.
#[derive(Clone)]
struct FirstPasses {
    left: Arc<AtomicUsize>,
    ready: Arc<AtomicBool>,
}

impl FirstPasses {
    fn one_is_over(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ready.store(true, Ordering::Release);
        }
    }
}

impl Followed {
    fn new(args: OverFolder, metrics: Metrics, ready: Arc<AtomicBool>) -> Self {
        // The first look at the source is one of them.
        let first = FirstPasses { left: Arc::new(AtomicUsize::new(1)), ready };
        Self { args, metrics, loops: JoinSet::new(), names: BTreeMap::new(), first }
    }

    /// Looks which routers there are whenever the source changes; at the end, waits for what is under way.
    async fn until(mut self, stop: &CancellationToken) {
        let mut first = Some(self.first.clone());
        while !stop.is_cancelled() {
            let source = self.args.live.source.source.clone();
            let before = fingerprint(&source);
            self.follow(&gather::folder(&source), stop);
            if let Some(first) = first.take() {
                first.one_is_over();
            }
            let until = tokio::time::Instant::now() + self.args.period;
            changed_or_time(&source, &before, until, stop).await;
        }
        while self.loops.join_next().await.is_some() {}
    }

    /// Begins with those that are new and ends those that are gone; what is on their routers stays.
    fn follow(&mut self, inputs: &Inputs, stop: &CancellationToken) {
        let wanted: Vec<String> = match &self.args.live.source.router {
            Some(name) => vec![name.clone()],
            None => inputs.routers.iter().map(|router| router.id.name.clone()).collect(),
        };
        if wanted.is_empty() {
            let source = self.args.live.source.source.display().to_string();
            tracing::error!(source, "there is no Router object");
        }
        // A Router that cannot be read now is no Router that is gone: its loop says what is wrong.
        if inputs.completeness == Completeness::Complete {
            self.names.retain(|name, own| {
                let stays = wanted.contains(name);
                if !stays {
                    tracing::info!(router = name, "no longer in the source; the router is left as it is");
                    own.cancel();
                }
                stays
            });
        }
        for name in wanted {
            if self.names.contains_key(&name) {
                continue;
            }
            let own = stop.child_token();
            self.first.left.fetch_add(1, Ordering::AcqRel);
            let mut args = self.args.clone();
            args.live.source.router = Some(name.clone());
            self.loops.spawn(follow_one(args, self.metrics.clone(), self.first.clone(), own.clone()));
            self.names.insert(name, own);
        }
    }
}

async fn follow_one(args: OverFolder, metrics: Metrics, first: FirstPasses, stop: CancellationToken) {
    let mut first = Some(first);
    let mut session: Option<Session> = None;
    let mut backoff = Backoff::default();
    let mut views = Views { period: args.view_period, due: tokio::time::Instant::now() };
    while !stop.is_cancelled() {
        let before = fingerprint(&args.live.source.source);
        let wait = match pass(&args, &metrics, &mut session).await {
            Ok(true) => {
                backoff.recovered();
                args.period
            }
            done => {
                if let Err(error) = done {
                    tracing::error!("{error:#}");
                }
                backoff.failed(Timestamp::now());
                backoff.wait(Timestamp::now())
            }
        };
        if let Some(first) = first.take() {
            first.one_is_over();
        }
        let until = tokio::time::Instant::now() + wait;
        loop {
            views.publish_if_due(&args, &metrics, session.as_mut()).await;
            // A view that falls due is no reason for a pass.
            let next = views.next(until, session.as_ref());
            changed_or_time(&args.live.source.source, &before, next, &stop).await;
            let over = stop.is_cancelled() || tokio::time::Instant::now() >= until;
            if over || fingerprint(&args.live.source.source) != before {
                break;
            }
        }
        if fingerprint(&args.live.source.source) != before {
            // Address, trust and key may be new.
            session = None;
        }
    }
}

/// When the router is asked next what it has learned.
struct Views {
    period: Option<Duration>,
    due: tokio::time::Instant,
}

impl Views {
    /// Asks where a view is due. One that fails is told and tried again a period later: it changes nothing on the router.
    async fn publish_if_due(&mut self, args: &OverFolder, metrics: &Metrics, session: Option<&mut Session>) {
        let (Some(period), Some(session)) = (self.period, session) else { return };
        if tokio::time::Instant::now() < self.due {
            return;
        }
        self.due = tokio::time::Instant::now() + period;
        let published = async {
            let chosen = Chosen::read(&args.live.source)?;
            session.publish_view(&chosen.router, &chosen.inputs, period).await.map_err(anyhow::Error::from)
        };
        if let Err(error) = published.await {
            tracing::warn!(router = session.name, "what the router has learned is not published: {error:#}");
        }
        count(metrics, &OfRouter { router: session.name.clone() }, session.sent_since());
    }

    /// The earlier of a moment and the next view.
    fn next(&self, until: tokio::time::Instant, session: Option<&Session>) -> tokio::time::Instant {
        if self.period.is_some() && session.is_some() { until.min(self.due) } else { until }
    }
}

/// One pass with its metrics. `false` when it should be tried again soon.
async fn pass(args: &OverFolder, metrics: &Metrics, session: &mut Option<Session>) -> Result<bool> {
    let mut chosen = Chosen::read(&args.live.source)?.supplied(args.bao.as_ref()).await;
    let of = OfRouter { router: chosen.router.id.name.clone() };
    let started = Instant::now();
    let done = one(args, &mut chosen, session).await;
    keep_status(&args.live.state_dir, &chosen, done.as_ref())?;
    metrics.seconds.get_or_create(&of).observe(started.elapsed().as_secs_f64());
    let word = match &done {
        Ok(report) => report.outcome.word(),
        Err(_) => "error",
    };
    let with = WithReason { router: of.router.clone(), result: word };
    metrics.reconciles.get_or_create(&with).inc();
    if let Some(session) = session {
        count(metrics, &of, session.sent_since());
    }
    let away =
        matches!(&done, Err(error) if error.downcast_ref::<pass::Error>().is_some_and(|e| !e.reached()));
    metrics.reachable.get_or_create(&of).set(i64::from(!away));
    let report = match done {
        Ok(report) => report,
        Err(error) => {
            metrics.synced.get_or_create(&of).set(0);
            // A rebooted or re-imaged router may run another release.
            *session = None;
            return Err(error);
        }
    };
    tell(metrics, &of, &report);
    Ok(!matches!(report.outcome, Outcome::Failed(_)))
}

async fn one(args: &OverFolder, chosen: &mut Chosen, session: &mut Option<Session>) -> Result<Report> {
    let print = print(&chosen.router.spec, &chosen.inputs);
    // Address, trust or key are other ones.
    if session.as_ref().is_some_and(|session| session.opened_with() != print) {
        *session = None;
    }
    let session = match session {
        Some(session) => session,
        none => none.insert(open(&args.live, chosen).await?),
    };
    session.sight(&mut chosen.inputs, args.period).await;
    Ok(session.reconcile(&chosen.router, &chosen.inputs, Again::No).await?)
}

fn count(metrics: &Metrics, of: &OfRouter, (requests, commits): (u64, u64)) {
    metrics.requests.get_or_create(of).inc_by(requests);
    metrics.commits.get_or_create(of).inc_by(commits);
}

fn tell(metrics: &Metrics, of: &OfRouter, report: &Report) {
    let planned = i64::try_from(report.plan.commands.len()).unwrap_or(i64::MAX);
    let problems = report.compiled.problems().count() + report.plan.blocked.len();
    let synced = matches!(report.outcome, Outcome::InSync | Outcome::Applied(_));
    let left = if synced { 0 } else { planned };
    metrics.planned.get_or_create(of).set(left);
    metrics.problems.get_or_create(of).set(i64::try_from(problems).unwrap_or(i64::MAX));
    metrics.synced.get_or_create(of).set(i64::from(synced));
    let misplaced = &report.compiled.intent.misplaced;
    metrics.show_places(of, misplaced.as_ref());
    if synced {
        metrics.synced_at.get_or_create(of).set(Timestamp::now().as_millisecond() as f64 / 1_000.0);
    }
    let said = report.outcome.to_string();
    match &report.outcome {
        Outcome::InSync => tracing::debug!(router = of.router, "{said}"),
        Outcome::Applied(_) | Outcome::Observed => tracing::info!(router = of.router, "{said}"),
        _ => tracing::warn!(router = of.router, "{said}"),
    }
    let misplaced = misplaced.iter().flatten().flatten();
    report
        .compiled
        .problems()
        .chain(misplaced)
        .for_each(|problem| tracing::warn!(router = of.router, "{problem}"));
    for blocked in &report.plan.blocked {
        tracing::warn!(router = of.router, path = %blocked.path, reason = ?blocked.reason, "{}", blocked.text);
    }
}

/// Waits for the time to pass, for the manifests to change, or for the end.
async fn changed_or_time(
    source: &Path,
    before: &BTreeMap<String, Stamp>,
    until: tokio::time::Instant,
    stop: &CancellationToken,
) {
    while tokio::time::Instant::now() < until && fingerprint(source) == *before {
        let next = until.min(tokio::time::Instant::now() + GLANCE);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// When a file was written, and its length.
type Stamp = (Option<std::time::SystemTime>, u64);

fn fingerprint(source: &Path) -> BTreeMap<String, Stamp> {
    let mut all = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(path) = folders.pop() {
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            folders.extend(entries.map(|e| e.path()).filter(|p| !is_hidden(p)));
        } else {
            all.insert(path.display().to_string(), (meta.modified().ok(), meta.len()));
        }
    }
    all
}

/// A mounted Secret's folders begin with two dots, and its names are links into them.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
