//! /show, /reset and /generate: operational commands, answered from what really runs.

use vyos_sync::config::print;

use super::{Answer, Machine};
use crate::http::reply::{Refusal, Reply};

impl Machine {
    pub(super) async fn show(&self, path: &[String]) -> Answer {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = match words.as_slice() {
            ["version"] => Some(self.version()),
            ["configuration", "commands"] => Some(self.commands()),
            ["system", "commit"] => Some(self.state().log.iter().rev().cloned().collect()),
            _ => self.ask_plant(&words).await,
        };
        Answer::Reply(match text {
            Some(text) => Reply::text(text),
            None => invalid("show", &words).into(),
        })
    }

    pub(super) async fn reset(&self, path: &[String]) -> Answer {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let done = match words.as_slice() {
            ["bgp", peer] => self.vtysh(&format!("clear bgp {peer}")).await,
            _ => None,
        };
        Answer::Reply(done.map_or_else(|| invalid("reset", &words).into(), Reply::text))
    }

    pub(super) fn generate(&self, path: &[String]) -> Answer {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        Answer::Reply(invalid("generate", &words).into())
    }

    /// A vtysh command in the namespace, `None` where nothing is programmed.
    pub(super) async fn vtysh(&self, command: &str) -> Option<String> {
        let plant = self.plant.as_ref()?;
        let plant = plant.lock().await;
        plant.vtysh(command).await
    }

    async fn ask_plant(&self, words: &[&str]) -> Option<String> {
        let plant = self.plant.as_ref()?;
        let running = self.state().session.running().clone();
        let plant = plant.lock().await;
        plant.show(words, &running).await
    }

    fn version(&self) -> String {
        let release = self.settings.release;
        format!(
            "Version:          VyOS {release}-stand-in\nRelease train:    {release}\n\nArchitecture:     x86_64\n\
             System type:      stand-in\n\nCopyright:        Weir\n"
        )
    }

    /// As the command prints it: values in single quotes.
    fn commands(&self) -> String {
        let mut leaves = self.state().session.running().leaves();
        leaves.sort_by(|a, b| print::natural(&a.path.to_string(), &b.path.to_string()));
        let line = |leaf: vyos_sync::config::Leaf| match leaf.value {
            Some(value) => format!("set {} '{value}'\n", leaf.path),
            None => format!("set {}\n", leaf.path),
        };
        leaves.into_iter().map(line).collect()
    }
}

fn invalid(command: &str, words: &[&str]) -> Refusal {
    let shown = match words.split_last() {
        Some((last, [])) => format!("[{last}]"),
        Some((last, rest)) => format!("{} [{last}]", rest.join(" ")),
        None => "[]".to_owned(),
    };
    Refusal::bad(format!("\n  Invalid command: {command} {shown}\n\n"))
}
