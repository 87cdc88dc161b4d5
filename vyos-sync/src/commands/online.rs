//! Commands that ask a router, or change it, once.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::{Chosen, bao, full_schema, offline::print_plan, offline::texts, print, print_json};
use crate::{
    args::{LiveArgs, Output, PlanArgs},
    bao::Pace,
    pass::{self, Again, Outcome, Report},
    reconcile::{Recorder, Session},
    status,
    store::Store,
};

/// A plan against the router. Sends nothing but reads.
pub(super) async fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let chosen = Chosen::read(&args.source)?.supplied(bao(&args.bao, Pace::default())?.as_ref()).await;
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
    print_plan(&texts(&seen.compiled), seen.plan, args.output)
}

/// One pass, because a person asks: what failed before is tried again.
pub(super) async fn apply(args: &LiveArgs) -> Result<ExitCode> {
    let chosen = Chosen::read(&args.source)?.supplied(bao(&args.bao, Pace::default())?.as_ref()).await;
    let done = once(args, &chosen).await;
    // What stands in the way of even asking is said on the Router too.
    keep_status(&args.state_dir, &chosen, done.as_ref().map(|(report, _)| report))?;
    let (report, sent) = done?;
    print_report(&report, sent, args.output)?;
    Ok(match report.outcome {
        Outcome::InSync | Outcome::Applied(_) | Outcome::Observed => ExitCode::SUCCESS,
        Outcome::Waiting(_) | Outcome::Quarantined(_) | Outcome::Failed(_) => ExitCode::FAILURE,
    })
}

async fn once(args: &LiveArgs, chosen: &Chosen) -> Result<(Report, (u64, u64))> {
    let mut session = open(args, chosen).await?;
    let report = session.reconcile(&chosen.router, &chosen.inputs, Again::Yes).await?;
    Ok((report, session.sent()))
}

pub(super) async fn open(args: &LiveArgs, chosen: &Chosen) -> Result<Session> {
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
            print(&report.plan.clone().shown().to_string())?;
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
                "problems": problems, "plan": report.plan.clone().shown(),
            }))
        }
    }
}

/// Keeps the conditions where people find them.
pub(super) fn keep_status(
    state: &Path,
    chosen: &Chosen,
    pass: Result<&Report, &anyhow::Error>,
) -> Result<()> {
    let router = &chosen.router.id.name;
    let store = Store::open(state, router)?;
    let last = store.read(STATUS)?.unwrap_or_default();
    let pass = match pass {
        Ok(report) => Ok(report),
        Err(error) => match error.downcast_ref::<pass::Error>() {
            Some(error) => Err(error),
            None => return Ok(()),
        },
    };
    Ok(store.write(
        STATUS,
        &status::statuses(pass, chosen.inputs.store.state.as_ref(), Timestamp::now(), &last),
    )?)
}

/// Where the conditions are in the state folder.
const STATUS: &str = "status.json";
