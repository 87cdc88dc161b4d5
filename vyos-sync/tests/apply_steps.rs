//! The apply state machine against a model of a router: every fault at every step, crashes, lost replies, reboots.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be done fails the test")]

use std::{collections::BTreeSet, net::IpAddr, sync::Mutex, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use vyos_sync::{
    apply::{self, Change, Failure, Fault, Found, Guard, Landed, Pace, Policy, Record, Saved, World},
    config::{Command, ConfigPath, Tree, Untyped, diff},
    crd::{ChangePhase, ChangeResult},
};

/// What goes wrong at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The process dies before the call has its effect.
    CrashBefore,
    /// The process dies right after.
    CrashAfter,
    /// The effect happens, the reply is lost.
    LoseReply,
    /// The request never arrives.
    Unreachable,
    /// A commit is refused after half of its commands became live.
    HalfApply,
    /// A commit is refused as a whole.
    Refuse,
    /// The API dies with the commit and stays away.
    CutOff,
}

#[derive(Debug)]
struct State {
    running: Tree,
    saved: Tree,
    timer: Option<Timestamp>,
    reboot: Option<Timestamp>,
    now: Timestamp,
    call: usize,
    trouble: Option<(usize, Trouble)>,
    crashed: bool,
    /// The API is away until then.
    cut_off: Option<Timestamp>,
    record: Option<Record>,
    sessions: BTreeSet<IpAddr>,
    probes: Vec<String>,
    commits: usize,
    session_reads: usize,
    /// The next commit takes all sessions down.
    commit_cuts_sessions: bool,
    /// What somebody else sets right after the next commit.
    edit_after_commit: Option<(ConfigPath, String)>,
}

struct Model {
    guard: Guard,
    state: Mutex<State>,
}

impl Model {
    fn new(running: &Tree, guard: Guard) -> Self {
        let state = State {
            running: running.clone(),
            saved: running.clone(),
            timer: None,
            reboot: None,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            call: 0,
            trouble: None,
            crashed: false,
            cut_off: None,
            record: None,
            sessions: BTreeSet::new(),
            probes: Vec::new(),
            commits: 0,
            session_reads: 0,
            commit_cuts_sessions: false,
            edit_after_commit: None,
        };
        Self { guard, state: Mutex::new(state) }
    }

    fn with(self, call: usize, trouble: Trouble) -> Self {
        self.state.lock().unwrap().trouble = Some((call, trouble));
        self
    }

    /// One call: its effect, and what may go wrong with it.
    fn call<T>(&self, effect: impl FnOnce(&mut State) -> Result<T, Fault>) -> Result<T, Fault> {
        let state = &mut *self.state.lock().unwrap();
        state.pass(Duration::from_millis(100));
        if state.crashed {
            return Err(Fault::NotDone("crashed".into()));
        }
        let number = state.call;
        state.call += 1;
        let trouble = state.trouble.filter(|(at, _)| *at == number).map(|(_, t)| t);
        match trouble {
            Some(Trouble::CrashBefore) => {
                state.crashed = true;
                return Err(Fault::NotDone("crashed".into()));
            }
            Some(Trouble::Unreachable) => return Err(Fault::NotDone("unreachable".into())),
            _ if state.cut_off.is_some() => return Err(Fault::Gone("no route".into())),
            _ => {}
        }
        let done = effect(state);
        match trouble {
            Some(Trouble::CrashAfter) => {
                state.crashed = true;
                Err(Fault::NotDone("crashed".into()))
            }
            Some(Trouble::LoseReply) => Err(Fault::Unknown("reply lost".into())),
            Some(Trouble::CutOff) => {
                state.cut_off = Some(state.now + SignedDuration::from_secs(390));
                Err(Fault::Unknown("reply lost".into()))
            }
            _ => done,
        }
    }

    fn trouble_now(state: &State) -> Option<Trouble> {
        state.trouble.filter(|(at, _)| *at + 1 == state.call).map(|(_, t)| t)
    }

    fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock().unwrap())
    }
}

impl State {
    fn pass(&mut self, time: Duration) {
        self.now += SignedDuration::try_from(time).unwrap();
        if self.timer.is_some_and(|t| t <= self.now) || self.reboot.is_some_and(|t| t <= self.now) {
            self.running = self.saved.clone();
            (self.timer, self.reboot, self.cut_off) = (None, None, None);
        }
        self.cut_off = self.cut_off.filter(|until| *until > self.now);
    }
}

impl World for Model {
    async fn tree(&self) -> Result<Tree, Fault> {
        self.call(|s| Ok(s.running.clone()))
    }
    async fn commit(&self, commands: &[Command], minutes: Option<u16>) -> Result<Landed, Fault> {
        self.call(|s| {
            s.commits += 1;
            let trouble = Self::trouble_now(s);
            let live = match trouble {
                Some(Trouble::Refuse) => 0,
                Some(Trouble::HalfApply) => commands.len() / 2,
                _ => commands.len(),
            };
            for command in &commands[..live] {
                s.running.apply(command, &Untyped).unwrap();
            }
            if std::mem::take(&mut s.commit_cuts_sessions) {
                s.sessions.clear();
            }
            if let Some((path, value)) = s.edit_after_commit.take() {
                s.running.set(&path, value).unwrap();
            }
            if let Some(minutes) = minutes {
                assert!(s.timer.is_none(), "a second timer was armed");
                s.timer = Some(s.now + SignedDuration::from_mins(minutes.into()));
            }
            match (trouble, minutes) {
                (Some(Trouble::Refuse | Trouble::HalfApply), _) => {
                    Err(Fault::Refused("Commit failed".into()))
                }
                (_, Some(_)) => Ok(Landed::Armed),
                (_, None) => Ok(Landed::Plain),
            }
        })
    }
    async fn confirm(&self) -> Result<(), Fault> {
        self.call(|s| {
            s.timer = None;
            Ok(())
        })
    }
    async fn save(&self) -> Result<(), Fault> {
        self.call(|s| {
            s.saved = s.running.clone();
            Ok(())
        })
    }
    async fn reboot_is_set(&self) -> Result<bool, Fault> {
        self.call(|s| Ok(s.reboot.is_some()))
    }
    async fn reboot_in(&self, minutes: u16) -> Result<Saved, Fault> {
        self.call(|s| {
            s.reboot = Some(s.now + SignedDuration::from_mins(minutes.into()));
            Ok(if s.running == s.saved { Saved::Clean } else { Saved::Dirty })
        })
    }
    async fn reboot_cancel(&self) -> Result<(), Fault> {
        self.call(|s| {
            s.reboot = None;
            Ok(())
        })
    }
    async fn sessions(&self) -> Result<BTreeSet<IpAddr>, Fault> {
        self.call(|s| {
            s.session_reads += 1;
            Ok(s.sessions.clone())
        })
    }
    async fn silent_probes(&self) -> Vec<String> {
        self.look(|s| s.probes.clone())
    }
    async fn keep(&self, record: &Record) -> Result<(), Fault> {
        self.call(|s| {
            s.record = Some(record.clone());
            Ok(())
        })
    }
    fn pace(&self) -> Pace {
        Pace::default()
    }
    fn measured(&self, _: usize, _: Duration) {}
    fn now(&self) -> Timestamp {
        self.look(|s| s.now)
    }
    async fn sleep(&self, time: Duration) {
        self.state.lock().unwrap().pass(time);
    }
}

const BEFORE: &str = "interfaces ethernet eth1 vif 10 address 10.0.10.1/24\nsystem host-name gw";

fn tree(lines: &str) -> Tree {
    let mut tree = Tree::new();
    for line in lines.lines() {
        let (path, value) = line.rsplit_once(' ').unwrap();
        tree.add(&path.parse().unwrap(), value).unwrap();
    }
    tree
}

