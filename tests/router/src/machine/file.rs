//! /config-file: save, load and merge.

use vyos_sync::config::{Tree, parse, print};

use super::{Answer, Machine, State};
use crate::fault::Kind;
use crate::http::call::{Call, Section, SectionVerb, Source};
use crate::http::reply::{Refusal, Reply};

/// Where `save` without a name writes to.
pub(crate) const DEFAULT_FILE: &str = "/config/config.boot";

impl Machine {
    pub(super) fn save(&self, file: Option<String>) -> Answer {
        let running = self.state().session.running().clone();
        let text = print::block(&running, &self.model);
        match file.filter(|file| file != DEFAULT_FILE) {
            Some(file) => {
                self.state().files.insert(file, text);
            }
            None => {
                if let Err(refusal) = self.write_boot_file(&text) {
                    return Answer::Reply(refusal.into());
                }
                self.state().saved = running;
            }
        }
        let lost = self.faults.strikes(Kind::DropReply);
        if lost { Answer::Cut } else { Answer::Reply(Reply::text("")) }
    }

    /// Puts the whole file in place at once, so that a crash leaves the old one or the new one.
    fn write_boot_file(&self, text: &str) -> Result<(), Refusal> {
        let Some(file) = &self.settings.config_file else { return Ok(()) };
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, file))
            .map_err(|e| Refusal::bad(format!("Cannot write {}: {e}\n", file.display())))
    }

    /// Stages a load or a merge. What a failed load staged stays staged.
    pub(super) fn stage_file(&self, state: &mut State, call: &Call) -> Result<(), Refusal> {
        let (source, merge) = match call {
            Call::Load(source, _) => (source, false),
            Call::Merge(source, _) => (source, true),
            _ => return Ok(()),
        };
        let tree = self.parse_file(state, source)?;
        if !merge {
            return state.session.stage_load(tree, &self.model).map_err(Refusal::bad);
        }
        let node = vyos_sync::config::Node::Branch(tree.into());
        let sections = [Section { at: Vec::new(), node }];
        let now = std::time::Instant::now();
        state.session.stage_sections(SectionVerb::Set, &sections, &self.model, now).map_err(Refusal::bad)
    }

    fn parse_file(&self, state: &State, source: &Source) -> Result<Tree, Refusal> {
        let text = match source {
            Source::Text(text) => text.clone(),
            Source::File(name) if name == DEFAULT_FILE => return Ok(state.saved.clone()),
            Source::File(name) => state
                .files
                .get(name)
                .cloned()
                .ok_or_else(|| Refusal::bad(format!("Can not open config file \"{name}\"\n")))?,
        };
        parse::boot(&text)
            .map(|boot| boot.tree)
            .map_err(|e| Refusal::bad(format!("Failed to parse config file: {e}\n")))
    }
}
