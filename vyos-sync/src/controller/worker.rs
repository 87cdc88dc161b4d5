//! One Router: prepare, pass, report, drain; again when something changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::EventType;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shared, peers};
use crate::crd::{Mode, RouterSpec};
use crate::inputs::{Inputs, Object, ObjectId, Snapshot};
use crate::intent::{self, Problem};
use crate::mirror::InCluster;
use crate::pacing::Backoff;
use crate::pass::{Again, Error, Outcome, Report};
use crate::reconcile::{Session, print};
use crate::report::{self, Wanted};
use crate::routing::{Drains, Evidence, Gate, Limits, Paths, Verdict};
use crate::store::Store;

/// After a commit the next one waits so long: many changes make few commits.
const BREATH: Duration = Duration::from_secs(5);
/// After a pass that sent nothing: a router's API is slow, and serves others too.
const GLANCE: Duration = Duration::from_secs(1);
/// While a drain is under way the router is looked at so often.
const DRAIN_LOOK: Duration = Duration::from_secs(2);
/// Where the gate's memory is kept.
const GATE: &str = "health.json";

/// Works until it is stopped or its Router is gone.
pub(super) async fn work(
    shared: Arc<Shared>,
    name: String,
    mut shots: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
) {
    let drains = Arc::new(Mutex::new(Drains::of(&name)));
    let clock = tokio::spawn(time_box(shared.clone(), name.clone(), shots.clone(), drains.clone()));
    let _clock = AbortOnDrop(clock);
    let mut worker = Worker {
        shared,
        name,
        session: None,
        store: None,
        gate: Gate::default(),
        drains,
        evidence: Evidence::default(),
        backoff: Backoff::default(),
        verdict: Verdict::default(),
        misplaced: Vec::new(),
    };
    while !stop.is_cancelled() {
        let shot = shots.borrow_and_update().clone();
        let Some(router) = shot.inputs.router(&worker.name).cloned() else { return };
        let (wait, rest) = worker.turn(&shot, &router).await;
        let from = tokio::time::Instant::now();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = shots.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(from + rest) => {}
                    () = stop.cancelled() => {}
                }
            }
            () = stop.cancelled() => {}
        }
    }
}

