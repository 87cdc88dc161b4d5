//! /configure and its like: stage, check, commit, program, answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use vyos_sync::config::Tree;

use super::{Answer, Machine};
use crate::check::World;
use crate::commit::{self, Outcome, Sabotage};
use crate::fault::Kind;
use crate::http::call::{Call, Confirm, Op};
use crate::http::reply::{Refusal, Reply};
use crate::release::Generation;

const LOCKED: &str = "Configuration system temporarily locked due to another commit in progress\n";
const IN_BACKGROUND: &str =
    "Requested HTTP API server configuration change; commit will be called in the background";

/// While it lives, a /configure is at work.
struct Configuring(Arc<Machine>);

impl Drop for Configuring {
    fn drop(&mut self) {
        self.0.state().configuring = false;
    }
}

impl Machine {
    /// Waits for the lock, then does the change to its end, whether or not the client still listens.
    pub(super) async fn change(self: &Arc<Self>, call: Call) -> Answer {
        let turn = self.turn.clone().lock_owned().await;
        let machine = self.clone();
        let work = tokio::spawn(async move { machine.change_in_turn(turn, call).await });
        work.await.unwrap_or(Answer::Cut)
    }

    async fn change_in_turn(self: Arc<Self>, turn: OwnedMutexGuard<()>, call: Call) -> Answer {
        self.state().configuring = true;
        let configuring = Configuring(self.clone());
        let boots = self.boot_count();
        let confirm = confirm_of(&call);
        let ops = ops_of(&call);
        if let Err(refusal) = self.stage(&call, ops) {
            return Answer::Reply(refusal.into());
        }
        let cost = self.settings.op_cost.saturating_mul(u32::try_from(ops.len()).unwrap_or(u32::MAX));
        tokio::time::sleep(cost).await;
        if confirm.is_some() && self.settings.generation == Generation::Vyconf {
            return Answer::Reply(Reply::text("unimplemented"));
        }
        if self.touches_api() {
            tokio::spawn(async move {
                let outcome = self.commit_now(boots).await;
                self.state().log.push(outcome.text);
                drop((configuring, turn));
            });
            return Answer::Reply(Reply::text(IN_BACKGROUND));
        }
        let reply = self.commit_armed(confirm, boots).await;
        drop((configuring, turn));
        self.after_change(reply).await
    }

    /// The faults that strike once the change is made.
    async fn after_change(self: &Arc<Self>, reply: Reply) -> Answer {
        if self.faults.strikes(Kind::Reboot) {
            self.restart();
            return Answer::Cut;
        }
        if self.faults.strikes(Kind::LoseLink) {
            self.lose_link();
            // The answer is lost as everything else is.
            let _ = self.reachable().await;
            return Answer::Cut;
        }
        if self.faults.strikes(Kind::HangChange) {
            self.faults.cleared().await;
            return Answer::Cut;
        }
        if self.faults.strikes(Kind::DropReply) { Answer::Cut } else { Answer::Reply(reply) }
    }

