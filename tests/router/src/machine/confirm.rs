//! commit-confirm: the timer, its words, and what happens when it ends.

use std::sync::Arc;

use tokio::task::AbortHandle;
use vyos_sync::config::Tree;

use super::{Answer, Machine};
use crate::http::call::Confirm;
use crate::http::reply::{Refusal, Reply};

/// A change that undoes itself unless it is confirmed.
#[derive(Debug)]
pub(super) struct Pending {
    timer: AbortHandle,
    action: Action,
}

/// How the router goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// To what ran before the commit, in place.
    Reload,
    /// To what is saved, by restarting.
    Reboot,
}

impl Machine {
    /// Arms the timer for a change from `before`.
    pub(super) fn arm(self: &Arc<Self>, confirm: Confirm, before: &Tree) -> Result<String, Refusal> {
        let mut state = self.state();
        if state.pending.is_some() {
            return Err(Refusal::bad("Another confirm is pending\n"));
        }
        let action = Action::of(state.session.running());
        let (machine, before) = (self.clone(), before.clone());
        let ends = self.settings.minute.saturating_mul(confirm.minutes);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(ends).await;
            machine.roll_back(action, before).await;
        });
        state.pending = Some(Pending { timer: timer.abort_handle(), action });
        let word = action.word().to_lowercase();
        Ok(format!("Initialized commit-confirm; {} minutes to confirm before {word}\n", confirm.minutes))
    }

    pub(super) fn confirm(&self) -> Answer {
        if !self.settings.generation.confirms() {
            return Answer::Reply(Refusal::bad("'confirm' is not a valid operation").into());
        }
        if self.settings.generation == crate::Generation::Vyconf {
            return Answer::Reply(Reply::text("unimplemented"));
        }
        let text = match self.state().pending.take() {
            None => "No confirm pending\n".to_owned(),
            Some(pending) => {
                pending.timer.abort();
                format!("{} timer stopped\n", pending.action.word())
            }
        };
        if self.faults.strikes(crate::fault::Kind::DropReply) {
            return Answer::Cut;
        }
        Answer::Reply(Reply::text(text))
    }

    /// Forgets the timer, as a restart does.
    pub(super) fn disarm(&self) {
        if let Some(pending) = self.state().pending.take() {
            pending.timer.abort();
        }
    }

    async fn roll_back(self: Arc<Self>, action: Action, before: Tree) {
        // Taken, not aborted: this task is the timer.
        drop(self.state().pending.take());
        match action {
            Action::Reboot => self.restart(),
            Action::Reload => {
                let _turn = self.turn.lock().await;
                self.state().session.settle(before.clone());
                self.reprogram(&before).await;
                self.restore_link();
            }
        }
    }
}

impl Action {
    fn of(running: &Tree) -> Self {
        let place = ["system", "config-management", "commit-confirm"];
        match running.at(&place).and_then(|node| node.text("action")) {
            Some("reload") => Self::Reload,
            _ => Self::Reboot,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Reload => "Reload",
            Self::Reboot => "Reboot",
        }
    }
}
