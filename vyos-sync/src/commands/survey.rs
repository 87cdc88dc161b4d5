//! Commands that look and tell: import and doctor.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Chosen, configuration, full_schema, offline_dialect, print, print_json};
use crate::{
    args::{DoctorArgs, ImportArgs, Output, SourceArgs},
    compile::{self, Known},
    config::{Schema, Tree},
    doctor, gather,
    import::{self, Coverage},
    inputs::{Collector, Look, Sighting},
    plan::{Ledger, Limits},
    reconcile::Session,
    store::Store,
};

/// Our kinds for what a router has, on stdout; the report on stderr, or both as JSON.
pub(super) async fn import(args: &ImportArgs) -> Result<ExitCode> {
    let chosen = match &args.source {
        Some(source) => {
            Some(Chosen::read(&SourceArgs { source: source.clone(), router: args.router.clone() })?)
        }
        None => None,
    };
    let named = args.router.clone().or_else(|| chosen.as_ref().map(|c| c.router.id.name.clone()));
    let name = named.unwrap_or_else(|| "router".to_owned());
    let tree = match (&args.against, &chosen) {
        (Some(file), _) => configuration(file)?,
        (None, Some(chosen)) => running(chosen).await?,
        (None, None) => anyhow::bail!("give --source with a Router object, or --against with a file"),
    };
    let nothing = Collector::default().finish();
    let known = chosen.as_ref().map_or(&nothing, |chosen| &chosen.inputs);
    let imported = import::import(&tree, &name, &args.namespace, known);
    match args.output {
        Output::Json => print_json(&json!({
            "objects": imported.objects, "coverage": imported.coverage, "notes": imported.notes,
        }))?,
        Output::Text => {
            for object in &imported.objects {
                print(&format!("---\n{}", serde_saphyr::to_string(object)?))?;
            }
            // As YAML comments, so that the whole output stays a manifest.
            imported.notes.iter().try_for_each(|note| print(&format!("# note: {note}")))?;
            imported.coverage.iter().try_for_each(|c| print(&line(c)))?;
            let (covered, all) =
                imported.coverage.iter().fold((0, 0), |(c, a), part| (c + part.covered, a + part.all));
            print(&format!(
                "# in all: {covered} of {all} statements covered; the paths that are left: -o json"
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How many uncovered paths of each part are shown to people.
const SHOWN: usize = 5;

fn line(coverage: &Coverage) -> String {
    let left = match coverage.left.is_empty() {
        true => String::new(),
        false => {
            let shown: Vec<&str> = coverage.left.iter().take(SHOWN).map(String::as_str).collect();
            let more = match coverage.left.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("; left: {}{more}", shown.join(", "))
        }
    };
    format!("# {}: {} of {} statements covered{left}", coverage.part, coverage.covered, coverage.all)
}

/// Reads the router's configuration.
async fn running(chosen: &Chosen) -> Result<Tree> {
    asked(chosen, async |session| Ok(session.running().await?)).await
}

/// Reads the router's configuration, and where it sees machines if there is hardware.
async fn running_and_seen(chosen: &Chosen) -> Result<(Tree, Option<Look<Sighting>>)> {
    let ask = async |session: &Session| {
        let seen = match chosen.inputs.hardware.is_empty() {
            true => None,
            false => Some(session.sightings().await),
        };
        Ok((session.running().await?, seen))
    };
    asked(chosen, ask).await
}

/// Asks the router with a state folder that is thrown away.
async fn asked<T>(chosen: &Chosen, ask: impl AsyncFnOnce(&Session) -> Result<T>) -> Result<T> {
    let folder = std::env::temp_dir().join(format!("vyos-sync-{}", std::process::id()));
    let said = match open(chosen, &folder).await {
        Ok(session) => ask(&session).await,
        Err(error) => Err(error),
    };
    std::fs::remove_dir_all(&folder)?;
    said
}

async fn open(chosen: &Chosen, folder: &Path) -> Result<Session> {
    let store = Store::open(folder, &chosen.router.id.name)?;
    // The dialect does not matter for reading.
    let dialect = Some(crate::config::Dialect::V1_5);
    Ok(Session::open(&chosen.router, &chosen.inputs, store, dialect, None).await?)
}

/// Exit code 0: nothing found, 1: contradictions.
pub(super) async fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let mut chosen = Chosen::read(&args.source)?;
    let dialect = offline_dialect(&args.dialect, &chosen.router.spec);
    let read = match &args.against {
        Some(file) => configuration(file).map(|tree| (tree, None)).map_err(|e| e.to_string()),
        None => running_and_seen(&chosen).await.map_err(|e| format!("{e:#}")),
    };
    let (tree, unread) = match read {
        Ok((tree, seen)) => {
            chosen.inputs.sightings = seen;
            (tree, None)
        }
        Err(why) => (Tree::new(), Some(why)),
    };
    if let Some(Err(why)) = &chosen.inputs.sightings {
        tracing::warn!("machines in the wrong VLAN are not looked for: {why}");
    }
    let ledger = Ledger::recover(&tree);
    let model = Schema::built_in(dialect);
    let full = full_schema(&args.dialect)?;
    let compiled = compile::compile(&chosen.inputs, &chosen.router, dialect, &tree, &ledger);
    let mut found = doctor::objects(&chosen.inputs, &chosen.router, &compiled);
    if let Some(folder) = &args.documents {
        let (documents, unreadable) =
            gather::documents(folder).with_context(|| format!("documents {}", folder.display()))?;
        found.extend(
            unreadable.into_iter().map(|what| doctor::Contradiction { place: "documents".to_owned(), what }),
        );
        let against = doctor::Against {
            inputs: &chosen.inputs,
            router: &chosen.router,
            desired: compiled.rendered.desired.tree(),
            running: unread.is_none().then_some(&tree),
        };
        let (contradictions, claims) = doctor::documents(&documents, against);
        tracing::info!(documents = documents.len(), claims, "documents of intent are read");
        found.extend(contradictions);
    }
    match unread {
        Some(why) => found.push(doctor::Contradiction { place: "the router".to_owned(), what: why }),
        None => {
            let schema = full.as_ref().unwrap_or(model);
            let known = Known { running: &tree, ledger: &ledger, dialect, schema, limits: Limits::default() };
            let plan = compile::plan(&compiled, &chosen.router.spec, known);
            found.extend(doctor::router(&tree, compiled.rendered.desired.tree(), &plan, &[schema]));
        }
    }
    match args.output {
        Output::Json => print_json(&found)?,
        Output::Text if found.is_empty() => print("no contradictions found")?,
        Output::Text => found.iter().try_for_each(|c| print(&format!("{}: {}", c.place, c.what)))?,
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
