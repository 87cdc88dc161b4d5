//! Commands that ask no router.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{CHANGES, Chosen, configuration, full_schema, offline_dialect, print, print_json, stored_ledger};
use crate::{
    args::{Form, Output, PlanArgs, RenderArgs, ReplayArgs, ValidateArgs},
    compile::{self, Compiled, Known},
    config::{Schema, Tree, print as forms},
    gather,
    intent::Effect,
    plan::{Ledger, Limits, Plan},
    reconcile, recording, secret,
};

/// Intent, then every rendered path and value against our model, and against a full schema where one is given.
pub(super) fn validate(args: &ValidateArgs) -> Result<ExitCode> {
    let chosen = Chosen::read(&args.source)?;
    let dialect = offline_dialect(&args.dialect, &chosen.router.spec);
    let ledger = Ledger::default();
    let compiled = compile::compile(&chosen.inputs, &chosen.router, dialect, &Tree::new(), &ledger);
    let mut found: Vec<serde_json::Value> = Vec::new();
    let faults = chosen.inputs.faults.iter().map(|f| ("error", f.to_string()));
    let way =
        reconcile::judge(&chosen.router).err().map(|e| ("error", format!("{:#}", anyhow::Error::from(e))));
    let problems = compiled.problems().map(|p| (severity(p.effect), p.to_string()));
    let model = Schema::built_in(dialect);
    let full = full_schema(&args.dialect)?;
    let schemas = [("model", Some(model)), ("schema file", full.as_ref())];
    let desired = compiled.rendered.desired.tree();
    let refused = schemas.into_iter().filter_map(|(name, s)| Some((name, s?))).flat_map(|(name, s)| {
        let covered = s.validate(desired).into_iter().filter(move |e| name != "model" || s.covers(e.path()));
        covered.map(move |e| ("error", format!("{name}: {e}")))
    });
    let mut errors = 0;
    for (severity, text) in faults.chain(way).chain(problems).chain(refused) {
        errors += usize::from(severity == "error");
        match args.output {
            Output::Text => print(&format!("{severity}: {text}"))?,
            Output::Json => found.push(json!({"severity": severity, "message": text})),
        }
    }
    let summary = format!("VyOS {dialect}: {} statements rendered, {errors} errors", desired.weight());
    match args.output {
        Output::Text => print(&summary)?,
        Output::Json => print_json(&json!({"summary": summary, "errors": errors, "found": found}))?,
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn severity(effect: Effect) -> &'static str {
    match effect {
        Effect::Refused => "error",
        Effect::Noted => "note",
    }
}

/// A plan against a file.
pub(super) fn plan(args: &PlanArgs, file: &Path) -> Result<ExitCode> {
    let Chosen { inputs, router } = Chosen::read(&args.source)?;
    let dialect = offline_dialect(&args.dialect, &router.spec);
    let running = configuration(file)?;
    let (ledger, seal) = stored_ledger(args.state_dir.as_deref(), &router.id.name, &running)?;
    let schema = full_schema(&args.dialect)?.unwrap_or_else(|| Schema::built_in(dialect).clone());
    let compiled = compile::compile(&inputs, &router, dialect, &running, &ledger);
    // Each stage of a large plan is as large as the one before, which nobody needs any more.
    drop(inputs);
    let ledger = match seal {
        Some(seal) => ledger.opened(&seal, &[&running, compiled.rendered.desired.tree()]),
        None => ledger,
    };
    let known =
        Known { running: &running, ledger: &ledger, dialect, schema: &schema, limits: Limits::default() };
    let plan = compile::plan(&compiled, &router.spec, known);
    let problems = texts(&compiled);
    drop((compiled, running, ledger));
    print_plan(&problems, plan, args.output)
}

/// All that is wrong.
pub(super) fn texts(compiled: &Compiled) -> Vec<String> {
    compiled.problems().map(ToString::to_string).collect()
}

/// Prints a plan without its secrets, and gives `plan`'s exit code.
pub(super) fn print_plan(problems: &[String], plan: Plan, output: Output) -> Result<ExitCode> {
    let shown = plan.shown();
    match output {
        Output::Text => {
            problems.iter().try_for_each(|p| print(&format!("! {p}")))?;
            print(&shown.to_string())?;
        }
        Output::Json => print_json(&json!({"plan": shown, "problems": problems}))?,
    }
    Ok(if shown.commands.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

/// Our part of the configuration, for a template of somebody's own.
pub(super) fn render(args: &RenderArgs) -> Result<ExitCode> {
    let chosen = Chosen::read(&args.source)?;
    let dialect = offline_dialect(&args.dialect, &chosen.router.spec);
    let running = Tree::new();
    let (ledger, _) = stored_ledger(args.state_dir.as_deref(), &chosen.router.id.name, &running)?;
    let compiled = compile::compile(&chosen.inputs, &chosen.router, dialect, &running, &ledger);
    compiled.problems().for_each(|problem| tracing::warn!("{problem}"));
    let desired = compiled.rendered.desired.tree();
    let tree = if args.with_secrets { desired.clone() } else { secret::hidden(desired) };
    match args.form {
        Form::Set => print(&forms::commands(&tree))?,
        Form::Block => print(&forms::block(&tree, Schema::built_in(dialect)))?,
        Form::Json => print_json(&forms::json(&tree))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Plans a recorded pass again. Exit code 0: the same plan as then, 2: another one.
pub(super) fn replay(args: &ReplayArgs) -> Result<ExitCode> {
    let (manifests, state) = recording::open(&args.recording)?;
    let inputs = gather::folder(&manifests);
    let router =
        inputs.router(&state.router).with_context(|| format!("Router `{}` is not in it", state.router))?;
    let schema = Schema::built_in(state.dialect);
    let compiled = compile::compile(&inputs, router, state.dialect, &state.running, &state.ledger);
    let (running, ledger) = (&state.running, &state.ledger);
    let known = Known { running, ledger, dialect: state.dialect, schema, limits: Limits::default() };
    let plan = compile::plan(&compiled, &router.spec, known);
    let now: Vec<String> = plan.commands.iter().map(|c| secret::redacted(c).to_string()).collect();
    print_plan(&texts(&compiled), plan, args.output)?;
    let same = now == state.commands;
    tracing::info!(same, "compared with the recorded plan");
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}
