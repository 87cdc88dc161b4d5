//! The steps of a change as types.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Change, Failure, Policy,
    batch::batches,
    record::{Guard, Record},
    sessions,
    verify::{Touched, differences, inverse},
    world::{Fault, Landed, Saved, World},
};
use crate::{
    config::{Command, Kinds, Tree, diff},
    crd::{ChangePhase, ChangeResult},
    secret,
};

/// How long to wait between two looks at something that should come back.
const LOOK: Duration = Duration::from_secs(2);
/// A reading older than this is taken again before anything is sent.
const FRESH: SignedDuration = SignedDuration::from_secs(2);
/// A router that is left alone this long before its own undo is due still has time to answer a confirm.
const MARGIN: SignedDuration = SignedDuration::from_secs(20);

/// What all steps share.
struct Course<'w, W, K> {
    world: &'w W,
    kinds: &'w K,
    change: Change,
    policy: Policy,
    record: Record,
    expected: Tree,
    touched: Touched,
    sessions: BTreeSet<IpAddr>,
    /// The API went away since the commit was sent.
    was_away: AtomicBool,
}

/// The record is written; nothing is sent.
pub(super) struct Recorded<'w, W, K>(Course<'w, W, K>);
/// The undo is armed, or will be by the commit itself.
pub(super) struct Armed<'w, W, K>(Course<'w, W, K>);
/// The router is still what the plan was made against.
pub(super) struct Current<'w, W, K>(Course<'w, W, K>);
/// All of it is live.
pub(super) struct Committed<'w, W, K>(Course<'w, W, K>);
/// It is what it was meant to be.
pub(super) struct Verified<'w, W, K>(Course<'w, W, K>);

/// A change in force: confirmed and saved. Only [`super::apply`] and [`super::resume`] make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its record.
    pub record: Record,
    /// Places that somebody else edited meanwhile.
    pub foreign: Vec<String>,
}

impl<'w, W: World + Sync, K: Kinds + Sync> Recorded<'w, W, K> {
    /// Writes the record.
    pub(super) async fn write(
        world: &'w W,
        change: Change,
        policy: Policy,
        kinds: &'w K,
    ) -> Result<Self, Failure> {
        let commands = change.commands();
        let expected = after(&change.before, &commands, kinds)?;
        let record = record_of(&change, policy, world.now(), &diff(&expected, &change.before, kinds));
        let touched = Touched::by(&commands);
        let sessions = BTreeSet::new();
        let course = Course {
            world,
            kinds,
            change,
            policy,
            record,
            expected,
            touched,
            sessions,
            was_away: AtomicBool::new(false),
        };
        course.keep().await.map_err(|e| Failure::NotSent(e.to_string()))?;
        Ok(Self(course))
    }

    /// Looks at what must not get worse, and arms the dead man's reboot where that is the guard.
    pub(super) async fn arm(mut self) -> Result<Armed<'w, W, K>, Failure> {
        match self.prepare().await {
            Ok(()) => Ok(Armed(self.0)),
            Err(why) => {
                self.0.end(ChangeResult::Failed, &why).await;
                Err(Failure::NotSent(why))
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), String> {
        let course = &mut self.0;
        if sessions::may_reset(&course.change.before, &course.expected, &course.change.commands()) {
            let before = course.world.sessions().await.map_err(|e| e.to_string())?;
            course.sessions = sessions::expected_up(&before, &course.expected);
        }
        match course.policy.guard {
            Guard::Confirm => Ok(()),
            Guard::Reboot => course.set_reboot().await,
        }
    }
}

impl<'w, W: World + Sync, K: Kinds + Sync> Armed<'w, W, K> {
    /// Reads the router again where the plan's own reading is no longer fresh.
    pub(super) async fn look_again(mut self) -> Result<Current<'w, W, K>, Failure> {
        if self.0.is_fresh() {
            return Ok(Current(self.0));
        }
        let failure = match self.0.world.tree().await {
            Ok(running) => match diff(&self.0.change.before, &running, self.0.kinds).first() {
                None => {
                    self.0.change.read_at = self.0.world.now();
                    return Ok(Current(self.0));
                }
                Some(edit) => Failure::Overtaken(edit.path().to_string()),
            },
            Err(fault) => Failure::NotSent(fault.to_string()),
        };
        match self.0.policy.guard {
            Guard::Reboot => Err(self.0.dropped(ChangeResult::Failed, failure).await),
            Guard::Confirm => {
                self.0.end(ChangeResult::Failed, &failure.to_string()).await;
                Err(failure)
            }
        }
    }
}

