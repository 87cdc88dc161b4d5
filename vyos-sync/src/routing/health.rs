//! The gate: a node that says it cannot carry traffic is drained, within a budget, slowly enough, and comes back by itself.
//!
//! A word that is lost changes nothing: who was drained stays so, who was not stays in service. The last path is never
//! drained, and no more than a share of a cluster's nodes is at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use weir_api::{Carries, Routing};

use crate::inputs::{ClusterName, NodeKey, NodeWord, Object};

/// How far the gate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most nodes of a cluster that are drained at once, in percent; rounded down, and never all.
    pub percent: u8,
    /// So long a node says that it cannot carry traffic before it is drained.
    pub bad_for: SignedDuration,
    /// So long a drained node says that it can before it is back in service.
    pub good_for: SignedDuration,
}

/// The nodes that are paths of the router, by cluster.
pub type Nodes = BTreeMap<ClusterName, BTreeSet<String>>;

/// What the gate remembers. It is kept, so that a restart changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Nodes by `cluster/name`.
    nodes: BTreeMap<String, Memory>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    drained: bool,
    /// The newest report, as its own time says; it only changes.
    report: Option<String>,
    /// When that was first seen, by our clock.
    heard: Timestamp,
    /// Since when the reports say the same.
    since: Timestamp,
    bad: bool,
}

/// What the gate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Nodes to drain, or to keep drained, with the reason.
    pub drained: BTreeMap<NodeKey, String>,
    /// Nodes that would be drained if the budget allowed it.
    pub over_budget: BTreeSet<NodeKey>,
    /// Nodes whose word is lost: they stay as they are.
    pub silent: BTreeSet<NodeKey>,
    /// When to look again, if nothing happens before.
    pub again: Option<Timestamp>,
}

/// Three reports may be lost before a word is.
const PATIENCE: i64 = 3;
/// How often a report is due where it does not say.
const DUE: i64 = 30;

impl Gate {
    /// Judges all nodes. `taken` are those that are drained for another reason: they count against the budget.
    pub fn judge(
        &mut self,
        words: &[Object<NodeWord>],
        nodes: &Nodes,
        taken: &BTreeSet<NodeKey>,
        limits: Limits,
        now: Timestamp,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let by_node: BTreeMap<NodeKey, &NodeWord> =
            words.iter().map(|word| ((word.id.cluster.clone(), word.id.name.clone()), &word.spec)).collect();
        self.nodes.retain(|key, _| by_node.keys().any(|(cluster, node)| *key == label(cluster, node)));
        let mut wishes = BTreeMap::<&ClusterName, Vec<Wish>>::new();
        for (key, word) in &by_node {
            if nodes.get(&key.0).is_none_or(|all| !all.contains(&key.1)) || taken.contains(key) {
                continue;
            }
            let wish = self.wish(key, word, limits, now, &mut verdict);
            wishes.entry(&key.0).or_default().extend(wish);
        }
        for (cluster, wishes) in wishes {
            let total = nodes.get(cluster).map_or(0, BTreeSet::len);
            let gone = taken.iter().filter(|(of, _)| of == cluster).count();
            self.spend(wishes, allowed(total, limits.percent).saturating_sub(gone), &mut verdict);
        }
        verdict
    }

