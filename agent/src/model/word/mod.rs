//! The node's word: what the agent tells the cluster of its datapath, as the status of a `NodeDatapath`. Pure: the clocks are
//! arguments.

mod pace;
mod verdict;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use weir_api::{
    BfdWord, BgpWord, CapabilityState, CapabilityWord, Carries, LONGEST_LIST, LinkWord, NodeDatapathStatus,
    Reason, VipFault, VipWord, VipsWord,
};

use crate::model::address::{Direction, IfIndex};
use crate::model::bfd::{Bfd, State};
use crate::model::bgp::{SessionState, View};
use crate::model::capability::{FeatureState, Report};
use crate::model::cluster::Sources;
use crate::model::interface::Hook;
use crate::model::link::Link;
use crate::model::probe::GatewayProbe;
use crate::model::vip::{Row, Table, VipState, Wanted};

pub use pace::Pace;
use verdict::{Found, Gateways};

/// Within how many seconds the agent writes again though nothing has changed.
pub const REPORT_SECONDS: u32 = 60;

/// All that the word is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// All links.
    pub links: &'a BTreeMap<IfIndex, Link>,
    /// Those that join the node to the outside.
    pub uplinks: &'a [IfIndex],
    /// What probing the gateways has shown.
    pub gateways: &'a BTreeMap<(IfIndex, IpAddr), GatewayProbe>,
    /// How the agent measures.
    pub hooks: &'a BTreeMap<(IfIndex, Direction), Hook>,
    /// BGP as the wire shows it.
    pub bgp: &'a View,
    /// BFD.
    pub bfd: &'a Bfd,
    /// The truth table.
    pub vips: &'a Table,
    /// What works on this node.
    pub capabilities: &'a Report,
    /// How the cluster source does.
    pub sources: &'a Sources,
}

/// Makes the word, and remembers since when what is so.
#[derive(Clone, Debug, Default)]
pub struct Speaker {
    gateways: Gateways,
    /// The last uplinks that there were: a node that loses its routes with its last link still has them.
    uplinks: Vec<IfIndex>,
    since: BTreeMap<&'static str, Timestamp>,
    conditions: Vec<Condition>,
}

impl Speaker {
    /// The word at a moment, given as time since boot and by the calendar. To be asked for every few seconds: what lasts is
    /// told from what does not by that. [`NodeDatapathStatus::reported_at`] is left to whoever writes it.
    pub fn word(&mut self, facts: &Facts<'_>, now: Duration, wall: Timestamp) -> NodeDatapathStatus {
        if !facts.uplinks.is_empty() {
            self.uplinks = facts.uplinks.to_vec();
        }
        self.gateways.look(facts, &self.uplinks, now);
        let found = verdict::reasons(facts, &self.uplinks, &self.gateways);
        let carries = verdict::carries(&found, &self.uplinks, &self.gateways, facts);
        self.remember(&found, wall);
        let reasons: Vec<Reason> = found.iter().take(LONGEST_LIST).map(|one| self.reason(one)).collect();
        self.conditions = self.conditions(carries, &reasons, facts.sources, wall);
        NodeDatapathStatus {
            report_seconds: Some(REPORT_SECONDS),
            agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            carries,
            reasons,
            capabilities: capabilities(facts.capabilities),
            links: self.links(facts),
            bgp: bgp(facts.bgp),
            bfd: bfd(facts.bfd),
            vips: (!facts.vips.rows.is_empty()).then(|| vips(facts.vips)),
            conditions: self.conditions.clone(),
            ..NodeDatapathStatus::default()
        }
    }

    fn remember(&mut self, found: &[Found], wall: Timestamp) {
        self.since.retain(|code, _| found.iter().any(|one| one.code == *code));
        for one in found {
            self.since.entry(one.code).or_insert(wall);
        }
    }

    fn reason(&self, one: &Found) -> Reason {
        let since = self.since.get(one.code).map(|at| seconds(*at));
        Reason { code: one.code.to_owned(), message: clip(&one.message, 512), since }
    }

    fn links(&self, facts: &Facts<'_>) -> Vec<LinkWord> {
        let links = self.uplinks.iter().filter_map(|index| facts.links.get(index)).take(LONGEST_LIST);
        let word = |link: &Link| LinkWord {
            name: link.name.clone(),
            up: link.is_up(),
            mtu: Some(link.mtu),
            bits_per_second: link.speed,
            gateway_answers: self.gateways.answers_of(link.index),
        };
        links.map(word).collect()
    }