fn after() -> Tree {
    tree(&format!(
        "{BEFORE}\ninterfaces ethernet eth1 vif 20 address 10.0.20.1/24\nnat source rule 100 protocol tcp"
    ))
}

fn change(model: &Model, desired: &Tree) -> Change {
    let before = model.look(|s| s.running.clone());
    Change {
        name: "gw-1".into(),
        router: "gw".into(),
        plan_hash: "hash".into(),
        batches: vec![diff(&before, desired, &Untyped)],
        before,
        read_at: model.now(),
        owners: Vec::new(),
    }
}

fn run(model: &Model, desired: &Tree) -> Result<apply::Applied, Failure> {
    let policy = Policy { guard: model.guard, minutes: 5, settle: Duration::from_secs(10) };
    futures::executor::block_on(apply::apply(model, change(model, desired), policy, &Untyped))
}

/// What a controller does until the router holds what is wanted: end the open change, plan, apply.
fn converge(model: &Model, desired: &Tree) -> usize {
    for round in 0..5 {
        {
            let mut s = model.state.lock().unwrap();
            (s.crashed, s.trouble) = (false, None);
            // A router that is cut off comes back, by its own undo at the latest.
            if s.cut_off.is_some() {
                s.pass(Duration::from_secs(400));
            }
        }
        let in_force = model.look(|s| s.running == *desired);
        if let Some(record) = model.look(|s| s.record.clone().filter(Record::is_open)) {
            let found = if in_force { Found::InForce } else { Found::Wanting };
            let ended = futures::executor::block_on(apply::resume(model, record, found));
            if ended.is_err() {
                model.state.lock().unwrap().pass(Duration::from_secs(400));
                continue;
            }
        } else if in_force {
            return round;
        }
        if !model.look(|s| s.running == *desired) {
            let _ = run(model, desired);
        }
    }
    panic!("no convergence: {:?}", model.state.lock().unwrap());
}

#[test]
fn a_change_is_armed_verified_confirmed_and_saved() {
    for guard in [Guard::Confirm, Guard::Reboot] {
        let model = Model::new(&tree(BEFORE), guard);
        let applied = run(&model, &after()).unwrap();
        assert_eq!(applied.record.phase, ChangePhase::Saved);
        model.look(|s| {
            assert_eq!((&s.running, &s.saved), (&after(), &after()));
            assert_eq!((s.timer, s.reboot, s.commits), (None, None, 1));
            assert_eq!(s.record.as_ref().unwrap().result, Some(ChangeResult::Applied));
        });
    }
}

#[test]
fn a_refused_change_leaves_nothing_behind() {
    for trouble in [Trouble::Refuse, Trouble::HalfApply] {
        // Calls of a confirmed change: keep, keep(Sent), commit.
        let model = Model::new(&tree(BEFORE), Guard::Confirm).with(2, trouble);
        let failure = run(&model, &after()).unwrap_err();
        assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
        model.look(|s| {
            assert_eq!(s.running, tree(BEFORE), "{trouble:?}");
            assert_eq!(s.timer, None, "the timer of a failed commit is taken away");
            assert!(!s.record.as_ref().unwrap().is_open());
        });
    }
}

#[test]
fn a_lost_reply_is_not_a_failure() {
    let model = Model::new(&tree(BEFORE), Guard::Confirm).with(2, Trouble::LoseReply);
    assert!(run(&model, &after()).is_ok());
    model.look(|s| assert_eq!((s.commits, &s.saved), (1, &after())));
}