    fn stage(&self, call: &Call, ops: &[Op]) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut state = self.state();
        if self.faults.strikes(Kind::Refuse) {
            state.session.refuse(ops, &self.model, now);
            return Err(Refusal::bad("Set failed\n"));
        }
        let session = &mut state.session;
        match call {
            Call::Section(verb, sections, _) => session.stage_sections(*verb, sections, &self.model, now),
            Call::Load(..) | Call::Merge(..) => return self.stage_file(&mut state, call),
            _ => session.stage(ops, &self.model, now),
        }
        .map_err(Refusal::bad)?;
        if self.faults.strikes(Kind::Busy) {
            state.session.refuse(ops, &self.model, now);
            return Err(Refusal::bad(LOCKED));
        }
        Ok(())
    }

    async fn commit_armed(self: &Arc<Self>, confirm: Option<Confirm>, boots: u32) -> Reply {
        let before = self.state().session.running().clone();
        let mut words = String::new();
        if let (Some(confirm), Generation::G1) = (confirm, self.settings.generation) {
            match self.arm(confirm, &before) {
                Ok(text) => words = text,
                Err(refusal) => {
                    self.state().session.discard();
                    return refusal.into();
                }
            }
        }
        let outcome = self.commit_now(boots).await;
        if outcome.failed {
            return Refusal::bad(outcome.text).into();
        }
        if let (Some(confirm), Generation::G2 | Generation::G3) = (confirm, self.settings.generation) {
            match self.arm(confirm, &before) {
                Ok(text) => words = text,
                Err(refusal) => return refusal.into(),
            }
        }
        match format!("{}{words}", outcome.text) {
            text if text.is_empty() => Reply::none(),
            text => Reply::text(text),
        }
    }

    /// Commits what the session holds and programs it. Void when the router has restarted since.
    async fn commit_now(self: &Arc<Self>, boots: u32) -> Outcome {
        let sabotage = self.faults.strikes(Kind::HalfApply).then_some(Sabotage);
        let (before, mut outcome) = {
            let state = self.state();
            let world = World { release: self.settings.release, ports: &self.settings.ports };
            let (running, proposed) = (state.session.running(), state.session.proposed());
            (running.clone(), commit::commit(running, proposed, &world, sabotage))
        };
        if before != outcome.live {
            outcome = self.program(&before, outcome).await;
        }
        let mut state = self.state();
        if state.boots == boots {
            state.commits += u32::from(before != outcome.live);
            state.session.settle(outcome.live.clone());
        }
        outcome
    }

    /// What the kernel or a daemon refuses fails as a script does: its subtree stays as it was.
    async fn program(&self, before: &Tree, outcome: Outcome) -> Outcome {
        let Some(plant) = &self.plant else { return outcome };
        let mut plant = plant.lock().await;
        let refused = plant.apply(&outcome.live).await;
        if refused.is_empty() {
            return outcome;
        }
        let outcome = outcome.without(before, &refused, self.settings.release);
        for failure in plant.apply(&outcome.live).await {
            tracing::warn!(owner = failure.owner, text = failure.text, "not programmed");
        }
        outcome
    }

    fn touches_api(&self) -> bool {
        let state = self.state();
        let https = ["service", "https"];
        state.session.running().at(&https) != state.session.proposed().at(&https)
    }

    /// Answers at once; the outcome is asked for later.
    pub(super) fn in_background(self: &Arc<Self>, call: Call) -> Answer {
        let number = {
            let mut state = self.state();
            let number = state.operations.len() as u64 + 1;
            state.operations.insert(number, serde_json::json!({"op_id": number, "status": "running"}));
            number
        };
        let machine = self.clone();
        tokio::spawn(async move {
            let answer = machine.change(call).await;
            machine.state().operations.insert(number, finished(number, answer));
        });
        Answer::Reply(Reply::Done(serde_json::json!({"op_id": number})))
    }

    pub(super) fn operations(&self) -> Reply {
        Reply::Done(self.state().operations.values().cloned().collect())
    }

    pub(crate) fn boot_count(&self) -> u32 {
        self.state().boots
    }
}

fn finished(number: u64, answer: Answer) -> Value {
    let (success, data, error) = match answer {
        Answer::Reply(Reply::Done(data)) => (true, data, Value::Null),
        Answer::Reply(Reply::Refused(refusal)) => (false, Value::Null, Value::from(refusal.error)),
        _ => (false, Value::Null, Value::from("lost")),
    };
    serde_json::json!({
        "op_id": number, "status": "finished", "success": success, "data": data, "error": error,
    })
}

fn ops_of(call: &Call) -> &[Op] {
    match call {
        Call::Configure(ops, _) => ops,
        _ => &[],
    }
}

fn confirm_of(call: &Call) -> Option<Confirm> {
    match call {
        Call::Configure(_, confirm)
        | Call::Section(_, _, confirm)
        | Call::Load(_, confirm)
        | Call::Merge(_, confirm) => *confirm,
        _ => None,
    }
}
