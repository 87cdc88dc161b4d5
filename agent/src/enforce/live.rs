//! What is in force now, and every step from one set to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_ebpf::rules::Control;

use super::checks::{Answered, Checks, answered};
use super::folder::{self, Stamp};
use super::keep::{Keep, KeepError, Saved, Which};
use super::mesh::Mesh;
use super::{Settings, kernel};
use crate::datapath::{Events, Guard, GuardError, UNPARSABLE};
use crate::model::class::{Class, Found};
use crate::model::policy::reference::Surroundings;
use crate::model::policy::{
    self, EnforcementError, Packet, Pending, PolicyStatus, Problem, RuleSet, RuleStatus, Source, World,
    compile, failsafe,
};
use crate::state::Snapshot;

/// The heartbeat is stale after so long.
const SILENCE: Duration = Duration::from_secs(30);
/// A set is not confirmed in its last moment: the kernel may be going back.
const MARGIN_JIFFIES: u64 = 25;

/// The state of enforcement.
pub(super) struct Live {
    guard: Guard,
    settings: Settings,
    keep: Keep,
    world: World,
    /// The set in force, as rules and as policies.
    set: RuleSet,
    sources: Vec<Source>,
    generation: u32,
    confirmed: Saved,
    pending: Option<Tried>,
    /// Policies that were given up: not tried again before they change.
    rejected: Option<Vec<Source>>,
    read: folder::Read,
    stamp: Option<Stamp>,
    problems: Vec<Problem>,
    reverts: BTreeMap<&'static str, u64>,
    unkept: Option<String>,
    jiffies: (u64, u64),
    mesh: Mesh,
    found: Arc<Found>,
    /// The traffic classes with what was found.
    classes: Vec<Class>,
}

/// A set that waits to be confirmed.
struct Tried {
    deadline: u64,
    before: Option<Answered>,
    waits_for: Vec<String>,
    checked: bool,
}

impl Live {
    pub(super) fn start(guard: Guard, settings: Settings, world: World) -> Result<Self, GuardError> {
        guard.resolve_by(&settings.resolvers)?;
        let jiffies = guard.jiffies()?;
        let keep = Keep::new(&settings.state_dir);
        let classes = settings.classes.clone();
        let mut live = Self {
            guard,
            keep,
            world,
            settings,
            set: RuleSet::default(),
            sources: Vec::new(),
            generation: 0,
            confirmed: Saved::default(),
            pending: None,
            rejected: None,
            read: folder::Read::default(),
            stamp: None,
            problems: Vec::new(),
            reverts: BTreeMap::new(),
            unkept: None,
            jiffies,
            mesh: Mesh::default(),
            found: Arc::default(),
            classes,
        };
        live.confirmed = live.load(Which::Confirmed).unwrap_or_default();
        live.generation = live.confirmed.generation;
        live.take_over()?;
        Ok(live)
    }

    fn load(&mut self, which: Which) -> Option<Saved> {
        self.keep.load(which).unwrap_or_else(|error| {
            self.unkept = Some(chain(&error));
            tracing::error!(error = chain(&error), "what was kept of policies cannot be used");
            None
        })
    }

    /// Goes on from what the kernel and the state folder hold.
    fn take_over(&mut self) -> Result<(), GuardError> {
        let word = self.guard.control();
        let tried = self.load(Which::Tried);
        if word.deadline() != 0 && word.is_expired(self.jiffies.0) {
            // It happened while no agent was there to see it.
            self.count_revert("deadline");
            self.rejected = tried.map(|tried| tried.sources);
        } else if word.deadline() != 0
            && let Some(tried) = tried
        {
            self.generation = tried.generation;
            (self.set, self.problems) = policy::read(&tried.sources, &self.world);
            self.sources = tried.sources;
            self.secure(&self.set)?;
            self.pending = Some(Tried {
                deadline: word.deadline(),
                before: None,
                waits_for: Vec::new(),
                checked: false,
            });
            tracing::info!(generation = self.generation, "a set of rules still waits to be confirmed");
            return Ok(());
        }
        let sources = self.confirmed.sources.clone();
        if sources.is_empty() {
            // Nothing was confirmed, or the state folder is lost: then what the kernel holds as confirmed goes on.
            self.guard.set_control(Control::new(word.confirmed(), word.confirmed(), None, word.opens()))?;
            return Ok(());
        }
        self.generation = self.confirmed.generation;
        let (slot, open) = self.build(&sources)?;
        self.guard.set_control(Control::new(slot, slot, None, open))?;
        tracing::info!(
            generation = self.generation,
            rules = self.set.rules.len(),
            "the confirmed rules are in force"
        );
        Ok(())
    }