#[test]
fn a_cut_off_router_reverts_by_itself_and_the_plan_is_quarantined() {
    for (guard, commit) in [(Guard::Confirm, 2), (Guard::Reboot, 5)] {
        let model = Model::new(&tree(BEFORE), guard).with(commit, Trouble::CutOff);
        let failure = run(&model, &after()).unwrap_err();
        assert!(matches!(failure, Failure::Gone(_)), "{failure:?}");
        model.state.lock().unwrap().pass(Duration::from_secs(400));
        let record = model.look(|s| s.record.clone().unwrap());
        assert!(record.is_open());
        futures::executor::block_on(apply::resume(&model, record, Found::Wanting)).unwrap();
        model.look(|s| {
            let record = s.record.as_ref().unwrap();
            assert_eq!((record.phase, record.result), (ChangePhase::RolledBack, Some(ChangeResult::Failed)));
            assert_eq!(s.running, tree(BEFORE));
        });
    }
}

#[test]
fn an_edit_between_reading_and_sending_is_seen() {
    for guard in [Guard::Confirm, Guard::Reboot] {
        let model = Model::new(&tree(BEFORE), guard);
        let change = change(&model, &after());
        let edited = tree(&format!("{BEFORE}\nnat source rule 100 protocol udp"));
        model.state.lock().unwrap().running = edited.clone();
        // The router is saved, so that nothing else stands in the way.
        model.state.lock().unwrap().saved = edited.clone();
        model.state.lock().unwrap().pass(Duration::from_secs(3));
        let policy = Policy { guard, minutes: 5, settle: Duration::from_secs(10) };
        let failure =
            futures::executor::block_on(apply::apply(&model, change, policy, &Untyped)).unwrap_err();
        assert!(matches!(&failure, Failure::Overtaken(path) if path.contains("rule 100")), "{failure:?}");
        model.look(|s| {
            assert_eq!((&s.running, s.commits, s.timer, s.reboot), (&edited, 0, None, None));
            assert!(!s.record.as_ref().unwrap().is_open());
        });
    }
}

#[test]
fn an_edit_between_two_commits_stops_the_change_and_stays() {
    let model = Model::new(&tree(BEFORE), Guard::Confirm);
    let mut change = change(&model, &after());
    change.batches = change.batches.concat().into_iter().map(|command| vec![command]).collect();
    assert_eq!(change.batches.len(), 2);
    let theirs = change.batches[1][0].path().clone();
    model.state.lock().unwrap().edit_after_commit = Some((theirs.clone(), "udp".to_owned()));
    let policy = Policy { guard: Guard::Confirm, minutes: 5, settle: Duration::from_secs(10) };
    let failure = futures::executor::block_on(apply::apply(&model, change, policy, &Untyped)).unwrap_err();
    assert!(matches!(failure, Failure::Overtaken(_)), "{failure:?}");
    model.look(|s| {
        let mut left = tree(BEFORE);
        left.set(&theirs, "udp").unwrap();
        assert_eq!((&s.running, s.timer), (&left, None));
    });
}

#[test]
fn sessions_are_read_only_where_they_may_be_reset() {
    let bgp =
        "protocols bgp neighbor 10.0.10.9 remote-as 65001\nprotocols bgp neighbor 10.0.10.9 description a";
    let before = tree(&format!("{BEFORE}\n{bgp}"));
    let reads = |desired: &str| {
        let model = Model::new(&before, Guard::Confirm);
        model.state.lock().unwrap().sessions = BTreeSet::from(["10.0.10.9".parse().unwrap()]);
        run(&model, &tree(desired)).unwrap();
        model.look(|s| s.session_reads)
    };
    let more = format!("{BEFORE}\n{bgp}\nprotocols bgp neighbor 10.0.10.8 remote-as 65001");
    assert_eq!(reads(&more), 0, "a new peer resets no other");
    assert_eq!(reads(&format!("{BEFORE}\n{}", bgp.replace("65001", "65002"))), 2, "before and after");
}

#[test]
fn a_session_that_does_not_come_back_undoes_the_change() {
    let bgp = "protocols bgp neighbor 10.0.10.9 remote-as 65001";
    let before = tree(&format!("{BEFORE}\n{bgp}"));
    let model = Model::new(&before, Guard::Confirm);
    {
        let mut state = model.state.lock().unwrap();
        state.sessions = BTreeSet::from(["10.0.10.9".parse().unwrap()]);
        state.commit_cuts_sessions = true;
    }
    let failure = run(&model, &tree(&format!("{BEFORE}\n{}", bgp.replace("65001", "65002")))).unwrap_err();
    assert!(matches!(&failure, Failure::RolledBack(why) if why.contains("10.0.10.9")), "{failure:?}");
    model.look(|s| assert_eq!((&s.running, s.timer), (&before, None)));
}

