//! What the pipeline's steps are made of: the open change, the guard, the record of a change, and what is remembered.

use std::time::Duration;

use jiff::Timestamp;

use super::{LEDGER, Session};
use crate::{
    apply::{self, Change, Found, Guard, Policy},
    compile::{self, Known},
    config::Tree,
    crd::{DeadMan, Drift, RouterSpec},
    pass::{Error, Outcome, Seen},
    plan::{Class, Ledger, Limits},
    recording,
    vyos::{ApiError, Confirm},
};

impl Session {
    pub(super) fn known<'a>(&'a self, running: &'a Tree, ledger: &'a Ledger) -> Known<'a> {
        let each = apply::World::pace(&self.live).each.as_secs_f64();
        let limits = Limits::default().at_rate(each, 60.0);
        Known { running, ledger, dialect: self.dialect, schema: &self.schema, limits }
    }

    /// Ends a change that a restart or a lost router left open. Says whether there was one.
    pub(super) async fn end_open_change(&mut self, seen: &Seen) -> Result<bool, Error> {
        let Some(record) = self.live.store.open_record()? else { return Ok(false) };
        let found = if seen.plan.commands.is_empty() { Found::InForce } else { Found::Wanting };
        tracing::warn!(
            router = self.name,
            change = record.name,
            ?found,
            "ending a change that was left open"
        );
        let ended = apply::resume(&self.live, record, found).await;
        ended.map_err(|e| Error::Open { router: self.name.clone(), why: e.to_string() })?;
        Ok(true)
    }

    /// How a change is guarded, by the API's generation and by what the Router object allows.
    pub(super) async fn policy(&mut self, spec: &RouterSpec) -> Result<Result<Policy, String>, Error> {
        let generation = match self.generation {
            Some(generation) => generation,
            None => {
                let asked = self.live.client.generation().await.map_err(|source| self.api(source))?;
                tracing::info!(router = self.name, generation = asked.name(), "the API's generation");
                *self.generation.insert(asked)
            }
        };
        let guard = match (generation.confirm(), spec.commit.dead_man) {
            (Confirm::Timed, _) => Guard::Confirm,
            (Confirm::Absent, DeadMan::Reboot) => Guard::Reboot,
            (Confirm::Absent, DeadMan::Forbidden) => {
                let why = "this router's API has no commit-confirm; set spec.commit.deadMan to Reboot to let a set \
                           reboot stand in for it";
                return Ok(Err(why.to_owned()));
            }
        };
        Ok(Ok(Policy { guard, minutes: spec.commit.confirm_minutes, settle: Duration::from_secs(30) }))
    }

    pub(super) fn change(&self, seen: &Seen) -> Change {
        let now = Timestamp::now();
        let mark: String = seen.plan.id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let owners = seen.plan.entries.iter().map(|e| e.by.clone()).filter(|by| !by.is_empty());
        let mut owners: Vec<String> = owners.collect();
        owners.sort();
        owners.dedup();
        Change {
            name: format!("{}-{}-{}", self.name, now.strftime("%Y%m%d%H%M%S%3f"), mark.to_lowercase()),
            router: self.name.clone(),
            plan_hash: seen.plan.id.clone(),
            batches: seen.plan.batches.iter().map(|b| b.commands.clone()).collect(),
            before: seen.running.clone(),
            read_at: seen.read_at,
            owners,
        }
    }

    /// Somebody fights for some places; what else is to be done does not wait for peace.
    pub(super) async fn send_the_rest(
        &mut self,
        spec: &RouterSpec,
        seen: &Seen,
        until: Timestamp,
    ) -> Result<Outcome, Error> {
        let calm = RouterSpec { drift: Drift::Report, ..spec.clone() };
        let plan = compile::plan(&seen.compiled, &calm, self.known(&seen.running, &seen.ledger));
        if plan.batches.is_empty() || self.live.store.quarantine(&plan.id)?.is_some() {
            return Ok(Outcome::Waiting(until));
        }
        match self.send(spec, &Seen { plan, ..seen.clone() }).await? {
            Outcome::Applied(applied) => {
                tracing::info!(
                    router = self.name,
                    change = applied.record.name,
                    "applied all but the repairs"
                );
                Ok(Outcome::Waiting(until))
            }
            other => Ok(other),
        }
    }

    /// A recording that fails is no reason to leave the router as it is.
    pub(super) fn record(&self, name: &str, seen: &Seen) {
        let Some(to) = &self.recordings else { return };
        if let Err(error) = recording::record(&to.folder, name, &self.name, &to.source, seen) {
            tracing::warn!(router = self.name, %error, "the pass is not recorded");
        }
    }

    /// Keeps what a plan without commands teaches: adoptions, and what is gone already.
    pub(super) fn remember(&self, seen: &Seen) -> Result<(), Error> {
        let ledger = Ledger { numbers: seen.compiled.numbers.clone(), ..seen.ledger.clone() };
        let settled = match seen.plan.commands.is_empty() {
            true => ledger.settled(&seen.plan),
            // Observed only: nothing of it came true.
            false => return Ok(()),
        };
        let stored: Option<Ledger> = self.live.store.read(LEDGER)?;
        match stored.as_ref() == Some(&settled.closed(&self.seal)) {
            true => Ok(()),
            false => self.keep_ledger(&settled),
        }
    }

    /// Stores what is ours, without its secrets.
    pub(super) fn keep_ledger(&self, ledger: &Ledger) -> Result<(), Error> {
        Ok(self.live.store.write(LEDGER, &ledger.closed(&self.seal))?)
    }

    pub(super) fn say_drift(&self, seen: &Seen) {
        let (drifted, owned) = (seen.plan.count(Class::Drift), seen.ledger.owned.weight());
        match drifted * 2 > owned {
            true => tracing::warn!(
                router = self.name,
                drifted,
                owned,
                "somebody has loaded a whole configuration over ours; repairing"
            ),
            false => tracing::warn!(router = self.name, drifted, "others changed what is ours; repairing"),
        }
    }

    pub(super) fn api(&self, source: ApiError) -> Error {
        Error::Api { router: self.name.clone(), source }
    }
}