/// Lets hooks go when their time is over, also while a pass waits for a router that does not answer.
async fn time_box(
    shared: Arc<Shared>,
    name: String,
    shots: watch::Receiver<Arc<Snapshot>>,
    drains: Arc<Mutex<Drains>>,
) {
    loop {
        tokio::time::sleep(DRAIN_LOOK).await;
        let shot = shots.borrow().clone();
        let drain = shot.inputs.router(&name).and_then(|router| router.spec.machine_drain);
        let Some(drain) = drain.filter(|_| shared.leadership.holds()) else { continue };
        let limit = SignedDuration::from_secs(drain.timeout_seconds.into());
        let since = |id: &ObjectId| shot.metas.get(id).and_then(|meta| meta.deleted_at);
        let overdue = {
            let mut drains = drains.lock().unwrap_or_else(PoisonError::into_inner);
            drains.overdue(&shot.inputs, limit, since, Timestamp::now())
        };
        shared.reporter.release(&name, &overdue, &shot).await;
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Worker {
    shared: Arc<Shared>,
    name: String,
    session: Option<Session>,
    store: Option<Store>,
    gate: Gate,
    drains: Arc<Mutex<Drains>>,
    evidence: Evidence,
    backoff: Backoff,
    verdict: Verdict,
    /// Who was seen in the wrong VLAN last.
    misplaced: Vec<Problem>,
}

impl Worker {
    /// One turn. Gives how long to wait at most, and how long at least.
    async fn turn(&mut self, shot: &Snapshot, router: &Object<RouterSpec>) -> (Duration, Duration) {
        let started = Instant::now();
        let now = Timestamp::now();
        let mut inputs = self.prepare(shot, router, now);
        if let Some(bao) = &self.shared.options.bao {
            bao.supply(&mut inputs).await;
        }
        let done = self.pass(router, &mut inputs).await;
        let shared = self.shared.clone();
        shared.metrics.tell_pass(&self.name, done.as_ref(), started.elapsed());
        if let Some(session) = &mut self.session {
            shared.metrics.count_sent(&self.name, session.sent_since());
        }
        if !shared.leadership.holds() {
            return (DRAIN_LOOK, GLANCE);
        }
        self.report(shot, router, &inputs, done.as_ref(), now).await;
        self.name_misplaced(shot, done.as_ref()).await;
        let waits = self.drain(shot, router, &inputs, done.as_ref(), now).await;
        let wait = match &done {
            Ok(report) if !matches!(report.outcome, Outcome::Failed(_)) => {
                self.backoff.recovered();
                self.next(shared.options.period, waits, now)
            }
            failed => {
                if let Err(error) = failed {
                    tracing::warn!(router = self.name, error = chain(error), "no pass");
                    // A rebooted or re-imaged router may run another release.
                    if !router.deleting {
                        self.session = None;
                    }
                }
                self.backoff.failed(now);
                self.backoff.wait(now).min(shared.options.period)
            }
        };
        let commits = matches!(&done, Ok(report) if matches!(report.outcome, Outcome::Applied(_)));
        (wait, if commits { BREATH } else { GLANCE })
    }

    fn next(&self, period: Duration, drains: bool, now: Timestamp) -> Duration {
        let health = self
            .verdict
            .again
            .map(|at| at.duration_since(now))
            .map(|left| if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() });
        let drain = drains.then_some(DRAIN_LOOK);
        [health, drain].into_iter().flatten().fold(period, Duration::min).max(Duration::from_millis(200))
    }

    /// What the pass works on: without the objects that are being deleted, unless a machine is still on them, and with who
    /// is drained.
    fn prepare(&mut self, shot: &Snapshot, router: &Object<RouterSpec>, now: Timestamp) -> Inputs {
        let mut inputs = shot.inputs.clone();
        let lingering = intent::lingering(&shot.inputs);
        inputs.networks.retain(|each| !each.deleting || lingering.contains_key(&each.id));
        inputs.peerings.retain(|each| !each.deleting);
        inputs.publications.retain(|each| !each.deleting);
        inputs.configs.retain(|each| !each.deleting);
        if router.deleting {
            // What it has of others' objects goes with it; what others hold back stays held back.
            let nothing = Inputs {
                completeness: inputs.completeness,
                faults: inputs.faults,
                routers: vec![given_up(router)],
                secrets: inputs.secrets,
                ..Inputs::default()
            };
            return nothing;
        }
        if router.spec.machine_drain.is_some() {
            let mut drains = self.drains.lock().unwrap_or_else(PoisonError::into_inner);
            drains.spare_last_paths(&inputs, &self.evidence);
            inputs.routing = drains.wanted(&inputs, now);
        }
        if let Some(health) = router.spec.health {
            let limits = Limits {
                percent: health.max_drained_percent,
                bad_for: SignedDuration::from_secs(health.unhealthy_seconds.into()),
                good_for: SignedDuration::from_secs(health.healthy_seconds.into()),
            };
            let taken: BTreeSet<_> = inputs.routing.keys().cloned().collect();
            let before = self.gate.clone();
            self.verdict = self.gate.judge(&inputs.node_words, &peers::nodes(&inputs), &taken, limits, now);
            if self.gate != before {
                self.keep_gate();
            }
            for node in self.verdict.drained.keys() {
                inputs.routing.entry(node.clone()).or_insert(crate::inputs::NodeRouting::Drained);
            }
        }
        inputs
    }

    fn keep_gate(&self) {
        if let Some(store) = &self.store
            && let Err(error) = store.write(GATE, &self.gate)
        {
            tracing::warn!(router = self.name, %error, "who is drained is not kept");
        }
    }

    async fn pass(&mut self, router: &Object<RouterSpec>, inputs: &mut Inputs) -> Result<Report, Error> {
        let router = if router.deleting { &given_up(router) } else { router };
        self.open(router, inputs).await?;
        let Some(session) = &mut self.session else {
            return Err(Error::State(std::io::Error::other("no session")));
        };
        session.sight(inputs, self.shared.options.period).await;
        session.reconcile(router, inputs, Again::No).await
    }

    /// Opens the session, and opens it anew when address, trust or key changed.
    async fn open(&mut self, router: &Object<RouterSpec>, inputs: &Inputs) -> Result<(), Error> {
        let store = self.state().await?;
        if let Some(session) = &self.session {
            // The key of a router that is given up may be gone already; the one that we have still serves.
            if session.opened_with() == print(&router.spec, inputs) || router.deleting {
                return Ok(());
            }
        }
        let options = &self.shared.options;
        let session = Session::open(router, inputs, store, options.dialect, options.schema.clone()).await?;
        self.session = Some(session);
        Ok(())
    }

    /// The state as the last leader left it, read once.
    async fn state(&mut self) -> Result<Store, Error> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let shared = &self.shared;
        let uid = shared.uid_of(&self.name).await.map_err(std::io::Error::other)?;
        let opened = InCluster::open(
            shared.client.clone(),
            &shared.namespace,
            (&self.name, &uid),
            &shared.options.state_dir,
            Box::new({
                let leadership = shared.leadership.clone();
                move || leadership.holds()
            }),
        );
        let store = opened.await?;
        self.gate = store.read(GATE)?.unwrap_or_default();
        Ok(self.store.insert(store).clone())
    }

    async fn report(
        &self,
        shot: &Snapshot,
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        pass: Result<&Report, &Error>,
        now: Timestamp,
    ) {
        let reporter = &self.shared.reporter;
        let plan = pass.ok().filter(|report| matches!(report.outcome, Outcome::InSync | Outcome::Applied(_)));
        let farewells =
            report::farewells(&router.id, router.spec.mode, plan.map(|report| &report.plan), shot, now);
        let (set, let_go): (Vec<_>, Vec<_>) =
            farewells.into_iter().partition(|each| matches!(each, report::Farewell::Set(_)));
        // Ready is said of an object that cannot go any more without what it has on the router.
        reporter.bid(&set, shot).await;
        reporter.write(report::say(&router.id, pass, shot, inputs, now), &shot.metas).await;
        reporter.bid(&let_go, shot).await;
    }

    /// An event on each Hardware that is newly seen in the wrong VLAN. The Router's condition names them all along.
    async fn name_misplaced(&mut self, shot: &Snapshot, pass: Result<&Report, &Error>) {
        let Some(Ok(found)) = pass.ok().and_then(|report| report.compiled.intent.misplaced.as_ref()) else {
            return;
        };
        for problem in found.iter().filter(|problem| !self.misplaced.contains(problem)) {
            tracing::warn!(router = self.name, "{problem}");
            let Some(meta) = shot.metas.get(&problem.object).filter(|_| problem.object.cluster.is_local())
            else {
                continue;
            };
            let note = format!("{}; {}", problem.what, problem.way_out);
            let reporter = &self.shared.reporter;
            reporter.event(&problem.object, &meta.uid, EventType::Warning, "WrongVlan", &note).await;
        }
        self.misplaced.clone_from(found);
    }

    /// Hooks of Machines: set early, let go when their purpose is reached. Says whether one is waited for.
    async fn drain(
        &mut self,
        shot: &Snapshot,
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        pass: Result<&Report, &Error>,
        now: Timestamp,
    ) -> bool {
        let bgp = pass.ok().and_then(|report| report.compiled.intent.bgp.as_ref());
        if bgp.is_some() {
            self.evidence.peers = peers::addresses(bgp, inputs);
        }
        let ours = |machine: &&Object<crate::inputs::CapiMachine>| {
            inputs.node_of(machine).is_some_and(|node| self.evidence.peers.contains_key(&node))
        };
        let Some(drain) =
            router.spec.machine_drain.filter(|_| !router.deleting && router.spec.mode != Mode::Observe)
        else {
            self.shared.reporter.keep_hooks(&self.name, shot.inputs.capi_machines.iter(), Wanted::No).await;
            return false;
        };
        self.shared
            .reporter
            .keep_hooks(&self.name, shot.inputs.capi_machines.iter().filter(ours), Wanted::Yes)
            .await;
        if !shot.inputs.capi_machines.iter().any(|machine| machine.deleting) {
            return false;
        }
        self.see(inputs, pass).await;
        let limit = SignedDuration::from_secs(drain.timeout_seconds.into());
        let since = |id: &ObjectId| shot.metas.get(id).and_then(|meta| meta.deleted_at);
        let releases = {
            let mut drains = self.drains.lock().unwrap_or_else(PoisonError::into_inner);
            drains.releases(inputs, &self.evidence, limit, since, now)
        };
        self.shared.reporter.release(&self.name, &releases, shot).await;
        true
    }

    /// What the router and the nodes say of paths and flows.
    async fn see(&mut self, inputs: &Inputs, pass: Result<&Report, &Error>) {
        self.evidence.synced =
            pass.is_ok_and(|report| matches!(report.outcome, Outcome::InSync | Outcome::Applied(_)));
        let Some(session) = self.session.as_ref().filter(|_| self.evidence.synced) else { return };
        let mut paths = Paths::default();
        for family in ["ipv4", "ipv6"] {
            match session.client().show(&["bgp", family]).await {
                Ok(table) => paths.read(&table),
                Err(error) => {
                    tracing::debug!(router = self.name, %error, "its paths cannot be read");
                    self.evidence.synced = false;
                }
            }
        }
        self.evidence.paths = paths;
        let flows = inputs
            .node_words
            .iter()
            .filter_map(|word| Some(((word.id.cluster.clone(), word.id.name.clone()), word.spec.new_flows?)));
        self.evidence.flows = flows.collect();
    }
}

impl Shared {
    /// The Router's unique id, asked for anew: the ledger of a Router that was made again is not its own.
    async fn uid_of(&self, router: &str) -> Result<String, kube::Error> {
        let api: kube::Api<crate::crd::Router> = kube::Api::all(self.client.clone());
        Ok(api.get_metadata(router).await?.metadata.uid.unwrap_or_default())
    }
}

/// A Router that wants nothing any more, and may still be reached.
fn given_up(router: &Object<RouterSpec>) -> Object<RouterSpec> {
    let spec = RouterSpec { bgp: None, ..router.spec.clone() };
    Object { spec, ..router.clone() }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
