//! The truth table: every virtual address against all that is known of it. Pure: the same evidence gives the same rows.

mod case;
mod node;
mod route;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::evidence::{Answer, Evidence};
use super::state::VipState;
use crate::model::cluster::{Here, Intent, ServicePort};
pub(super) use case::{Case, Index};

/// A virtual address with all its columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The address.
    pub vip: IpAddr,
    /// The Services that have it.
    pub services: Vec<String>,
    /// Who answers on which node: `Cluster`, `Local`, or both words where Services that share the address differ.
    pub policy: Option<String>,
    /// The pool that it is from.
    pub pool: Option<String>,
    /// Whether it is wanted, and on this node.
    pub wanted: Wanted,
    /// The peers to which this node announces it; `None` where the wire cannot be seen.
    pub announced: Option<Vec<IpAddr>>,
    /// What routers have learned; empty where none publishes a view.
    pub learned: Vec<Learned>,
    /// Usable endpoints on this node and on all; `None` where the source knows of none at all.
    pub endpoints: Option<[usize; 2]>,
    /// What probing its ports has shown.
    pub answers: Vec<(ServicePort, Answer)>,
    /// Packets to it and from it in the last while.
    pub packets: [u64; 2],
    /// What is the matter; empty when nothing disagrees.
    pub findings: Vec<Finding>,
}

/// Whether an address is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// This node is to advertise it.
    Here,
    /// A Service has it; this node is not to advertise it.
    Elsewhere,
    /// A Service has it; the objects do not tell who is to advertise it.
    Somewhere,
    /// No Service has it.
    No,
    /// There is no source of objects.
    Unknown,
}

impl Wanted {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Here => "here",
            Wanted::Elsewhere => "elsewhere",
            Wanted::Somewhere => "somewhere",
            Wanted::No => "no",
            Wanted::Unknown => "unknown",
        }
    }
}

/// What a router has learned of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Learned {
    /// The router.
    pub router: String,
    /// The next hops that it uses.
    pub next_hops: Vec<IpAddr>,
    /// Whether one of them is this node.
    pub here: bool,
}

/// Something that is the matter with an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub state: VipState,
    /// From what it is concluded.
    pub basis: Vec<Basis>,
    /// What is so.
    pub what: String,
    /// What to do.
    pub action: String,
    /// Since when it is so, as time since boot.
    pub since: Duration,
}

/// What a conclusion rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The cluster's objects.
    Objects,
    /// BGP as seen on this node's wire.
    Wire,
    /// The view that a router publishes.
    Router(String),
    /// What agents of so many other nodes tell.
    Nodes(usize),
    /// This node's own probe.
    Probe,
    /// Packets at this node's hooks.
    Packets,
    /// ARP and neighbour discovery on this node's links.
    Link,
}

impl std::fmt::Display for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Basis::Objects => f.write_str("objects"),
            Basis::Wire => f.write_str("wire"),
            Basis::Router(name) => write!(f, "router {name}"),
            Basis::Nodes(count) => write!(f, "{count} other nodes"),
            Basis::Probe => f.write_str("probe"),
            Basis::Packets => f.write_str("packets"),
            Basis::Link => f.write_str("ARP/ND"),
        }
    }
}

/// Judges all addresses that anybody knows of.
pub fn judge(evidence: &Evidence) -> Vec<Row> {
    let mut intents = match &evidence.cluster {
        Some(cluster) => Intent::all(cluster),
        None => BTreeMap::new(),
    };
    let index = Index::of(evidence);
    let vips = evidence.vips().into_iter();
    vips.map(|vip| Case::new(evidence, &index, vip, intents.remove(&vip)).row()).collect()
}

/// Judges one address, known or not.
pub fn judge_one(evidence: &Evidence, vip: IpAddr) -> Row {
    Case::of(evidence, &Index::of(evidence), vip).row()
}

impl Case<'_> {
    fn row(&self) -> Row {
        let services = self.intent.iter().flat_map(|intent| &intent.services);
        let mut policies: Vec<&str> = services.clone().map(|service| service.policy.as_str()).collect();
        policies.sort_unstable();
        policies.dedup();
        let pool = self.intent.as_ref().and_then(|intent| intent.pool().ok().flatten());
        let announced = self.own().sessions.is_some().then(|| {
            let mut peers: Vec<IpAddr> = self.announced.iter().map(|(session, ..)| session.peer).collect();
            peers.sort();
            peers
        });
        let here = self.intent.as_ref().map(|intent| {
            let node = self.own().node.as_str();
            [intent.usable_endpoints(Some(node)), intent.usable_endpoints(None)]
        });
        let answers = self.facts.iter().flat_map(|facts| &facts.answers);
        Row {
            vip: self.vip,
            services: services.map(|service| service.name.to_string()).collect(),
            policy: (!policies.is_empty()).then(|| policies.join("+")),
            pool: pool.map(|pool| pool.name.clone()),
            wanted: self.wanted(),
            announced,
            learned: self.learned.iter().map(case::Route::shown).collect(),
            endpoints: here.and_then(|[local, all]| Some([local?, all?])),
            answers: answers.map(|(port, answer)| (*port, *answer)).collect(),
            packets: self.facts.map_or([0, 0], |facts| [facts.traffic.ingress, facts.traffic.egress]),
            findings: self.findings(),
        }
    }

    fn wanted(&self) -> Wanted {
        match (&self.intent, &self.here) {
            (None, _) if self.evidence.cluster.is_none() => Wanted::Unknown,
            (None, _) => Wanted::No,
            (Some(_), Here::Yes(_)) => Wanted::Here,
            (Some(_), Here::Unknown) => Wanted::Somewhere,
            (Some(_), _) => Wanted::Elsewhere,
        }
    }

    /// Several may hold at once, but one cause has one name: what follows from a named cause is left out.
    fn findings(&self) -> Vec<Finding> {
        let without_endpoint = self.advertised_without_endpoint();
        let by_nobody = self.advertised_by_nobody();
        let not_advertised = if by_nobody.is_some() { None } else { self.not_advertised() };
        let black_holed = if without_endpoint.is_some() { None } else { self.black_holed() };
        let not_answering =
            if without_endpoint.is_some() || black_holed.is_some() { None } else { self.not_answering() };
        let mut findings: Vec<Finding> = [
            by_nobody,
            not_advertised,
            without_endpoint,
            self.advertised_unwanted(),
            self.not_learned(),
            self.stale_route(),
            black_holed,
            not_answering,
            self.spread_uneven(),
            self.port_unserved(),
            self.routing_loop(),
            self.vlan_unanswered(),
            self.two_macs(),
            self.outside_pools(),
        ]
        .into_iter()
        .flatten()
        .collect();
        findings.sort_by_key(|finding| finding.state);
        findings
    }
}
