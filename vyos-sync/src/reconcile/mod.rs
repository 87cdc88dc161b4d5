//! One router, one pass: gather, compile, plan, apply, report.

mod open;
mod sight;
mod steps;
mod view;

use std::path::PathBuf;

use jiff::Timestamp;

pub use crate::pass::{Again, Error, Outcome, Report, Seen};
use crate::{
    apply::{self, Failure},
    compile,
    config::{Dialect, Schema},
    crd::RouterSpec,
    inputs::{Inputs, Object},
    live::Live,
    pacing::Fight,
    plan::{Class, Ledger},
    secret::Seal,
    vyos::Generation,
};
pub use open::{endpoints, judge, print};

/// A router, with what was learned of it.
#[derive(Debug)]
pub struct Session {
    /// Name of the Router object.
    pub name: String,
    live: Live,
    dialect: Dialect,
    version: Option<String>,
    generation: Option<Generation>,
    schema: Schema,
    fight: Fight,
    recordings: Option<Recorder>,
    told: (u64, u64),
    seal: Seal,
    opened_with: String,
    sighted: Option<sight::Sighted>,
}

/// Where passes that do something are recorded.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// The folder of recordings.
    pub folder: PathBuf,
    /// The folder of manifests.
    pub source: PathBuf,
}

/// How often one pass plans anew because others edit the router meanwhile.
const LOOKS_MORE: usize = 3;

/// Where the ledger is in the state folder.
const LEDGER: &str = "ledger.json";

impl Session {
    /// One pass.
    ///
    /// # Errors
    /// The router or the state folder cannot be read, or an open change cannot be ended. A plan that does not come
    /// out is no error: see [`Outcome::Failed`].
    pub async fn reconcile(
        &mut self,
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        again: Again,
    ) -> Result<Report, Error> {
        let mut seen = self.look(router, inputs).await?;
        if self.end_open_change(&seen).await? {
            seen = self.look(router, inputs).await?;
        }
        let mut outcome = self.act(&router.spec, &seen, again).await?;
        for _ in 0..LOOKS_MORE {
            let Outcome::Failed(Failure::Overtaken(path)) = &outcome else { break };
            tracing::info!(router = self.name, path, "edited by others since it was read; planning anew");
            seen = self.look(router, inputs).await?;
            outcome = self.act(&router.spec, &seen, again).await?;
        }
        Ok(Report { compiled: seen.compiled, plan: seen.plan, outcome })
    }

    /// Reads the router and plans. Changes nothing.
    ///
    /// # Errors
    /// The router or the state folder cannot be read.
    pub async fn look(&self, router: &Object<RouterSpec>, inputs: &Inputs) -> Result<Seen, Error> {
        let running = self.running().await?;
        let read_at = Timestamp::now();
        let stored: Option<Ledger> = self.live.store.read(LEDGER)?;
        let ledger = stored.unwrap_or_else(|| Ledger::recover(&running));
        let compiled = compile::compile(inputs, router, self.dialect, &running, &ledger);
        let ledger = ledger.opened(&self.seal, &[&running, compiled.rendered.desired.tree()]);
        let plan = compile::plan(&compiled, &router.spec, self.known(&running, &ledger));
        Ok(Seen { running, read_at, ledger, compiled, plan })
    }

    async fn act(&mut self, spec: &RouterSpec, seen: &Seen, again: Again) -> Result<Outcome, Error> {
        let plan = &seen.plan;
        if plan.batches.is_empty() {
            self.remember(seen)?;
            return Ok(if plan.commands.is_empty() { Outcome::InSync } else { Outcome::Observed });
        }
        if let (Again::No, Some(why)) = (again, self.live.store.quarantine(&plan.id)?) {
            return Ok(Outcome::Quarantined(why));
        }
        let drifted = plan.count(Class::Drift) > 0;
        if let (true, Again::No, Err(until)) = (drifted, again, self.fight.may_repair(Timestamp::now())) {
            return self.send_the_rest(spec, seen, until).await;
        }
        if drifted {
            self.say_drift(seen);
            self.fight.repaired(Timestamp::now());
        }
        self.send(spec, seen).await
    }

    pub(super) async fn send(&mut self, spec: &RouterSpec, seen: &Seen) -> Result<Outcome, Error> {
        let policy = match self.policy(spec).await? {
            Ok(policy) => policy,
            Err(why) => return Ok(Outcome::Failed(Failure::NotSent(why))),
        };
        let ledger = Ledger { numbers: seen.compiled.numbers.clone(), ..seen.ledger.clone() };
        self.keep_ledger(&ledger.begun(&seen.plan))?;
        let change = self.change(seen);
        self.record(&change.name, seen);
        match apply::apply(&self.live, change, policy, &self.schema).await {
            Ok(applied) => {
                self.keep_ledger(&ledger.settled(&seen.plan))?;
                Ok(Outcome::Applied(Box::new(applied)))
            }
            Err(failure) => {
                if !failure.leaves_doubt() {
                    // Nothing of it is live: what others have at its places is theirs.
                    self.keep_ledger(&ledger)?;
                }
                Ok(Outcome::Failed(failure))
            }
        }
    }
}