    /// Whether a node should be drained, by its word alone.
    fn wish(
        &mut self,
        key: &NodeKey,
        word: &NodeWord,
        limits: Limits,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Option<Wish> {
        let bad = match (word.routing, word.carries) {
            (Routing::Drained, _) | (Routing::FollowHealth, Carries::No) => true,
            (Routing::InService, _) | (_, Carries::Yes | Carries::Degraded | Carries::Unknown) => false,
        };
        let unsure = word.routing == Routing::FollowHealth && word.carries == Carries::Unknown;
        let memory = self.nodes.entry(label(&key.0, &key.1)).or_insert_with(|| Memory {
            drained: false,
            report: word.reported_at.clone(),
            heard: now,
            since: now,
            bad,
        });
        if memory.report != word.reported_at {
            (memory.report, memory.heard) = (word.reported_at.clone(), now);
        }
        let by_hand = word.routing != Routing::FollowHealth;
        let due = i64::from(word.report_seconds.unwrap_or(0)).max(if word.report_seconds.is_some() {
            1
        } else {
            DUE
        });
        let lost_at =
            memory.heard.checked_add(SignedDuration::from_secs(due * PATIENCE)).unwrap_or(Timestamp::MAX);
        let silent = !by_hand && (now >= lost_at || unsure);
        if silent {
            verdict.silent.insert(key.clone());
        } else if memory.bad != bad {
            (memory.bad, memory.since) = (bad, now);
        }
        let reason = word.reason.clone().unwrap_or_else(|| "it cannot carry traffic".to_owned());
        let (since, was) = (memory.since, memory.drained);
        let wish = |drained: bool| drained.then(|| Wish { key: key.clone(), since, was, reason, by_hand });
        if silent {
            return wish(memory.drained);
        }
        let wait = match (by_hand, bad) {
            (true, _) => SignedDuration::ZERO,
            (false, true) => limits.bad_for,
            (false, false) => limits.good_for,
        };
        let due = memory.since.checked_add(wait).unwrap_or(now);
        let turns = memory.drained != bad && now >= due;
        if memory.drained != bad && !turns {
            look_again(verdict, due);
        }
        if !by_hand && bad != memory.drained {
            look_again(verdict, lost_at);
        }
        wish(if turns { bad } else { memory.drained })
    }

    /// Drains within the budget: who is drained already first, then who has been bad for longest.
    fn spend(&mut self, mut wishes: Vec<Wish>, budget: usize, verdict: &mut Verdict) {
        wishes.sort_by(|a, b| {
            let rank = |wish: &Wish| (!wish.by_hand, !wish.was, wish.since);
            rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key))
        });
        let kept: BTreeSet<String> =
            wishes.iter().take(budget).map(|wish| label(&wish.key.0, &wish.key.1)).collect();
        let cluster = wishes.first().map(|wish| format!("{}/", wish.key.0));
        for (name, memory) in &mut self.nodes {
            if cluster.as_ref().is_some_and(|cluster| name.starts_with(cluster)) {
                memory.drained = kept.contains(name);
            }
        }
        for (at, wish) in wishes.into_iter().enumerate() {
            match at < budget {
                true => drop(verdict.drained.insert(wish.key, wish.reason)),
                false => drop(verdict.over_budget.insert(wish.key)),
            }
        }
    }
}

struct Wish {
    key: NodeKey,
    since: Timestamp,
    was: bool,
    reason: String,
    by_hand: bool,
}

fn look_again(verdict: &mut Verdict, at: Timestamp) {
    verdict.again = Some(verdict.again.map_or(at, |before| before.min(at)));
}

fn label(cluster: &ClusterName, node: &str) -> String {
    format!("{cluster}/{node}")
}