    /// `Ready` sums the verdict up; `SourcesInstalled` tells which kinds the cluster has not.
    fn conditions(
        &self,
        carries: Carries,
        reasons: &[Reason],
        sources: &Sources,
        wall: Timestamp,
    ) -> Vec<Condition> {
        let message = reasons.first().map(|reason| reason.message.clone()).unwrap_or_default();
        let code = reasons.first().map(|reason| reason.code.clone());
        let (status, usual) = match carries {
            Carries::Yes => ("True", "Carries"),
            Carries::Degraded => ("True", "Degraded"),
            Carries::No => ("False", "CannotCarry"),
            Carries::Unknown => ("Unknown", "CannotTell"),
        };
        let ready = ("Ready", status, code.unwrap_or_else(|| usual.to_owned()), message);
        let missing: Vec<&str> = sources.kinds_that_are("missing").collect();
        let installed = match missing.is_empty() {
            true => ("SourcesInstalled", "True", "AllInstalled".to_owned(), String::new()),
            false => {
                let message = format!("the cluster has no {}", missing.join(", "));
                ("SourcesInstalled", "False", "KindsMissing".to_owned(), message)
            }
        };
        [ready, installed].map(|one| self.condition(one, wall)).into()
    }

    /// A condition keeps the time of its last change of status.
    fn condition(
        &self,
        (kind, status, reason, message): (&str, &str, String, String),
        wall: Timestamp,
    ) -> Condition {
        let before = self.conditions.iter().find(|one| one.type_ == kind && one.status == status);
        let wall = Timestamp::from_second(wall.as_second()).unwrap_or(wall);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: before.map_or(Time(wall), |one| one.last_transition_time.clone()),
            observed_generation: None,
        }
    }
}

/// A moment as RFC 3339 has it, in whole seconds.
pub fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// As many characters as a field takes.
fn clip(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

fn capabilities(report: &Report) -> Vec<CapabilityWord> {
    let features = report.features.iter().take(LONGEST_LIST);
    let word = |feature: &crate::model::capability::Feature| CapabilityWord {
        name: feature.name.to_owned(),
        state: match feature.state {
            FeatureState::Works => CapabilityState::Full,
            FeatureState::Degraded { .. } => CapabilityState::Fallback,
            FeatureState::Off { .. } => CapabilityState::Missing,
        },
        reason: feature.state.reason().map(|reason| clip(reason, 512)),
    };
    features.map(word).collect()
}

/// Sessions; of too many, those that are down come first.
fn bgp(view: &View) -> Vec<BgpWord> {
    let mut sessions: Vec<_> = view.sessions.values().collect();
    sessions.sort_by_key(|session| session.state == SessionState::Established);
    sessions.truncate(LONGEST_LIST);
    let mut words: Vec<BgpWord> = sessions
        .into_iter()
        .map(|session| BgpWord {
            peer: session.key.peer.to_string(),
            peer_asn: session.peer.asn.map(|asn| asn.0),
            state: session.state.as_str().replace('-', ""),
            announced: (session.advertised.complete && session.state == SessionState::Established)
                .then(|| u32::try_from(session.advertised.routes.len()).unwrap_or(u32::MAX)),
            last_down: session
                .last_drop
                .as_ref()
                .map(|drop| clip(&format!("{}: {}", drop.cause.as_str(), drop.reason), 256)),
        })
        .collect();
    words.sort_by(|a, b| a.peer.cmp(&b.peer));
    words
}

fn bfd(bfd: &Bfd) -> Vec<BfdWord> {
    let word = |session: &crate::model::bfd::SessionView| BfdWord {
        peer: session.peer.to_string(),
        state: match session.state {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        }
        .to_owned(),
        diagnostic: Some(session.diagnostic.bits()),
    };
    bfd.sessions.iter().take(LONGEST_LIST).map(word).collect()
}

fn vips(table: &Table) -> VipsWord {
    let announced = table.rows.iter().filter(|row| verdict::is_announced(row)).count();
    let intended = table.rows.iter().filter(|row| row.wanted == Wanted::Here).count();
    let mut wrong: Vec<VipWord> = table.rows.iter().filter_map(fault).collect();
    let beyond = wrong.len().saturating_sub(LONGEST_LIST);
    wrong.truncate(LONGEST_LIST);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    VipsWord {
        intended: number(intended),
        announced: number(announced),
        new_flows_per_kilosecond: Some(new_flows(table)),
        wrong,
        wrong_beyond: number(beyond),
    }
}

/// New connections to all addresses, per 1000 seconds.
fn new_flows(table: &Table) -> u64 {
    let facts = table.evidence.own.vips.values().map(|facts| &facts.traffic);
    let rates = facts.filter(|traffic| !traffic.window.is_zero());
    // Parts of a connection would round to none, and none is what a drain waits for.
    let sum: f64 =
        rates.map(|traffic| traffic.connections as f64 * 1000.0 / traffic.window.as_secs_f64()).sum();
    sum.ceil() as u64
}

fn fault(row: &Row) -> Option<VipWord> {
    let fault = row.findings.iter().find_map(|finding| match finding.state {
        VipState::NotAdvertised | VipState::AdvertisedByNobody => Some(VipFault::NotAnnounced),
        VipState::AdvertisedUnwanted => Some(VipFault::Stray),
        VipState::WithoutEndpoint => Some(VipFault::NoEndpoint),
        VipState::BlackHoled => Some(VipFault::Blackhole),
        _ => None,
    })?;
    let length = if row.vip.is_ipv4() { 32 } else { 128 };
    Some(VipWord { prefix: format!("{}/{length}", row.vip), service: row.services.first().cloned(), fault })
}

#[cfg(test)]
mod tests;