impl<'w, W: World + Sync, K: Kinds + Sync> Current<'w, W, K> {
    /// Sends the commands, in one commit or in as few as fit.
    pub(super) async fn commit(mut self) -> Result<Committed<'w, W, K>, Failure> {
        self.0.step(ChangePhase::Sent).await?;
        let mut armed_by_commit = self.0.policy.guard == Guard::Reboot;
        let batches = std::mem::take(&mut self.0.change.batches);
        for (sent, batch) in batches.iter().enumerate() {
            if let Some(path) = self.0.edited_meanwhile(&batches, sent).await {
                self.0.touched = Touched::by(&batches[..sent].concat());
                return Err(self.0.undo(Failure::Overtaken(path)).await);
            }
            let minutes = (!armed_by_commit).then_some(self.0.policy.minutes);
            match self.0.send(batch, minutes).await {
                Ok(landed) => armed_by_commit |= landed == Landed::Armed || minutes.is_some(),
                Err(fault) => return self.decide(fault).await,
            }
        }
        self.0.step(ChangePhase::Committed).await?;
        Ok(Committed(self.0))
    }

    /// Something went wrong on the way: the router itself says what is live.
    async fn decide(mut self, fault: Fault) -> Result<Committed<'w, W, K>, Failure> {
        let refused = matches!(fault, Fault::Refused(_) | Fault::NotDone(_));
        let Ok(running) = self.0.steady_tree(refused).await else {
            return Err(self.0.gone(&fault.to_string()).await);
        };
        let missing = differences(&self.0.expected, &running, &self.0.touched, self.0.kinds);
        if missing.ours.is_empty() {
            self.0.step(ChangePhase::Committed).await?;
            return Ok(Committed(self.0));
        }
        let nothing =
            differences(&self.0.change.before, &running, &self.0.touched, self.0.kinds).ours.is_empty();
        match (nothing, &fault) {
            (true, Fault::Refused(why)) => {
                Err(self.0.dropped(ChangeResult::Failed, Failure::Refused(why.clone())).await)
            }
            (true, _) if self.0.was_away.load(Ordering::Relaxed) => {
                self.0.record.phase = ChangePhase::RolledBack;
                let why = "the API went away with the commit, and the router came back without it".to_owned();
                Err(self.0.dropped(ChangeResult::Failed, Failure::RolledBack(why)).await)
            }
            (true, _) => {
                Err(self.0.dropped(ChangeResult::Unknown, Failure::NotSent(fault.to_string())).await)
            }
            (false, Fault::Refused(why)) => Err(self.0.undo(Failure::Refused(why.clone())).await),
            (false, _) => {
                Err(self.0.undo(Failure::RolledBack(format!("only a part of it was live: {fault}"))).await)
            }
        }
    }
}

impl<'w, W: World + Sync, K: Kinds + Sync> Committed<'w, W, K> {
    /// Whole tree, API, sessions, probes.
    pub(super) async fn verify(mut self) -> Result<Verified<'w, W, K>, Failure> {
        let running = match self.0.world.tree().await {
            Ok(running) => running,
            Err(fault) => return Err(self.0.gone(&fault.to_string()).await),
        };
        let found = differences(&self.0.expected, &running, &self.0.touched, self.0.kinds);
        if let Some(path) = found.ours.first() {
            let why = format!("the router does not hold what was sent at `{path}`");
            return Err(self.0.undo(Failure::RolledBack(why)).await);
        }
        if !found.foreign.is_empty() {
            let places: Vec<String> = found.foreign.iter().map(ToString::to_string).collect();
            self.0.record.message = format!("edited by others meanwhile: {}", places.join(", "));
        }
        match self.0.settled().await {
            Ok(()) => {
                self.0.step(ChangePhase::Verified).await?;
                Ok(Verified(self.0))
            }
            Err(Fault::Gone(why)) => Err(self.0.gone(&why).await),
            Err(why) => Err(self.0.undo(Failure::RolledBack(why.to_string())).await),
        }
    }
}

