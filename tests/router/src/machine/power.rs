//! Restarts, scheduled restarts, and the link to the outside.

use std::sync::Arc;

use vyos_sync::config::Tree;

use super::{Answer, Machine, Power};
use crate::http::reply::{Refusal, Reply};
use crate::session::Session;

const UNSAVED: &str = "Warning: there are unsaved configuration changes!\n\
     Run 'save' command if you do not want to lose those changes after reboot/shutdown.\n";

/// The router restarted while somebody waited for it.
#[derive(Debug)]
pub(super) struct Restarted;

impl Machine {
    pub(crate) fn is_off(&self) -> bool {
        *self.power.borrow() == Power::Off
    }

    /// Waits while the link is lost. An error when the router restarts meanwhile, or is off now.
    pub(super) async fn reachable(&self) -> Result<(), Restarted> {
        let mut power = self.power.subscribe();
        let seen = power.wait_for(|power| *power != Power::CutOff).await;
        match seen.map(|power| *power) {
            Ok(Power::On) => Ok(()),
            _ => Err(Restarted),
        }
    }

    pub(super) fn lose_link(&self) {
        self.power.send_replace(Power::CutOff);
    }

    /// Ends a lost link; a router that is off stays off.
    pub(crate) fn restore_link(&self) {
        self.power.send_if_modified(|power| {
            let cut_off = *power == Power::CutOff;
            if cut_off {
                *power = Power::On;
            }
            cut_off
        });
    }

    /// Goes down now and comes back with the saved configuration.
    pub(crate) fn restart(self: &Arc<Self>) {
        if *self.power.borrow() == Power::Off {
            return;
        }
        self.power.send_replace(Power::Off);
        self.disarm();
        let saved = {
            let mut state = self.state();
            state.boots += 1;
            if let Some(timer) = state.reboot.take() {
                timer.abort();
            }
            state.configuring = false;
            state.session = Session::new(state.saved.clone(), self.settings.poison);
            state.saved.clone()
        };
        let machine = self.clone();
        tokio::spawn(async move {
            if let Some(plant) = &machine.plant {
                plant.lock().await.stop().await;
            }
            tokio::time::sleep(machine.settings.boot_time).await;
            machine.reprogram(&saved).await;
            machine.power.send_replace(Power::On);
        });
    }

    /// Makes the namespace hold this configuration, as at boot.
    pub(crate) async fn reprogram(&self, tree: &Tree) {
        let Some(plant) = &self.plant else { return };
        for failure in plant.lock().await.apply(tree).await {
            tracing::warn!(owner = failure.owner, text = failure.text, "not programmed");
        }
    }

    /// `now`, `in N`, `cancel`: unasked, and with a warning of what is not saved.
    pub(super) fn reboot_command(self: &Arc<Self>, path: &[String]) -> Answer {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = match words.as_slice() {
            ["now"] | [] => self.schedule(0),
            ["in", minutes] => match minutes.parse() {
                Ok(minutes) => self.schedule(minutes),
                Err(_) => return invalid(path),
            },
            ["cancel"] => self.cancel_reboot(),
            _ => return invalid(path),
        };
        Answer::Reply(Reply::text(text))
    }

    fn schedule(self: &Arc<Self>, minutes: u32) -> String {
        let warning = if self.is_saved() { "" } else { UNSAVED };
        let machine = self.clone();
        let wait = self.settings.minute.saturating_mul(minutes);
        // `now` leaves its own answer a moment to get out.
        let wait = wait.max(std::time::Duration::from_millis(50));
        let task = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            machine.state().reboot = None;
            machine.restart();
        });
        if let Some(earlier) = self.state().reboot.replace(task.abort_handle()) {
            earlier.abort();
        }
        format!("{warning}Reboot is scheduled in {minutes} minutes\n")
    }

    fn cancel_reboot(&self) -> String {
        match self.state().reboot.take() {
            Some(timer) => {
                timer.abort();
                String::new()
            }
            None => "Reboot or poweroff is not scheduled\n".to_owned(),
        }
    }

    /// Whether what runs is what a restart would bring.
    pub(crate) fn is_saved(&self) -> bool {
        let state = self.state();
        *state.session.running() == state.saved
    }
}

fn invalid(path: &[String]) -> Answer {
    let words = path.join(" ");
    Answer::Reply(Refusal::bad(format!("\n  Invalid command: reboot [{words}]\n\n")).into())
}