#[test]
fn a_silent_probe_undoes_the_change() {
    let model = Model::new(&tree(BEFORE), Guard::Confirm);
    model.state.lock().unwrap().probes = vec!["dns does not answer".into()];
    let failure = run(&model, &after()).unwrap_err();
    assert!(matches!(&failure, Failure::RolledBack(why) if why.contains("dns")), "{failure:?}");
    model.look(|s| assert_eq!((&s.running, s.timer), (&tree(BEFORE), None)));
}

#[test]
fn unsaved_changes_of_others_are_not_put_at_risk() {
    let model = Model::new(&tree(BEFORE), Guard::Reboot);
    model.state.lock().unwrap().saved = tree("system host-name old");
    let failure = run(&model, &after()).unwrap_err();
    assert!(matches!(&failure, Failure::NotSent(why) if why.contains("unsaved")), "{failure:?}");
    model.look(|s| assert_eq!((s.reboot, s.commits), (None, 0)));
}

#[test]
fn a_reboot_set_by_others_is_left_alone() {
    let model = Model::new(&tree(BEFORE), Guard::Reboot);
    let theirs = model.now() + SignedDuration::from_hours(1);
    model.state.lock().unwrap().reboot = Some(theirs);
    assert!(matches!(run(&model, &after()), Err(Failure::NotSent(_))));
    model.look(|s| assert_eq!(s.reboot, Some(theirs)));
}

const TROUBLES: [Trouble; 7] = [
    Trouble::CrashBefore,
    Trouble::CrashAfter,
    Trouble::LoseReply,
    Trouble::Unreachable,
    Trouble::HalfApply,
    Trouble::Refuse,
    Trouble::CutOff,
];

#[test]
fn any_trouble_at_any_step_converges() {
    for guard in [Guard::Confirm, Guard::Reboot] {
        let clean = Model::new(&tree(BEFORE), guard);
        run(&clean, &after()).unwrap();
        let calls = clean.look(|s| s.call);
        assert!(calls >= 8, "{calls}");
        for call in 0..calls {
            for trouble in TROUBLES {
                let model = Model::new(&tree(BEFORE), guard).with(call, trouble);
                let _ = run(&model, &after());
                converge(&model, &after());
                model.look(|s| {
                    assert_eq!(s.running, after(), "{guard:?} {trouble:?} at {call}");
                    assert_eq!(s.saved, after(), "{guard:?} {trouble:?} at {call}: not saved");
                    assert_eq!(
                        (s.timer, s.reboot),
                        (None, None),
                        "{guard:?} {trouble:?} at {call}: still armed"
                    );
                });
            }
        }
    }
}

fn lines() -> impl Strategy<Value = Tree> {
    let line = (0..4u8, 10..16u8, 0..3u8).prop_map(|(eth, vif, last)| {
        format!("interfaces ethernet eth{eth} vif {vif} address 10.{vif}.0.{last}/24")
    });
    proptest::collection::vec(line, 0..12).prop_map(|lines| tree(&lines.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_two_troubles_converge(before in lines(), wanted in lines(), at in 0..16usize, which in 0..7usize, reboot: bool) {
        let guard = if reboot { Guard::Reboot } else { Guard::Confirm };
        let model = Model::new(&before, guard).with(at, TROUBLES[which]);
        let _ = run(&model, &wanted);
        converge(&model, &wanted);
        model.look(|s| {
            prop_assert_eq!(&s.running, &wanted);
            prop_assert_eq!((s.timer, s.reboot), (None, None));
            Ok(())
        })?;
    }
}
