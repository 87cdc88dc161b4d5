//! What others do to the router, and what an onlooker may see.

use std::sync::Arc;

use vyos_sync::config::{Command, Tree};

use super::{Entry, Machine};
use crate::check::World;
use crate::commit;
use crate::http::call::{Op, Verb};

impl Machine {
    pub(crate) fn running(&self) -> Tree {
        self.state().session.running().clone()
    }

    pub(crate) fn saved(&self) -> Tree {
        self.state().saved.clone()
    }

    pub(crate) fn journal(&self) -> Vec<Entry> {
        self.state().journal.clone()
    }

    pub(crate) fn commits(&self) -> u32 {
        self.state().commits
    }

    /// A commit from the router's own command line: waits for its turn, is checked and programmed.
    pub(crate) async fn edit(self: &Arc<Self>, commands: &[Command]) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let mut wanted = self.running();
        for command in commands {
            wanted.apply(command, &self.model).map_err(|e| format!("{e}\n"))?;
        }
        let world = World { release: self.settings.release, ports: &self.settings.ports };
        let outcome = commit::commit(&self.running(), &wanted, &world, None);
        if outcome.failed {
            return Err(outcome.text);
        }
        self.state().session.foreign(commands, &self.model)?;
        self.reprogram(&wanted).await;
        Ok(())
    }

    /// The same from `set` and `delete` lines.
    pub(crate) async fn edit_lines(self: &Arc<Self>, text: &str) -> Result<(), String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let commands: Result<Vec<_>, _> = lines.map(|line| self.command(line)).collect();
        self.edit(&commands?).await
    }

    fn command(&self, line: &str) -> Result<Command, String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let verb = match verb {
            "set" => Verb::Set,
            "delete" => Verb::Delete,
            other => return Err(format!("{other:?} is neither set nor delete\n")),
        };
        let words: vyos_sync::config::ConfigPath = rest.parse().map_err(|e| format!("{e}\n"))?;
        let resolved = self.model.resolve(&Op { verb, words: words.to_vec(), value: None })?;
        Ok(match verb {
            Verb::Delete => Command::Delete { path: resolved.path, value: resolved.value },
            _ => Command::Set { path: resolved.path, value: resolved.value },
        })
    }

    /// Ends the daemons.
    pub(crate) async fn shut_down(&self) {
        if let Some(plant) = &self.plant {
            plant.lock().await.stop().await;
        }
    }
}
