//! Which port of which virtual address to ask when. Time and randomness are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::address::{IfIndex, Mac};
use crate::model::cluster::ServicePort;
use crate::model::vip::Answer;

/// Ports that are probed at most; the rest is not, and counts as never asked.
pub const PORTS_MAX: usize = 1_024;

/// How often to probe.
#[derive(Clone, Copy, Debug)]
pub struct VipPlan {
    /// Between two probes of a port.
    pub every: Duration,
    /// Added at random, so that nodes do not probe in step.
    pub jitter: Duration,
    /// After a first probe that failed: the second decides.
    pub again: Duration,
    /// A probe without an answer for this long has failed.
    pub timeout: Duration,
    /// Between any two probes of this node.
    pub gap: Duration,
    /// Probes under way at most.
    pub at_once: usize,
}

impl Default for VipPlan {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            jitter: Duration::from_secs(2),
            again: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            gap: Duration::from_millis(10),
            at_once: 16,
        }
    }
}

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Whether a port of an address takes connections, or, for UDP, is not refused.
    Port(IpAddr, ServicePort),
    /// Who has an address on a link: by ARP or neighbour discovery. The datapath sees who answers.
    WhoHas(IpAddr, IfIndex, Option<Mac>),
}

/// Decides what to ask, and keeps what came of it.
#[derive(Debug)]
pub struct VipProber {
    plan: VipPlan,
    asked: BTreeMap<Question, State>,
    free: Duration,
}

#[derive(Debug)]
struct State {
    due: Duration,
    under_way: bool,
    /// Failures in a row.
    failures: u32,
    answer: Option<Answer>,
}

impl VipProber {
    /// A prober that asks nothing.
    pub fn new(plan: VipPlan) -> Self {
        Self { plan, asked: BTreeMap::new(), free: Duration::ZERO }
    }

    /// Takes the questions that there are now, at most [`PORTS_MAX`]. Answers to others are forgotten.
    pub fn follow(&mut self, wanted: BTreeSet<Question>, now: Duration, random: &mut impl FnMut() -> u64) {
        let wanted: BTreeSet<Question> = wanted.into_iter().take(PORTS_MAX).collect();
        self.asked.retain(|question, _| wanted.contains(question));
        for question in wanted {
            let fresh = || State {
                due: now + share(self.plan.again, random()),
                under_way: false,
                failures: 0,
                answer: None,
            };
            self.asked.entry(question).or_insert_with(fresh);
        }
    }

    /// The next question to ask, if one is due; ask again until there is none.
    pub fn poll(&mut self, now: Duration, random: &mut impl FnMut() -> u64) -> Option<Question> {
        let under_way = self.asked.values().filter(|state| state.under_way).count();
        if now < self.free || under_way >= self.plan.at_once {
            return None;
        }
        let waiting = self.asked.iter_mut().filter(|(_, state)| !state.under_way && state.due <= now);
        let (question, state) = waiting.min_by_key(|(_, state)| state.due)?;
        self.free = now + self.plan.gap;
        state.due = now + self.plan.every + share(self.plan.jitter, random());
        state.under_way = matches!(question, Question::Port(..));
        Some(*question)
    }

    /// When [`Self::poll`] has something to do next, unless an answer comes before.
    pub fn next(&self) -> Option<Duration> {
        let due = self.asked.values().filter(|state| !state.under_way).map(|state| state.due).min();
        due.map(|due| due.max(self.free))
    }

    /// Takes an answer; `None` when this host itself could not ask. Of failures, the second in a row counts.
    pub fn answer(&mut self, question: Question, answer: Option<Answer>, now: Duration) {
        let Some(state) = self.asked.get_mut(&question) else { return };
        state.under_way = false;
        match answer {
            None => {}
            Some(answer) if answer.is_bad() => {
                state.failures += 1;
                if state.failures > 1 {
                    state.answer = Some(answer);
                } else {
                    state.due = now + self.plan.again;
                }
            }
            Some(answer) => (state.failures, state.answer) = (0, Some(answer)),
        }
    }

    /// What is known by now.
    pub fn answers(&self) -> BTreeMap<IpAddr, BTreeMap<ServicePort, Answer>> {
        let mut all: BTreeMap<IpAddr, BTreeMap<ServicePort, Answer>> = BTreeMap::new();
        for (question, state) in &self.asked {
            if let (Question::Port(vip, port), Some(answer)) = (question, state.answer) {
                all.entry(*vip).or_default().insert(*port, answer);
            }
        }
        all
    }
}

/// A random part of a duration.
fn share(of: Duration, random: u64) -> Duration {
    of.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::address::Protocol;

    fn question(port: u16) -> Question {
        Question::Port("10.10.50.10".parse().unwrap(), ServicePort { port, protocol: Protocol(6) })
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn only(prober: &VipProber) -> Option<Answer> {
        prober.answers().values().flat_map(|ports| ports.values()).next().copied()
    }

    #[test]
    fn the_second_failure_in_a_row_counts_and_an_answer_clears() {
        let mut prober = VipProber::new(VipPlan::default());
        prober.follow([question(1)].into(), at(0), &mut || 0);
        assert_eq!(prober.poll(at(0), &mut || 0), Some(question(1)));
        prober.answer(question(1), Some(Answer::Silent), at(1_000));
        assert_eq!(only(&prober), None);
        assert_eq!(prober.next(), Some(at(2_000)));
        assert_eq!(prober.poll(at(2_000), &mut || 0), Some(question(1)));
        prober.answer(question(1), Some(Answer::Refused), at(2_001));
        assert_eq!(only(&prober), Some(Answer::Refused));
        assert_eq!(prober.poll(at(12_000), &mut || 0), Some(question(1)));
        prober.answer(question(1), Some(Answer::Answered(at(1))), at(12_001));
        assert_eq!(only(&prober), Some(Answer::Answered(at(1))));
        prober.follow(BTreeSet::new(), at(12_002), &mut || 0);
        assert_eq!((only(&prober), prober.next()), (None, None));
        prober.answer(question(1), Some(Answer::Silent), at(13_000));
        assert_eq!(only(&prober), None, "an answer that comes late belongs to nobody");
    }

    proptest! {
        #[test]
        fn the_budget_holds_whatever_is_asked(
            ports in 1_u16..300, pauses in proptest::collection::vec(0_u64..50, 1..300), seed: u64,
        ) {
            let plan = VipPlan::default();
            let mut prober = VipProber::new(plan);
            let mut state = seed;
            let mut random = move || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state };
            prober.follow((1..=ports).map(question).collect(), at(0), &mut random);
            let (mut now, mut last, mut open) = (0, None, 0);
            for pause in pauses {
                now += pause;
                while let Some(question) = prober.poll(at(now), &mut random) {
                    open += 1;
                    prop_assert!(open <= plan.at_once);
                    prop_assert!(last.is_none_or(|last| at(now) >= last + plan.gap));
                    last = Some(at(now));
                    if now % 3 == 0 {
                        open -= 1;
                        prober.answer(question, Some(Answer::Refused), at(now));
                    }
                }
            }
        }
    }
}