impl<W: World + Sync, K: Kinds + Sync> Verified<'_, W, K> {
    /// Takes the guard away, then saves.
    pub(super) async fn settle(mut self) -> Result<Applied, Failure> {
        let done = match disarm(self.0.world, self.0.policy.guard).await {
            Ok(()) => self.0.world.save().await,
            failed => failed,
        };
        if let Err(fault) = done {
            return Err(self.0.gone(&fault.to_string()).await);
        }
        let foreign = self.0.record.message.strip_prefix("edited by others meanwhile: ").map(str::to_owned);
        self.0.record.phase = ChangePhase::Saved;
        let message = self.0.record.message.clone();
        self.0.end(ChangeResult::Applied, &message).await;
        Ok(Applied { record: self.0.record, foreign: foreign.into_iter().collect() })
    }
}

impl<W: World + Sync, K: Kinds + Sync> Course<'_, W, K> {
    async fn keep(&self) -> Result<(), Fault> {
        self.world.keep(&self.record).await
    }

    async fn step(&mut self, phase: ChangePhase) -> Result<(), Failure> {
        self.record.phase = phase;
        // Without a record a restart would not know of this change: nothing more is sent.
        self.keep().await.map_err(|e| Failure::Unknown(e.to_string()))
    }

    async fn end(&mut self, result: ChangeResult, message: &str) {
        self.record.result = Some(result);
        self.record.ended = Some(self.world.now());
        self.record.message = message.to_owned();
        if let Err(fault) = self.keep().await {
            tracing::error!(change = self.record.name, %fault, "the end of the change is not recorded");
        }
    }

    async fn set_reboot(&mut self) -> Result<(), String> {
        if self.world.reboot_is_set().await.map_err(|e| e.to_string())? {
            return Err("somebody has set a reboot on the router; cancel it or wait for it".to_owned());
        }
        self.record.phase = ChangePhase::Armed;
        self.keep().await.map_err(|e| e.to_string())?;
        match self.world.reboot_in(self.policy.minutes).await {
            Ok(Saved::Clean) => Ok(()),
            Ok(Saved::Dirty) => {
                let cancelled = disarm(self.world, Guard::Reboot).await;
                let why =
                    "the router has unsaved changes that its own undo would lose; save or discard them there";
                Err(cancelled.map_or_else(
                    |e| format!("{why} (and the reboot could not be cancelled: {e})"),
                    |()| why.into(),
                ))
            }
            Err(fault) => {
                // The answer may be lost and the reboot set all the same.
                let cancelled = disarm(self.world, Guard::Reboot).await;
                Err(cancelled.map_or_else(
                    |e| format!("{fault} (and the reboot could not be cancelled: {e})"),
                    |()| fault.to_string(),
                ))
            }
        }
    }

    fn is_fresh(&self) -> bool {
        self.world.now().duration_since(self.change.read_at) <= FRESH
    }

    /// Between two commits: a place of those to come that others have edited since the plan was made.
    async fn edited_meanwhile(&self, batches: &[Vec<Command>], sent: usize) -> Option<String> {
        if sent == 0 {
            return None;
        }
        let so_far = after(&self.change.before, &batches[..sent].concat(), self.kinds).ok()?;
        // A router that cannot be read now is met again by the commit itself.
        let running = self.world.tree().await.ok()?;
        let to_come = Touched::by(&batches[sent..].concat());
        differences(&so_far, &running, &to_come, self.kinds).ours.first().map(ToString::to_string)
    }

    async fn send(&self, batch: &[Command], minutes: Option<u16>) -> Result<Landed, Fault> {
        let started = self.world.now();
        let landed = self.world.commit(batch, minutes).await?;
        if minutes.is_some() && landed == Landed::Plain {
            tracing::warn!(
                router = self.change.router,
                "the router did not arm the commit; verifying at once"
            );
        }
        let took = self.world.now().duration_since(started);
        self.world.measured(batch.len(), took.unsigned_abs());
        Ok(landed)
    }

    /// Reads the tree; where a commit may still be running, until two reads agree.
    async fn steady_tree(&self, known_ended: bool) -> Result<Tree, Fault> {
        let mut last = self.reachable_tree().await?;
        if known_ended {
            return Ok(last);
        }
        loop {
            self.world.sleep(LOOK).await;
            let now = self.reachable_tree().await?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Reads the tree, trying until the router's own undo comes near.
    async fn reachable_tree(&self) -> Result<Tree, Fault> {
        loop {
            match self.world.tree().await {
                Err(fault) if self.near_deadline() => return Err(fault),
                Err(fault) => {
                    self.was_away.fetch_or(matches!(fault, Fault::Gone(_)), Ordering::Relaxed);
                    self.world.sleep(LOOK).await;
                }
                tree => return tree,
            }
        }
    }

    fn near_deadline(&self) -> bool {
        self.world.now() + MARGIN >= self.record.deadline
    }

    /// Waits until sessions and probes are back, as long as the policy gives.
    async fn settled(&self) -> Result<(), Fault> {
        let until = self.world.now() + SignedDuration::try_from(self.policy.settle).unwrap_or_default();
        loop {
            let missing = self.missing().await?;
            if missing.is_empty() {
                return Ok(());
            }
            if self.world.now() >= until || self.near_deadline() {
                return Err(Fault::Refused(missing.join("; ")));
            }
            self.world.sleep(LOOK).await;
        }
    }

    async fn missing(&self) -> Result<Vec<String>, Fault> {
        let mut missing = self.world.silent_probes().await;
        if !self.sessions.is_empty() {
            let up = self.world.sessions().await?;
            missing
                .extend((&self.sessions - &up).iter().map(|p| format!("the BGP session with {p} is down")));
        }
        Ok(missing)
    }

    /// Brings the touched places back, and takes the guard away once they are.
    async fn undo(&mut self, failure: Failure) -> Failure {
        let undone = self.bring_back().await;
        match undone {
            Ok(()) => {
                self.record.phase = ChangePhase::RolledBack;
                self.dropped(ChangeResult::Failed, failure).await
            }
            Err(Fault::Refused(why)) => {
                // The guard stays: the router's own undo is what is left, and `resume` waits for it.
                let why = format!("{failure}; and the router refused the undo as well: {why}");
                self.record.result = Some(ChangeResult::Failed);
                self.record.message = why.clone();
                let _ = self.keep().await;
                Failure::Unknown(why)
            }
            Err(fault) => self.gone(&fault.to_string()).await,
        }
    }

    async fn bring_back(&self) -> Result<(), Fault> {
        let running = self.reachable_tree().await?;
        let undo = inverse(&running, &self.change.before, &self.touched, self.kinds);
        for batch in batches(&undo, self.world.pace()) {
            self.world.commit(&batch, None).await?;
        }
        let running = self.reachable_tree().await?;
        match differences(&self.change.before, &running, &self.touched, self.kinds).ours.first() {
            None => Ok(()),
            Some(path) => Err(Fault::Refused(format!("`{path}` is not what it was"))),
        }
    }

    /// Nothing of it is live: takes the guard away and ends the record.
    async fn dropped(&mut self, result: ChangeResult, failure: Failure) -> Failure {
        // Some versions leave the timer of a failed commit running.
        match disarm(self.world, self.policy.guard).await {
            Ok(()) => self.end(result, &failure.to_string()).await,
            Err(fault) => {
                self.record.message = format!("{failure}; the guard is still armed: {fault}");
                let _ = self.keep().await;
            }
        }
        failure
    }

    /// The API is away: the record stays open, so that the next look ends it.
    async fn gone(&mut self, why: &str) -> Failure {
        self.record.result = Some(ChangeResult::Unknown);
        self.record.message = why.to_owned();
        let _ = self.keep().await;
        Failure::Gone(why.to_owned())
    }
}

/// Takes a guard away.
pub(super) async fn disarm<W: World>(world: &W, guard: Guard) -> Result<(), Fault> {
    match guard {
        Guard::Confirm => world.confirm().await,
        Guard::Reboot => world.reboot_cancel().await,
    }
}

fn after<K: Kinds>(before: &Tree, commands: &[Command], kinds: &K) -> Result<Tree, Failure> {
    let mut tree = before.clone();
    for command in commands {
        tree.apply(command, kinds).map_err(|e| Failure::NotSent(e.to_string()))?;
    }
    Ok(tree)
}

fn record_of(change: &Change, policy: Policy, now: Timestamp, undo: &[Command]) -> Record {
    let shown = |commands: &[Command]| commands.iter().map(|c| secret::redacted(c).to_string()).collect();
    Record {
        name: change.name.clone(),
        router: change.router.clone(),
        plan_hash: change.plan_hash.clone(),
        commands: shown(&change.commands()),
        undo: shown(undo),
        owners: change.owners.clone(),
        guard: policy.guard,
        started: now,
        deadline: now + SignedDuration::from_mins(i64::from(policy.minutes)),
        phase: ChangePhase::Planned,
        result: None,
        ended: None,
        message: String::new(),
    }
}
