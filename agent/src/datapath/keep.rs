//! Keeps the programs on every interface that should be measured, for as long as it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::attach::Hooks;
use super::load::Datapath;
use crate::model::address::{Direction, IfIndex};
use crate::model::interface::{Hook, HookState};
use crate::model::link::Link;
use crate::state::{Event, Snapshot};

/// How often the order of programs on the hooks is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Attaches to interfaces as they come, looks at the hooks, and tells what it sees, until `stop`.
///
/// An interface that was attached to once stays so while it exists, even if `wanted` no longer names it: an uplink whose
/// route is gone for a moment must not lose its counts.
pub async fn keep(
    mut keeper: Keeper,
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    wanted: impl Fn(&Snapshot) -> Vec<IfIndex> + Send,
    events: mpsc::Sender<Vec<Event>>,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshot.changed() => if changed.is_err() { return },
            _ = look.tick() => keeper.due = true,
        }
        let now = Arc::clone(&snapshot.borrow_and_update());
        // Before the first dump of links nothing can be told of any interface.
        if now.links.is_empty() {
            continue;
        }
        let news = keeper.step(&now, &wanted(&now));
        if !news.is_empty() && events.send(news).await.is_err() {
            return;
        }
    }
}

/// The hooks that are kept, and how they were last seen.
pub struct Keeper {
    datapath: Datapath,
    hooks: Hooks,
    kept: BTreeMap<IfIndex, String>,
    /// Those of them that could not be attached to.
    failed: BTreeSet<IfIndex>,
    seen: BTreeMap<(IfIndex, Direction), Hook>,
    looked: Instant,
    due: bool,
}

impl Keeper {
    /// Takes over the hooks that the agent before has pinned, and attaches to those `wanted` now. `only` names the interfaces
    /// to be measured; hooks of others are given up. Empty, it keeps them all.
    pub fn new(
        datapath: Datapath,
        hooks: Hooks,
        links: &BTreeMap<IfIndex, Link>,
        only: &[String],
        wanted: &[IfIndex],
    ) -> Self {
        let mut keeper = Self {
            datapath,
            hooks,
            kept: BTreeMap::new(),
            failed: BTreeSet::new(),
            seen: BTreeMap::new(),
            looked: Instant::now(),
            due: true,
        };
        for (index, _) in keeper.datapath.pins().hooks() {
            match links.get(&index).map(|link| &link.name) {
                Some(name) if only.is_empty() || only.contains(name) => keeper.attach(index, name),
                Some(name) => keeper.give_up(index, name),
                None => keeper.give_up(index, ""),
            }
        }
        for index in wanted {
            if let (Some(link), false) = (links.get(index), keeper.kept.contains_key(index)) {
                keeper.attach(*index, &link.name);
            }
        }
        keeper.tell_measured(links);
        keeper
    }

    fn step(&mut self, now: &Snapshot, wanted: &[IfIndex]) -> Vec<Event> {
        let mut news = self.drop_gone(now);
        let fresh: Vec<_> = wanted.iter().filter(|index| !self.kept.contains_key(index)).copied().collect();
        for index in &fresh {
            if let Some(link) = now.links.get(index) {
                self.attach(*index, &link.name);
            }
        }
        if self.due || !fresh.is_empty() {
            news.extend(self.look());
            self.tell_measured(&now.links);
        }
        news
    }

    fn attach(&mut self, index: IfIndex, name: &str) {
        if let Err(error) = self.hooks.attach(&mut self.datapath, index, name) {
            tracing::error!(
                interface = name,
                error = chain(&error),
                "not measured; tried again every few seconds"
            );
            self.failed.insert(index);
        } else {
            self.failed.remove(&index);
        }
        self.kept.insert(index, name.to_owned());
    }

    /// Not before the hooks are attached: until then the interface below sorts the packets.
    fn tell_measured(&self, links: &BTreeMap<IfIndex, Link>) {
        let attached = self.kept.keys().filter(|index| !self.failed.contains(index));
        if let Err(error) = self.hooks.tell_measured(attached.filter_map(|index| links.get(index))) {
            tracing::warn!(
                error = chain(&error),
                "packets of VLAN sub-interfaces may be in the ledger twice; tried again in a few seconds"
            );
        }
    }

    fn give_up(&mut self, index: IfIndex, name: &str) {
        self.hooks.detach(&self.datapath, index, name);
        if let Err(error) = self.hooks.forget(index) {
            tracing::warn!(interface = name, error = chain(&error), "its ledger rows are given back later");
        }
    }

    fn drop_gone(&mut self, now: &Snapshot) -> Vec<Event> {
        let gone: Vec<_> = self.kept.keys().filter(|index| !now.links.contains_key(index)).copied().collect();
        let mut news = Vec::new();
        for index in gone {
            let name = self.kept.remove(&index).unwrap_or_default();
            self.failed.remove(&index);
            self.due = true;
            tracing::info!(interface = name, "gone");
            self.give_up(index, &name);
            for direction in Direction::ALL {
                self.seen.remove(&(index, direction));
                news.push(Event::HookGone(index, direction));
            }
        }
        news
    }

    /// Looks at all hooks, attaches again where something took us off, and tells changes.
    fn look(&mut self) -> Vec<Event> {
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        self.due = false;
        let mut news = Vec::new();
        for (index, name) in self.kept.clone() {
            let mut hooks = self.hooks_of(index, &name);
            if hooks.iter().any(|hook| matches!(hook.state, HookState::Detached { .. })) {
                news.push(Event::Unobserved(since));
                self.attach(index, &name);
                hooks = self.hooks_of(index, &name);
            }
            for hook in hooks {
                let key = (index, hook.direction);
                if self.seen.get(&key) != Some(&hook) {
                    tell(&hook);
                    self.seen.insert(key, hook.clone());
                    news.push(Event::Hook(hook));
                }
            }
        }
        news
    }

    fn hooks_of(&self, index: IfIndex, name: &str) -> [Hook; 2] {
        Direction::ALL.map(|direction| self.hooks.look(&self.datapath, index, name, direction))
    }
}

fn tell(hook: &Hook) {
    let (interface, direction) = (&hook.name, hook.direction);
    match &hook.state {
        HookState::Head => tracing::info!(interface, %direction, "measuring at the head of the chain"),
        HookState::NotHead { before } => {
            tracing::warn!(interface, %direction, before, "programs run before ours and may hide packets from it");
        }
        HookState::LegacyTc => {
            tracing::warn!(interface, %direction, "measuring by a legacy tc filter: no TCX here")
        }
        HookState::Detached { reason } => tracing::error!(interface, %direction, reason, "not measuring"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
