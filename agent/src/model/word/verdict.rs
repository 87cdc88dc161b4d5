//! Whether the node can carry traffic, and why not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weir_api::Carries;

use super::Facts;
use crate::model::address::IfIndex;
use crate::model::bfd::{Carrier, Evidence, Hysteresis, State, Tally, evidence};
use crate::model::bgp::SessionState;
use crate::model::interface::HookState;
use crate::model::vip::{Answer, Row, VipState};

/// So many addresses must be dead on a node before that is the node's fault and not a Service's.
const DEAD: usize = 2;

/// Something that speaks against the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How much.
    pub(super) carries: Carries,
    /// The word for it.
    pub(super) code: &'static str,
    /// What people read.
    pub(super) message: String,
}

/// What the gateways' probes have shown over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Gateways {
    tally: Tally,
    answers: BTreeMap<(IfIndex, IpAddr), bool>,
    hysteresis: Hysteresis,
    down: bool,
    heard: bool,
}

impl Gateways {
    /// Takes in what was measured since the last look.
    pub(super) fn look(&mut self, facts: &Facts<'_>, uplinks: &[IfIndex], now: Duration) {
        for (key, gateway) in facts.gateways {
            let answered: u64 = gateway.link_layer.latency.buckets.iter().sum();
            let Some((before, lost_before)) = self.tally.get(key) else { continue };
            match (answered > *before, gateway.link_layer.lost > *lost_before) {
                (true, _) => _ = self.answers.insert(*key, true),
                (false, true) => _ = self.answers.insert(*key, false),
                (false, false) => {}
            }
        }
        self.answers.retain(|key, _| facts.gateways.contains_key(key));
        let carrier =
            if uplinks.is_empty() || any_up(facts, uplinks) { Carrier::Some } else { Carrier::None };
        let seen = evidence(&mut self.tally, facts.gateways.values(), carrier);
        self.heard |= seen != Evidence::None;
        self.down = self.hysteresis.see(seen, now).is_some();
    }

    /// Whether any gateway of a link answered last; `None` where none is probed.
    pub(super) fn answers_of(&self, link: IfIndex) -> Option<bool> {
        self.answers.iter().filter(|((index, _), _)| *index == link).map(|(_, answers)| *answers).max()
    }

    /// Whether nothing can be told of them yet, though they are asked.
    fn are_open(&self, facts: &Facts<'_>) -> bool {
        let asked = facts.gateways.values().any(|gateway| gateway.link_layer.unable.is_none());
        asked && !self.heard
    }
}

fn any_up(facts: &Facts<'_>, uplinks: &[IfIndex]) -> bool {
    uplinks.iter().filter_map(|index| facts.links.get(index)).any(|link| link.is_up())
}

/// The verdict: the worst of what was found.
pub(super) fn carries(
    found: &[Found],
    uplinks: &[IfIndex],
    gateways: &Gateways,
    facts: &Facts<'_>,
) -> Carries {
    match found.first() {
        Some(Found { carries: Carries::No, .. }) => Carries::No,
        _ if uplinks.is_empty() || gateways.are_open(facts) => Carries::Unknown,
        Some(one) => one.carries,
        None => Carries::Yes,
    }
}

/// All that speaks against the node, the worst first.
pub(super) fn reasons(facts: &Facts<'_>, uplinks: &[IfIndex], gateways: &Gateways) -> Vec<Found> {
    let mut found: Vec<Found> = [
        outside(facts, uplinks, gateways),
        answers(facts),
        sessions(facts),
        bfd(facts),
        wrong(facts),
        hooks(facts),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|one| one.carries != Carries::No);
    found
}

fn list<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