    /// Compiles policies into a free slot. The set in force stays as it is.
    fn build(&mut self, sources: &[Source]) -> Result<(u32, bool), GuardError> {
        let (set, problems) = policy::read(sources, &self.world);
        let (unparsable, numbers) = self.guard.counters(&set.rules)?;
        let mut numbers = numbers.into_iter();
        let contents = compile(&set, self.generation, unparsable, |_| numbers.next().unwrap_or(unparsable))
            .map_err(GuardError::Compile)?;
        self.secure(&set)?;
        let slot = self.guard.free_slot();
        self.guard.fill(slot, &contents)?;
        let open = set.open_when_silent;
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            let Problem { policy, field, reason, text } = problem;
            tracing::warn!(policy, field, reason = reason.as_str(), "{text}");
        }
        (self.set, self.problems, self.sources) = (set, problems, sources.to_vec());
        Ok((slot, open))
    }

    /// What is saved is what this set and the confirmed one save: the kernel may go back at any time.
    fn secure(&self, set: &RuleSet) -> Result<(), GuardError> {
        let mut extra = set.failsafe.clone();
        extra.extend(policy::read(&self.confirmed.sources, &self.world).0.failsafe);
        self.guard.secure(&failsafe::all(&extra))
    }

    /// Where policies are read from.
    pub(super) fn places(&self) -> &folder::Places {
        &self.settings.places
    }

    pub(super) fn set(&self) -> &RuleSet {
        &self.set
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) fn events(&mut self) -> Option<Events> {
        self.guard.events()
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// What stands beside the rules, for packets of this class.
    pub(super) fn surroundings(&self, class: u8) -> Surroundings {
        Surroundings { resolvers: self.settings.resolvers.clone(), class, vips: self.world.vips.clone() }
    }

    /// The number of a packet's class.
    pub(super) fn class_of(&self, packet: &Packet) -> u8 {
        let class = packet.class(&self.classes).and_then(|name| self.world.classes.get(name));
        class.copied().unwrap_or(0)
    }

    /// The checks of the pending set, where there is one.
    pub(super) fn checks_due(&self) -> Option<Checks> {
        let pending = self.pending.as_ref()?;
        let before = pending.before.clone().unwrap_or_default();
        Some(Checks { servers: self.settings.checks.clone(), before })
    }

    /// One step. `answers` are those of [`Self::checks_due`].
    pub(super) fn look(&mut self, now: &Snapshot, world: World, answers: Option<Option<Vec<String>>>) {
        if let Err(error) = self.step(now, world, answers) {
            tracing::error!(
                error = chain(&error),
                "the rules in force stay; tried again when a policy or an interface changes"
            );
        }
    }

    fn step(
        &mut self,
        now: &Snapshot,
        world: World,
        answers: Option<Option<Vec<String>>>,
    ) -> Result<(), GuardError> {
        self.jiffies = self.guard.jiffies()?;
        self.beat();
        if now.found != self.found {
            self.found = Arc::clone(&now.found);
            self.classes = self.found.added_to(&self.settings.classes);
        }
        if self.set.rules.iter().any(|rule| rule.pairs) {
            self.mesh.look(&self.guard, now, self.jiffies)?;
        }
        self.judge_pending(now, answers)?;
        if world != self.world {
            self.world = world;
            self.build_again()?;
        }
        if self.stamp.as_ref().is_none_or(|stamp| !stamp.holds(&self.settings.places)) {
            self.read_policies(now)?;
        }
        Ok(())
    }

    fn beat(&self) {
        let (now, rate) = self.jiffies;
        self.guard.beat(now + SILENCE.as_secs() * rate);
    }

    fn judge_pending(
        &mut self,
        now: &Snapshot,
        answers: Option<Option<Vec<String>>>,
    ) -> Result<(), GuardError> {
        let jiffies = self.jiffies.0;
        let Some(pending) = &mut self.pending else { return Ok(()) };
        if pending.before.is_none() {
            // Taken over from another agent: its gateways answer from now on.
            pending.before = Some(answered(now));
            return Ok(());
        }
        if self.guard.control().is_expired(jiffies) {
            let waited = pending.waits_for.join(", ");
            tracing::error!(
                waited,
                "the set was not confirmed in time: the kernel has gone back to the last confirmed one"
            );
            return self.give_up("deadline").map(drop);
        }
        match answers {
            Some(Some(waiting)) if waiting.is_empty() => {
                if let Err(error) = self.confirm("the agent's checks") {
                    tracing::warn!(%error, "not confirmed");
                }
            }
            Some(Some(waiting)) => (pending.waits_for, pending.checked) = (waiting, true),
            Some(None) => {
                if !std::mem::replace(&mut pending.checked, true) {
                    tracing::warn!(
                        "nothing can be checked (no gateway answers, no --policy-check): run `weirctl policy confirm`"
                    );
                }
                pending.waits_for = vec!["a person: weirctl policy confirm".to_owned()];
            }
            None => {}
        }
        Ok(())
    }

    /// Interfaces or virtual addresses have changed: the same policies mean other rules.
    fn build_again(&mut self) -> Result<(), GuardError> {
        if self.sources.is_empty() {
            return Ok(());
        }
        let sources = self.sources.clone();
        let before = self.guard.control();
        let (slot, open) = self.build(&sources)?;
        let word = match &self.pending {
            Some(pending) => Control::new(slot, before.confirmed(), Some(pending.deadline), open),
            None => Control::new(slot, slot, None, open),
        };
        self.guard.set_control(word)?;
        tracing::debug!(generation = self.generation, "rules made again for other interfaces or addresses");
        Ok(())
    }

    fn read_policies(&mut self, now: &Snapshot) -> Result<(), GuardError> {
        let (read, stamp) = match folder::read_all(&self.settings.places) {
            Ok(read) => read,
            Err(error) => {
                // Rules are not taken away because a folder is not mounted for a moment.
                if self.stamp.take().is_some() || self.unkept.is_none() {
                    tracing::error!(error = chain(&error), "policies cannot be read; those in force stay");
                    self.unkept = Some(chain(&error));
                }
                return Ok(());
            }
        };
        (self.stamp, self.unkept) = (Some(stamp), None);
        for problem in read.problems.iter().filter(|problem| !self.read.problems.contains(problem)) {
            tracing::warn!(file = problem.policy, reason = problem.reason.as_str(), "{}", problem.text);
        }
        self.read = read;
        let wanted = self.read.wanted(&self.sources);
        if wanted == self.sources || self.rejected.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.rejected = None;
        self.put(wanted, now)
    }

    /// Puts policies into force: the confirmed ones at once for good, others with a deadline.
    fn put(&mut self, wanted: Vec<Source>, now: &Snapshot) -> Result<(), GuardError> {
        let confirmed = self.guard.control().confirmed();
        if wanted == self.confirmed.sources {
            self.give_up("superseded")?;
            return Ok(());
        }
        self.generation += 1;
        let saved = Saved { generation: self.generation, sources: wanted };
        self.save(Which::Tried, &saved);
        let (slot, open) = self.build(&saved.sources)?;
        if self.set.rules.is_empty() && !self.set.drop_unparsable {
            // Letting everything pass cuts nobody off.
            self.pending = None;
            self.save(Which::Confirmed, &saved);
            self.confirmed = saved;
            self.guard.set_control(Control::new(0, 0, None, false))?;
            tracing::info!("there are no rules: everything passes");
            return Ok(());
        }
        self.jiffies = self.guard.jiffies()?;
        let deadline =
            self.jiffies.0 + (self.settings.deadline.as_millis() as u64 * self.jiffies.1).div_ceil(1000);
        self.pending =
            Some(Tried { deadline, before: Some(answered(now)), waits_for: Vec::new(), checked: false });
        self.guard.set_control(Control::new(slot, confirmed, Some(deadline), open))?;
        tracing::info!(
            generation = self.generation,
            rules = self.set.rules.len(),
            deadline = ?self.settings.deadline,
            "a new set of rules is in force; the kernel goes back unless it is confirmed"
        );
        Ok(())
    }

    /// Confirms the pending set.
    pub(super) fn confirm(&mut self, who: &str) -> Result<u32, EnforcementError> {
        let not_now = |text: &str| Err(EnforcementError::NotNow(text.to_owned()));
        if self.pending.is_none() {
            return not_now("no set waits to be confirmed");
        }
        let jiffies = self.guard.jiffies().map_err(kernel)?.0;
        let word = self.guard.control();
        if word.is_expired(jiffies + MARGIN_JIFFIES) {
            return not_now("too late: the kernel goes back, or has gone back, to the last confirmed set");
        }
        self.confirmed = Saved { generation: self.generation, sources: self.sources.clone() };
        // First on disk: a node that goes down in between comes up with what was good.
        let confirmed = self.confirmed.clone();
        self.save(Which::Confirmed, &confirmed);
        self.guard
            .set_control(Control::new(word.active(), word.active(), None, self.set.open_when_silent))
            .map_err(kernel)?;
        self.pending = None;
        tracing::info!(generation = self.generation, by = who, "the set of rules is confirmed");
        Ok(self.generation)
    }

    /// Goes back to the confirmed set; `None` where nothing is pending. Its number otherwise.
    pub(super) fn give_up(&mut self, cause: &'static str) -> Result<Option<u32>, GuardError> {
        if self.pending.take().is_none() {
            return Ok(None);
        }
        let slot = self.guard.control().confirmed();
        let (set, problems) = policy::read(&self.confirmed.sources, &self.world);
        self.guard.set_control(Control::new(slot, slot, None, set.open_when_silent))?;
        self.count_revert(cause);
        if cause != "superseded" {
            self.rejected = Some(std::mem::take(&mut self.sources));
        }
        (self.set, self.problems) = (set, problems);
        self.sources.clone_from(&self.confirmed.sources);
        tracing::warn!(
            generation = self.confirmed.generation,
            cause,
            "went back to the last confirmed set of rules"
        );
        Ok(Some(self.confirmed.generation))
    }

    fn count_revert(&mut self, cause: &'static str) {
        *self.reverts.entry(cause).or_default() += 1;
    }

    fn save(&mut self, which: Which, saved: &Saved) {
        let result: Result<(), KeepError> = self.keep.save(which, saved);
        self.unkept = result.err().map(|error| chain(&error));
        if let Some(error) = &self.unkept {
            tracing::error!(error, "the policies would not outlive a reboot");
        }
    }

    pub(super) fn status(&mut self) -> Result<PolicyStatus, GuardError> {
        self.jiffies = self.guard.jiffies()?;
        let (jiffies, rate) = self.jiffies;
        let expired = self.guard.control().is_expired(jiffies);
        let nanos = |ticks: u64| Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / rate.max(1)));
        let pending = self.pending.as_ref().filter(|_| !expired).map(|pending| Pending {
            generation: self.generation,
            left: nanos((pending.deadline & ((1 << 40) - 1)).saturating_sub(jiffies & ((1 << 40) - 1))),
            waits_for: pending.waits_for.clone(),
        });
        let rules = self.guard.counted()?.into_iter().filter_map(|counted| {
            let (policy, rule) = counted.name.split_once('/')?;
            let live = self
                .set
                .rules
                .iter()
                .find(|one| one.policy == policy && one.name == rule && one.mode == counted.mode);
            let count = counted.count;
            if live.is_none() && count.last == 0 {
                return None;
            }
            Some(RuleStatus {
                policy: policy.to_owned(),
                rule: rule.to_owned(),
                mode: counted.mode,
                action: live.map(|rule| rule.action.as_str()),
                direction: live.map(|rule| rule.direction),
                passed: count.passed,
                passed_bytes: count.passed_bytes,
                dropped: count.dropped,
                dropped_bytes: count.dropped_bytes,
                saved: count.saved,
                idle: (count.last != 0).then(|| nanos(jiffies.saturating_sub(count.last))),
            })
        });
        let rules = rules
            .filter(|rule| rule.idle.is_some() || format!("{}/{}", rule.policy, rule.rule) != UNPARSABLE)
            .collect();
        Ok(PolicyStatus {
            active: if expired { self.confirmed.generation } else { self.active() },
            confirmed: self.confirmed.generation,
            pending,
            rules,
            problems: self.read.problems.iter().chain(&self.problems).cloned().collect(),
            reverts: self.reverts.clone(),
            unkept: self.unkept.clone(),
            early: self.early(),
            pairs: self.guard.pairs()?,
            talks: self.mesh.talks(),
        })
    }

    fn early(&self) -> Vec<(String, &'static str)> {
        let named = self.guard.early().into_iter();
        named.filter_map(|(index, mode)| Some((self.world.links.get(&index)?.clone(), mode))).collect()
    }

    fn active(&self) -> u32 {
        match (&self.pending, self.guard.control().is_on()) {
            (_, false) => 0,
            (Some(_), true) => self.generation,
            (None, true) => self.confirmed.generation,
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
