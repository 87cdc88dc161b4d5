//! What each command does, and what it prints. Text for people by default, JSON for programs.

mod offline;
mod online;
mod run;
mod survey;

use std::{io::Write as _, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::{
    args::{Command, DialectArgs, SourceArgs},
    bao::{self, Bao, Pace},
    compile,
    config::{Dialect, Schema, Tree, parse},
    crd::{self, RouterSpec},
    definitions, gather,
    inputs::{Inputs, Object},
    plan::Ledger,
    secret::{self, Seal},
    store::Store,
};

/// Exit code of `plan` with changes to make.
const CHANGES: u8 = 2;

/// Runs a command.
///
/// # Errors
/// What went wrong, with its causes.
pub async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Crds => print(&crd::yaml()?).map(|()| ExitCode::SUCCESS),
        Command::Admission(args) => {
            print(&crd::admission(&args.account, &args.agent)).map(|()| ExitCode::SUCCESS)
        }
        Command::Schema(args) => {
            let schema = definitions::read(&args.tree, args.release.as_str())?;
            print_json(&schema).map(|()| ExitCode::SUCCESS)
        }
        Command::Validate(args) => offline::validate(&args),
        Command::Render(args) => offline::render(&args),
        Command::Plan(args) => match &args.against {
            Some(file) => offline::plan(&args, file),
            None => online::plan(&args).await,
        },
        Command::Apply(args) => online::apply(&args).await,
        Command::Run(args) => run::run(*args).await,
        Command::Replay(args) => offline::replay(&args),
        Command::Import(args) => survey::import(&args).await,
        Command::Doctor(args) => survey::doctor(&args).await,
    }
}

/// The manifests, and the Router that is meant.
struct Chosen {
    inputs: Inputs,
    router: Object<RouterSpec>,
}

impl Chosen {
    fn read(args: &SourceArgs) -> Result<Self> {
        let inputs = gather::folder(&args.source);
        for fault in &inputs.faults {
            tracing::warn!("{fault}");
        }
        let router = choose(&inputs, args)?.clone();
        Ok(Self { inputs, router })
    }

    /// The same with what the objects want of the store of secrets.
    async fn supplied(mut self, bao: Option<&Arc<Bao>>) -> Self {
        if let Some(bao) = bao {
            bao.supply(&mut self.inputs).await;
        }
        self
    }
}

/// The store of secrets, where the command line has one.
fn bao(options: &bao::Options, pace: Pace) -> Result<Option<Arc<Bao>>> {
    Ok(options.clone().settings()?.map(|settings| Arc::new(Bao::new(settings, pace))))
}

fn choose<'a>(inputs: &'a Inputs, args: &SourceArgs) -> Result<&'a Object<RouterSpec>> {
    match (&args.router, inputs.routers.as_slice()) {
        (Some(name), _) => inputs
            .router(name)
            .with_context(|| format!("there is no Router `{name}` in {}", args.source.display())),
        (None, [only]) => Ok(only),
        (None, []) => bail!("there is no Router object in {}", args.source.display()),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|r| r.id.name.as_str()).collect();
            bail!("there are several Routers; choose one with --router: {}", names.join(", "))
        }
    }
}

/// The dialect where no router is asked: the argument, the Router object, or 1.5.
fn offline_dialect(args: &DialectArgs, router: &RouterSpec) -> Dialect {
    args.dialect.or_else(|| compile::fixed_dialect(router)).unwrap_or(Dialect::V1_5)
}

fn full_schema(args: &DialectArgs) -> Result<Option<Schema>> {
    let Some(file) = &args.schema else { return Ok(None) };
    let text = std::fs::read(file).with_context(|| format!("schema {}", file.display()))?;
    Schema::from_json(&text).map(Some).with_context(|| format!("schema {}", file.display()))
}

/// A configuration out of a file: showConfig's JSON, with or without its envelope, or config.boot.
fn configuration(file: &Path) -> Result<Tree> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let tree = match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => {
            parse::json(value.get("data").filter(|_| value.get("success").is_some()).unwrap_or(&value))?
        }
        Err(_) => parse::boot(&text).with_context(|| file.display().to_string())?.tree,
    };
    Ok(secret::masked(tree))
}

/// The ledger of the state folder; without one, what the marks on the router tell. And what opens its secrets.
fn stored_ledger(state: Option<&Path>, router: &str, running: &Tree) -> Result<(Ledger, Option<Seal>)> {
    let Some(folder) = state else { return Ok((Ledger::recover(running), None)) };
    let store = Store::open(folder, router)?;
    let stored = store.read("ledger.json")?.unwrap_or_else(|| Ledger::recover(running));
    Ok((stored, Some(store.seal()?)))
}

fn print(text: &str) -> Result<()> {
    let gap = if text.ends_with('\n') { "" } else { "\n" };
    match write!(std::io::stdout().lock(), "{text}{gap}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}
