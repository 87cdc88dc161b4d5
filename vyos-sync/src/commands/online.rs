//! Commands that ask a router, or change it.

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Chosen, full_schema, offline::print_plan, print, print_json};
use crate::{
    args::{LiveArgs, Output, PlanArgs, RunArgs},
    export::{self, Metrics, OfRouter, Shown, WithReason},
    pacing::Backoff,
    reconcile::{self, Again, Outcome, Recorder, Report, Session},
    status,
    store::Store,
    task,
};

/// A plan against the router. Sends nothing but reads.
pub(super) async fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let chosen = Chosen::read(&args.source)?;
    let temporary = std::env::temp_dir().join(format!("vyos-sync-{}", std::process::id()));
    let state = args.state_dir.as_deref().unwrap_or(&temporary);
    let store = Store::open(state, &chosen.router.id.name)?;
    let schema = full_schema(&args.dialect)?;
    let opened = Session::open(&chosen.router, &chosen.inputs, store, args.dialect.dialect, schema).await;
    let seen = match opened {
        Ok(session) => session.look(&chosen.router, &chosen.inputs).await,
        Err(error) => Err(error),
    };
    if args.state_dir.is_none() {
        std::fs::remove_dir_all(&temporary)?;
    }
    let seen = seen?;
    print_plan(&seen.compiled, &seen.plan, args.output)
}

/// One pass, because a person asks: what failed before is tried again.
pub(super) async fn apply(args: &LiveArgs) -> Result<ExitCode> {
    let chosen = Chosen::read(&args.source)?;
    let mut session = open(args, &chosen).await?;
    let done =
        session.reconcile(&chosen.router, &chosen.inputs, Again::Yes).await.map_err(anyhow::Error::from);
    keep_status(&args.state_dir, &chosen.router.id.name, done.as_ref())?;
    let report = done?;
    print_report(&report, session.sent(), args.output)?;
    Ok(match report.outcome {
        Outcome::InSync | Outcome::Applied(_) | Outcome::Observed => ExitCode::SUCCESS,
        Outcome::Waiting(_) | Outcome::Quarantined(_) | Outcome::Failed(_) => ExitCode::FAILURE,
    })
}

async fn open(args: &LiveArgs, chosen: &Chosen) -> Result<Session> {
    let store = Store::open(&args.state_dir, &chosen.router.id.name)
        .with_context(|| format!("state folder {}", args.state_dir.display()))?;
    let schema = full_schema(&args.dialect)?;
    let session = Session::open(&chosen.router, &chosen.inputs, store, args.dialect.dialect, schema).await?;
    let folder = args.state_dir.join(&chosen.router.id.name).join("recordings");
    Ok(session.recording(Recorder { folder, source: args.source.source.clone() }))
}

fn print_report(report: &Report, sent: (u64, u64), output: Output) -> Result<()> {
    let (requests, commits) = sent;
    let said = report.outcome.to_string();
    match output {
        Output::Text => {
            report.compiled.problems().try_for_each(|p| print(&format!("! {p}")))?;
            print(&reconcile::shown(&report.plan).to_string())?;
            print(&format!("{said} ({requests} requests, {commits} commits)"))
        }
        Output::Json => {
            let problems: Vec<String> = report.compiled.problems().map(ToString::to_string).collect();
            let change = match &report.outcome {
                Outcome::Applied(applied) => Some(applied.record.name.clone()),
                _ => None,
            };
            print_json(&json!({
                "outcome": report.outcome.word(), "message": said, "change": change,
                "requests": requests, "commits": commits,
                "problems": problems, "plan": reconcile::shown(&report.plan),
            }))
        }
    }
}

/// Keeps the conditions where people find them.
fn keep_status(state: &Path, router: &str, pass: Result<&Report, &anyhow::Error>) -> Result<()> {
    let store = Store::open(state, router)?;
    let last = store.read(STATUS)?.unwrap_or_default();
    let pass = match pass {
        Ok(report) => Ok(report),
        Err(error) => match error.downcast_ref::<reconcile::Error>() {
            Some(error) => Err(error),
            None => return Ok(()),
        },
    };
    Ok(store.write(STATUS, &status::statuses(pass, Timestamp::now(), &last))?)
}

/// Where the conditions are in the state folder.
const STATUS: &str = "status.json";

/// How often the manifests are looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// The loop.
pub(super) async fn run(args: RunArgs) -> Result<ExitCode> {
    let stop = task::until_signal()?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let ready = Arc::new(AtomicBool::new(false));
    let shown = Shown { registry: Arc::new(registry), ready: ready.clone() };
    let server = args.listen.map(|address| tokio::spawn(export::serve(address, shown, stop.clone())));
    let result = follow(&args, &metrics, &ready, &stop).await;
    stop.cancel();
    if let Some(server) = server {
        server.await.context("the metrics server died")?.context("the metrics server")?;
    }
    result.map(|()| ExitCode::SUCCESS)
}

async fn follow(
    args: &RunArgs,
    metrics: &Metrics,
    ready: &AtomicBool,
    stop: &CancellationToken,
) -> Result<()> {
    let mut session: Option<Session> = None;
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let before = fingerprint(&args.live.source.source);
        let wait = match pass(args, metrics, &mut session).await {
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
        ready.store(true, Ordering::Release);
        changed_or_time(&args.live.source.source, &before, wait, stop).await;
        if fingerprint(&args.live.source.source) != before {
            // Address, trust and key may be new.
            session = None;
        }
    }
    Ok(())
}

/// One pass with its metrics. `false` when it should be tried again soon.
async fn pass(args: &RunArgs, metrics: &Metrics, session: &mut Option<Session>) -> Result<bool> {
    let chosen = Chosen::read(&args.live.source)?;
    let of = OfRouter { router: chosen.router.id.name.clone() };
    let started = Instant::now();
    let done = one(args, &chosen, session).await;
    keep_status(&args.live.state_dir, &of.router, done.as_ref())?;
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
        matches!(&done, Err(error) if error.downcast_ref::<reconcile::Error>().is_some_and(|e| !e.reached()));
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

async fn one(args: &RunArgs, chosen: &Chosen, session: &mut Option<Session>) -> Result<Report> {
    let session = match session {
        Some(session) => session,
        none => none.insert(open(&args.live, chosen).await?),
    };
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
    if synced {
        metrics.synced_at.get_or_create(of).set(Timestamp::now().as_millisecond() as f64 / 1_000.0);
    }
    let said = report.outcome.to_string();
    match &report.outcome {
        Outcome::InSync => tracing::debug!(router = of.router, "{said}"),
        Outcome::Applied(_) | Outcome::Observed => tracing::info!(router = of.router, "{said}"),
        _ => tracing::warn!(router = of.router, "{said}"),
    }
    report.compiled.problems().for_each(|problem| tracing::warn!(router = of.router, "{problem}"));
    for blocked in &report.plan.blocked {
        tracing::warn!(router = of.router, path = %blocked.path, reason = ?blocked.reason, "{}", blocked.text);
    }
}

/// Waits for the time to pass, for the manifests to change, or for the end.
async fn changed_or_time(
    source: &Path,
    before: &BTreeMap<String, Stamp>,
    wait: Duration,
    stop: &CancellationToken,
) {
    let until = tokio::time::Instant::now() + wait;
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
