//! What passes cost in requests and commits, as the stand-in router counts them; and the same work done a resource at a
//! time, as tools do it that keep no plan: is it there, set it, save.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vyos_router::{Generation, Router};
use vyos_sync::compile::{self, Known};
use vyos_sync::config::{Command, ConfigPath, Dialect, Schema, Tree};
use vyos_sync::gather;
use vyos_sync::plan::{Ledger, Limits};
use vyos_sync::reconcile::{self, Again, Outcome, Session};
use vyos_sync::store::Store;
use vyos_sync::vyos::{Client, Redactor, Timing};

use crate::plan::write;
use crate::platform;
use crate::stats::judge;

/// The part of the platform that is really built a resource at a time.
const ONE_IN: usize = 50;

pub(crate) fn measure() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let resources = passes().await?;
        one_at_a_time(resources).await
    })
}

/// A stand-in router, the manifests for it, and our state.
struct Lab {
    router: Router,
    folder: tempfile::TempDir,
}

impl Lab {
    async fn new(one_in: usize) -> Result<Self> {
        let router = Router::builder().generation(Generation::G1).key("bench-key").poison(Duration::ZERO);
        let (router, folder) = (router.spawn().await?, tempfile::tempdir()?);
        let lab = Self { router, folder };
        write(&lab.source(), one_in)?;
        fs::write(lab.folder.path().join("key"), "bench-key")?;
        let spec = json!({
            "endpoints": [lab.router.url()],
            "tls": {"spkiPins": [lab.router.spki_pin()]},
            "apiKey": {"file": lab.folder.path().join("key")},
        });
        fs::write(lab.source().join("router.yaml"), platform::router(&spec).to_string())?;
        Ok(lab)
    }

    fn source(&self) -> std::path::PathBuf {
        self.folder.path().join("source")
    }

    /// One pass: its outcome, requests, commits and seconds.
    async fn pass(&self, session: &mut Session) -> Result<(Outcome, usize, u32, f64)> {
        let (requests, commits) = (self.router.journal().len(), self.router.commits());
        let started = Instant::now();
        let inputs = gather::folder(&self.source());
        let router = inputs.router("gateway").context("no Router")?;
        let report = session.reconcile(router, &inputs, Again::No).await?;
        let (requests, commits) = (self.router.journal().len() - requests, self.router.commits() - commits);
        Ok((report.outcome, requests, commits, started.elapsed().as_secs_f64()))
    }
}

/// From nothing to the whole platform, then nothing to do, then one peer. Gives the number of resources.
async fn passes() -> Result<usize> {
    let lab = Lab::new(1).await?;
    let inputs = gather::folder(&lab.source());
    let router = inputs.router("gateway").context("no Router")?;
    let store = Store::open(&lab.folder.path().join("state"), "gateway")?;
    let mut session = Session::open(router, &inputs, store, None, None).await?;
    let resources = resources(&lab.source(), &lab.router.running())?.len();
    let (outcome, requests, commits, seconds) = lab.pass(&mut session).await?;
    ensure!(matches!(outcome, Outcome::Applied(_)), "the platform is not built: {outcome}");
    println!(
        "  the whole platform, {resources} resources: {requests} requests, {commits} commits, {seconds:.1} s on the stand-in"
    );

    let (outcome, requests, commits, seconds) = lab.pass(&mut session).await?;
    ensure!(matches!(outcome, Outcome::InSync), "there is something to do: {outcome}");
    println!("  a pass with nothing to do: {seconds:.2} s");
    judge("its requests", requests as f64, 1.0, "requests");
    judge("its commits", f64::from(commits), 0.0, "commits");

    add_peer(&lab.source())?;
    let (outcome, requests, commits, seconds) = lab.pass(&mut session).await?;
    ensure!(matches!(outcome, Outcome::Applied(_)), "the peer is not added: {outcome}");
    println!("  a pass that adds one peer: {seconds:.2} s");
    judge("its requests", requests as f64, 5.0, "requests");
    judge("its commits", f64::from(commits), 1.0, "commits");
    lab.router.stop().await;
    Ok(resources)
}

fn add_peer(source: &Path) -> Result<()> {
    let peer = platform::node(0, platform::PEERS / platform::CLUSTERS);
    Ok(fs::write(source.join("clusters/cluster-0/more.yaml"), serde_saphyr::to_string(&peer)?)?)
}

/// The commands that build the platform on this router, by resource: what one object claims in one place.
fn resources(source: &Path, running: &Tree) -> Result<Vec<(ConfigPath, Vec<Command>)>> {
    let inputs = gather::folder(source);
    let router = inputs.router("gateway").context("no Router")?;
    let (dialect, ledger) = (Dialect::V1_5, Ledger::default());
    let compiled = compile::compile(&inputs, router, dialect, running, &ledger);
    let known = Known {
        running,
        ledger: &ledger,
        dialect,
        schema: Schema::built_in(dialect),
        limits: Limits::default(),
    };
    let plan = compile::plan(&compiled, &router.spec, known);
    let desired = &compiled.rendered.desired;
    let mut order = Vec::new();
    let mut commands: BTreeMap<ConfigPath, Vec<Command>> = BTreeMap::new();
    for command in plan.commands {
        let claim = desired.claim_above(command.path()).map_or(command.path(), |(path, _)| path).clone();
        if !commands.contains_key(&claim) {
            order.push(claim.clone());
        }
        commands.entry(claim).or_default().push(command);
    }
    Ok(order.into_iter().filter_map(|path| commands.remove_entry(&path)).collect())
}

async fn one_at_a_time(of_all: usize) -> Result<()> {
    let lab = Lab::new(ONE_IN).await?;
    let inputs = gather::folder(&lab.source());
    let router = inputs.router("gateway").context("no Router")?;
    let endpoint = reconcile::endpoints(router, &inputs)?.into_iter().next().context("no endpoint")?;
    let client = Client::new(endpoint, Timing::default())?;
    let resources = resources(&lab.source(), &lab.router.running())?;
    for (path, commands) in &resources {
        client.show_config(path).await?;
        client.configure(commands, &Redactor::default()).await.with_context(|| path.to_string())?;
        client.save().await?;
    }
    let (requests, commits) = (lab.router.journal().len(), lab.router.commits());
    println!(
        "  a resource at a time, one object in {ONE_IN} really done: {} resources, {requests} requests, {commits} commits",
        resources.len()
    );
    let times = |n: usize| n * of_all / resources.len();
    println!(
        "  so all of it would be {} requests and {} commits (computed: {of_all} resources at the same price)",
        times(requests),
        times(commits as usize)
    );
    lab.router.stop().await;
    Ok(())
}