/// The links to the outside, and the gateways behind them.
fn outside(facts: &Facts<'_>, uplinks: &[IfIndex], gateways: &Gateways) -> Option<Found> {
    let name =
        |index: &IfIndex| facts.links.get(index).map_or(format!("if{index}"), |link| link.name.clone());
    let up = |index: &&IfIndex| facts.links.get(*index).is_some_and(|link| link.is_up());
    let down: Vec<String> = uplinks.iter().filter(|index| !up(index)).map(name).collect();
    let silent: Vec<String> = gateways
        .answers
        .iter()
        .filter(|(_, answers)| !**answers)
        .map(|((index, gateway), _)| format!("{gateway} at {}", name(index)))
        .collect();
    let (carries, code, message) = match (gateways.down, down.is_empty(), silent.is_empty()) {
        (true, ..) if !any_up(facts, uplinks) => {
            (Carries::No, "UplinksDown", format!("no uplink can carry packets: {} down", list(&down)))
        }
        (true, ..) => (Carries::No, "GatewaysSilent", format!("no gateway answers: {}", list(&silent))),
        (false, false, _) => (Carries::Degraded, "UplinkDown", format!("down: {}", list(&down))),
        (false, true, false) => {
            (Carries::Degraded, "GatewaySilent", format!("does not answer: {}", list(&silent)))
        }
        (false, true, true) => return None,
    };
    Some(Found { carries, code, message })
}

/// Whether this node announces an address.
pub(super) fn is_announced(row: &Row) -> bool {
    row.announced.as_ref().is_some_and(|peers| !peers.is_empty())
}

/// Announced addresses whose packets end here. One may be its Service's fault; all of several are the node's.
fn answers(facts: &Facts<'_>) -> Option<Found> {
    let asked = facts.vips.rows.iter().filter(|row| is_announced(row));
    let asked: Vec<&Row> =
        asked.filter(|row| row.answers.iter().any(|(_, answer)| *answer != Answer::Unclear)).collect();
    let is_dead = |row: &&&Row| row.findings.iter().any(|one| one.state == VipState::BlackHoled);
    let dead: Vec<IpAddr> = asked.iter().filter(is_dead).map(|row| row.vip).collect();
    if dead.is_empty() {
        return None;
    }
    let all = dead.len() >= DEAD && dead.len() == asked.len();
    let (carries, code) =
        if all { (Carries::No, "NothingAnswers") } else { (Carries::Degraded, "AddressesDead") };
    let message = format!("announced here and answered by nothing here: {}", list(dead));
    Some(Found { carries, code, message })
}

/// Sessions that were up and are not. Their routes are gone from the router already.
fn sessions(facts: &Facts<'_>) -> Option<Found> {
    let lost = facts.bgp.sessions.values().filter(|session| {
        (session.established > 0 || session.last_drop.is_some()) && session.state != SessionState::Established
    });
    let lost: Vec<IpAddr> = lost.map(|session| session.key.peer).collect();
    let message = format!("no BGP session with {}", list(&lost));
    (!lost.is_empty()).then_some(Found { carries: Carries::Degraded, code: "BgpSessionDown", message })
}

fn bfd(facts: &Facts<'_>) -> Option<Found> {
    let down = facts.bfd.sessions.iter().filter(|session| session.state != State::Up);
    let down: Vec<IpAddr> = down.map(|session| session.peer).collect();
    let message = format!("BFD is not up with {}", list(&down));
    (!down.is_empty()).then_some(Found { carries: Carries::Degraded, code: "BfdSessionDown", message })
}

/// Addresses with another finding that loses packets now.
fn wrong(facts: &Facts<'_>) -> Option<Found> {
    let bad = |row: &&Row| {
        row.findings.iter().any(|one| {
            matches!(
                one.state,
                VipState::WithoutEndpoint
                    | VipState::NotLearned
                    | VipState::NotAnswering
                    | VipState::RoutingLoop
                    | VipState::VlanUnanswered
                    | VipState::TwoMacs
            )
        })
    };
    let rows: Vec<IpAddr> = facts.vips.rows.iter().filter(bad).map(|row| row.vip).collect();
    let message = format!("something is wrong with {}; weirctl vips tells what", list(&rows));
    (!rows.is_empty()).then_some(Found { carries: Carries::Degraded, code: "AddressesWrong", message })
}

/// Uplinks that are not measured: the word is then made of less.
fn hooks(facts: &Facts<'_>) -> Option<Found> {
    let lost = facts.hooks.values().filter(|hook| matches!(hook.state, HookState::Detached { .. }));
    let lost: Vec<String> = lost.map(|hook| format!("{} {}", hook.name, hook.direction)).collect();
    let message = format!("not measured: {}", list(&lost));
    (!lost.is_empty()).then_some(Found { carries: Carries::Degraded, code: "NotMeasured", message })
}
