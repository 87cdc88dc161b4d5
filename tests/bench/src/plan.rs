//! vyos-sync at its target size: the time and memory of a full plan, and what passes cost in requests.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vyos_sync::compile::{self, Known};
use vyos_sync::config::{Dialect, Schema, Tree, print};
use vyos_sync::gather;
use vyos_sync::inputs::Inputs;
use vyos_sync::plan::{Ledger, Limits, sample};

use crate::Effort;
use crate::footprint::memory;
use crate::platform::{groups, router};
use crate::requests;
use crate::stats::{Rounds, cpu_nanos, judge};

const LABELS: [&str; 4] =
    ["manifests read", "manifests read again (A/A)", "intent, rendered, planned", "all of a full plan"];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source");
    write(&source, 1)?;
    fs::write(source.join("router.yaml"), serde_saphyr::to_string(&router(&json!({})))?)?;
    let running = sample::base()?;
    time(effort, &source, &running)?;
    child(&source, &running, folder.path())?;
    requests::measure()
}

/// The platform as YAML files, one object in so many.
pub(crate) fn write(source: &Path, one_in: usize) -> Result<()> {
    for (cluster, name, objects) in groups(one_in) {
        let folder =
            cluster.map_or_else(|| source.to_owned(), |cluster| source.join("clusters").join(cluster));
        fs::create_dir_all(&folder)?;
        let documents: Result<Vec<String>, _> = objects.iter().map(serde_saphyr::to_string).collect();
        fs::write(folder.join(name + ".yaml"), documents?.join("---\n"))?;
    }
    Ok(())
}

fn time(effort: Effort, source: &Path, running: &Tree) -> Result<()> {
    let inputs = gather::folder(source);
    ensure!(inputs.faults.is_empty(), "the manifests are not read: {:?}", inputs.faults);
    let rounds = Rounds::run(&LABELS, effort.rounds.min(11), |n| {
        let before = cpu_nanos();
        let commands = match n {
            0 | 1 => gather::folder(source).networks.len(),
            2 => full(&inputs, running)?,
            _ => full(&gather::folder(source), running)?,
        };
        let spent = cpu_nanos() - before;
        ensure!(commands >= 1_000 && (n < 2 || commands > 38_000), "{}: only {commands}", LABELS[n]);
        Ok(spent / 1e6)
    })?;
    rounds.print("ms       ");
    rounds.ratio(1, 0).judge_same();
    judge("a full plan, from manifests to commands", rounds.median(3), 1_000.0, "ms");
    Ok(())
}

/// The number of commands of a full plan.
fn full(inputs: &Inputs, running: &Tree) -> Result<usize> {
    let router = inputs.router("gateway").context("no Router")?;
    let (dialect, ledger) = (Dialect::V1_5, Ledger::default());
    let compiled = compile::compile(inputs, router, dialect, running, &ledger);
    let schema = Schema::built_in(dialect);
    let known = Known { running, ledger: &ledger, dialect, schema, limits: Limits::default() };
    let plan = compile::plan(&compiled, &router.spec, known);
    ensure!(plan.blocked.is_empty(), "{:?}", plan.blocked.first());
    Ok(plan.commands.len())
}

/// The program itself: its whole text is made when its first octet comes, and its memory is looked at then.
fn child(source: &Path, running: &Tree, folder: &Path) -> Result<()> {
    let (config, program) =
        (folder.join("config.json"), std::env::current_exe()?.with_file_name("vyos-sync"));
    fs::write(&config, print::json(running).to_string())?;
    let started = Instant::now();
    let mut child = Command::new(&program)
        .args(["plan", "--source"])
        .arg(source)
        .arg("--against")
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut output = child.stdout.take().context("no output")?;
    output.read_exact(&mut [0])?;
    let (seconds, megabytes) = (started.elapsed().as_secs_f64(), memory(child.id(), "VmHWM")?);
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    ensure!(child.wait()?.code() == Some(2), "`vyos-sync plan` found no changes to make");
    println!(
        "  `vyos-sync plan` as a process: first output after {seconds:.2} s, {} lines",
        rest.lines().count()
    );
    judge("its highest resident memory", megabytes * 1e6 / f64::from(1 << 20), 200.0, "MiB");
    Ok(())
}