/// How many of so many nodes may be drained: the share, rounded down, and never all.
fn allowed(total: usize, percent: u8) -> usize {
    (total * usize::from(percent.min(100)) / 100).min(total.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{Kind, ObjectId};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        percent: 50,
        bad_for: SignedDuration::from_secs(10),
        good_for: SignedDuration::from_secs(60),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn nodes(names: &[&str]) -> Nodes {
        BTreeMap::from([(ClusterName::local(), names.iter().map(|name| (*name).to_owned()).collect())])
    }

    fn word(name: &str, carries: Carries, reported: i64) -> Object<NodeWord> {
        Object {
            id: ObjectId {
                kind: Kind::NodeDatapath,
                cluster: ClusterName::local(),
                namespace: None,
                name: name.to_owned(),
            },
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            deleting: false,
            spec: NodeWord {
                carries,
                reported_at: Some(reported.to_string()),
                report_seconds: Some(20),
                ..NodeWord::default()
            },
        }
    }

    /// All nodes report at `now`.
    fn judge(gate: &mut Gate, words: &[(&str, Carries)], all: &[&str], now: i64) -> Verdict {
        let words: Vec<_> = words.iter().map(|(name, carries)| word(name, *carries, now)).collect();
        gate.judge(&words, &nodes(all), &BTreeSet::new(), LIMITS, at(now))
    }

    fn drained(verdict: &Verdict) -> Vec<&str> {
        verdict.drained.keys().map(|(_, node)| node.as_str()).collect()
    }

    const ALL: [&str; 4] = ["a", "b", "c", "d"];

    #[test]
    fn bad_for_long_enough_is_drained_and_good_for_long_enough_is_back() {
        let mut gate = Gate::default();
        let first = judge(&mut gate, &[("a", Carries::No)], &ALL, 0);
        assert_eq!((drained(&first).len(), first.again), (0, Some(at(10))));
        assert_eq!(drained(&judge(&mut gate, &[("a", Carries::Yes)], &ALL, 5)).len(), 0);
        assert_eq!(
            drained(&judge(&mut gate, &[("a", Carries::No)], &ALL, 8)).len(),
            0,
            "the clock starts anew"
        );
        assert_eq!(drained(&judge(&mut gate, &[("a", Carries::No)], &ALL, 18)), ["a"]);
        assert_eq!(drained(&judge(&mut gate, &[("a", Carries::Yes)], &ALL, 20)), ["a"]);
        assert_eq!(drained(&judge(&mut gate, &[("a", Carries::Degraded)], &ALL, 79)), ["a"]);
        assert_eq!(drained(&judge(&mut gate, &[("a", Carries::Yes)], &ALL, 80)).len(), 0);
    }

    #[test]
    fn a_lost_word_changes_nothing() {
        let mut gate = Gate::default();
        judge(&mut gate, &[("a", Carries::No), ("b", Carries::Yes)], &ALL, 0);
        assert_eq!(drained(&judge(&mut gate, &[("a", Carries::No), ("b", Carries::Yes)], &ALL, 10)), ["a"]);
        // No report for a minute: a stays drained and b in service, whatever the last words were.
        let words = [word("a", Carries::Yes, 10), word("b", Carries::No, 10)];
        let verdict = gate.judge(&words, &nodes(&ALL), &BTreeSet::new(), LIMITS, at(5_000));
        assert_eq!((drained(&verdict), verdict.silent.len()), (vec!["a"], 2));
        let kept: Gate = serde_json::from_str(&serde_json::to_string(&gate).unwrap()).unwrap();
        assert_eq!(kept, gate);
    }

    #[test]
    fn the_budget_holds_and_the_last_path_is_never_drained() {
        let mut gate = Gate::default();
        let all_bad: Vec<_> = ALL.iter().map(|name| (*name, Carries::No)).collect();
        judge(&mut gate, &all_bad, &ALL, 0);
        let verdict = judge(&mut gate, &all_bad, &ALL, 10);
        assert_eq!((drained(&verdict), verdict.over_budget.len()), (vec!["a", "b"], 2));
        let mut alone = Gate::default();
        judge(&mut alone, &[("a", Carries::No)], &["a"], 0);
        assert!(drained(&judge(&mut alone, &[("a", Carries::No)], &["a"], 100)).is_empty());
    }

    #[test]
    fn a_machine_that_leaves_counts_against_the_budget() {
        let mut gate = Gate::default();
        let leaving =
            BTreeSet::from([(ClusterName::local(), "d".to_owned()), (ClusterName::local(), "c".to_owned())]);
        for now in [0, 10] {
            let verdict = gate.judge(&[word("a", Carries::No, now)], &nodes(&ALL), &leaving, LIMITS, at(now));
            assert!(verdict.drained.is_empty(), "{verdict:?}");
        }
    }

    #[test]
    fn a_person_decides_at_once() {
        let mut by_hand = word("a", Carries::Yes, 0);
        by_hand.spec.routing = Routing::Drained;
        let mut gate = Gate::default();
        assert_eq!(
            drained(&gate.judge(&[by_hand.clone()], &nodes(&ALL), &BTreeSet::new(), LIMITS, at(0))),
            ["a"]
        );
        by_hand.spec.routing = Routing::InService;
        by_hand.spec.carries = Carries::No;
        assert!(gate.judge(&[by_hand], &nodes(&ALL), &BTreeSet::new(), LIMITS, at(1)).drained.is_empty());
    }

    proptest! {
        /// Whatever the nodes say, in whatever order, a path is left and the share is kept.
        #[test]
        fn never_too_many(said in prop::collection::vec((0usize..6, 0u8..4, 0i64..40), 1..60)) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let (mut gate, mut now) = (Gate::default(), 0);
            let mut words: Vec<_> = names.iter().map(|name| word(name, Carries::Yes, 0)).collect();
            for (node, carries, wait) in said {
                now += wait;
                words[node] = word(names[node], [Carries::Yes, Carries::Degraded, Carries::No, Carries::Unknown][usize::from(carries)], now);
                let verdict = gate.judge(&words, &nodes(&names), &BTreeSet::new(), LIMITS, at(now));
                prop_assert!(verdict.drained.len() <= 3);
            }
        }
    }
}
