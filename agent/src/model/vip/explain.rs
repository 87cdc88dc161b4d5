//! The whole way of a virtual address, object by object and hop by hop, and where it breaks.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::evidence::{Answer, Evidence};
use super::judge::{Case, Index, Row, judge_one};
use super::state::VipState;
use crate::model::cluster::{Here, PeerWish};

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where on the way.
    pub place: Place,
    /// What is there, such as `Service web/shop`; a place without anything has a dash.
    pub subject: String,
    /// Whether the way goes on.
    pub verdict: Verdict,
    /// What is so.
    pub text: String,
}

/// A place on the way, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The Service.
    Service,
    /// The pool.
    Pool,
    /// The endpoints.
    Endpoints,
    /// The advertisement that selects the Service.
    Advertisement,
    /// BGP on this node's wire.
    Wire,
    /// The router's BGP and forwarding tables.
    Router,
    /// The router's next hop and its link-layer address.
    NextHop,
    /// This node's hook.
    Hook,
    /// The answer.
    Answer,
}

impl Place {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Service => "service",
            Place::Pool => "pool",
            Place::Endpoints => "endpoints",
            Place::Advertisement => "advertisement",
            Place::Wire => "wire",
            Place::Router => "router",
            Place::NextHop => "next-hop",
            Place::Hook => "hook",
            Place::Answer => "answer",
        }
    }
}

/// Whether the way goes on at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Good,
    /// It breaks here.
    Broken,
    /// Something is odd, and packets pass all the same.
    Odd,
    /// Nobody tells.
    Unknown,
    /// This way does not come by here.
    Aside,
}

impl Verdict {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Broken => "broken",
            Verdict::Odd => "odd",
            Verdict::Unknown => "unknown",
            Verdict::Aside => "aside",
        }
    }
}

/// The way of an address, and its row in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its row; findings as of this moment, whether they have held for a while or not.
    pub row: Row,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Explanation {
    /// The first step at which the way breaks.
    pub fn breaks_at(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.verdict == Verdict::Broken)
    }
}

/// Walks the whole way of an address.
pub fn explain(evidence: &Evidence, vip: IpAddr) -> Explanation {
    let index = Index::of(evidence);
    let case = Case::of(evidence, &index, vip);
    let row = judge_one(evidence, vip);
    let mut steps = vec![case.service(), case.pool(&row), case.endpoints(&row), case.advertisement(&row)];
    steps.extend(case.wire(&row));
    steps.extend(case.router_sessions());
    steps.extend(case.routers(&row));
    steps.extend(case.next_hops(&row));
    steps.push(case.hook(&row));
    steps.extend(case.answers(&row));
    Explanation { row, steps }
}

fn step(place: Place, subject: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Step {
    Step { place, subject: subject.into(), verdict, text: text.into() }
}

impl Row {
    fn has(&self, state: VipState) -> bool {
        self.findings.iter().any(|finding| finding.state == state)
    }

    fn text_of(&self, states: &[VipState]) -> Option<String> {
        let found: Vec<&str> = self
            .findings
            .iter()
            .filter(|one| states.contains(&one.state))
            .map(|one| one.what.as_str())
            .collect();
        (!found.is_empty()).then(|| found.join("; "))
    }
}

impl Case<'_> {
    fn service(&self) -> Step {
        let Some(intent) = &self.intent else {
            return match self.evidence.cluster.is_some() {
                true => step(Place::Service, "-", Verdict::Broken, "no Service has this address"),
                false => step(
                    Place::Service,
                    "-",
                    Verdict::Unknown,
                    "there is no source of objects: give the agent --manifests",
                ),
            };
        };
        let each = intent.services.iter().map(|service| {
            let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
            format!(
                "externalTrafficPolicy {}, ports {}",
                service.policy.as_str(),
                if ports.is_empty() { "none".to_owned() } else { ports.join(" ") }
            )
        });
        let names: Vec<String> =
            intent.services.iter().map(|service| format!("Service {}", service.name)).collect();
        step(Place::Service, names.join(", "), Verdict::Good, each.collect::<Vec<_>>().join("; "))
    }

    fn pool(&self, row: &Row) -> Step {
        let Some(intent) = &self.intent else {
            return step(Place::Pool, "-", Verdict::Aside, "no Service, no pool");
        };
        if let Some(text) = row.text_of(&[VipState::OutsidePools]) {
            return step(Place::Pool, "-", Verdict::Odd, text);
        }
        match intent.pool() {
            Ok(Some(pool)) => {
                let text = if pool.disabled { "holds it; hands out no new addresses" } else { "holds it" };
                step(Place::Pool, format!("CiliumLoadBalancerIPPool {}", pool.name), Verdict::Good, text)
            }
            _ => step(Place::Pool, "-", Verdict::Unknown, "there is no CiliumLoadBalancerIPPool"),
        }
    }

    fn endpoints(&self, row: &Row) -> Step {
        let node = &self.own().node;
        match row.endpoints {
            None if self.intent.is_none() => {
                step(Place::Endpoints, "-", Verdict::Aside, "no Service, no endpoints")
            }
            None => step(Place::Endpoints, "-", Verdict::Unknown, "there is no EndpointSlice"),
            Some([_, 0]) => step(Place::Endpoints, "-", Verdict::Broken, "none is usable on any node"),
            Some([local, all]) => {
                let text = format!("{all} usable, {local} of them on {node}");
                let here_needed = row.policy.as_deref() == Some("Local");
                let verdict = if here_needed && local == 0 { Verdict::Odd } else { Verdict::Good };
                step(Place::Endpoints, "EndpointSlices", verdict, text)
            }
        }
    }

    fn advertisement(&self, row: &Row) -> Step {
        let node = &self.own().node;
        let (subject, verdict, text) = match &self.here {
            Here::Yes(wishes) => {
                let name = wishes.first().map_or("-", |wish| &wish.advertisement);
                let peers: Vec<String> = wishes.iter().map(peer).collect();
                (
                    format!("CiliumBGPAdvertisement {name}"),
                    Verdict::Good,
                    format!("{node} is to announce it to {}", peers.join(", ")),
                )
            }
            Here::NoLocalEndpoint => {
                let text = format!("{node} is not to announce it: policy Local and no usable endpoint here");
                ("-".to_owned(), Verdict::Aside, text)
            }
            Here::NotSelected => {
                let text = format!("no advertisement that a peer of {node} uses selects the Service");
                ("-".to_owned(), Verdict::Broken, text)
            }
            Here::NoSpeaker => ("-".to_owned(), Verdict::Aside, format!("{node} has no BGP speaker")),
            Here::OtherClass => {
                ("-".to_owned(), Verdict::Aside, "its loadBalancerClass is not one of Cilium's".to_owned())
            }
            Here::ByLink => (
                "CiliumL2AnnouncementPolicy".to_owned(),
                Verdict::Good,
                "announced by ARP and neighbour discovery, not by BGP".to_owned(),
            ),
            Here::Unknown => {
                ("-".to_owned(), Verdict::Unknown, "the objects do not tell who is to announce it".to_owned())
            }
        };
        // Not this node's to announce, and nobody's whose it is does.
        match row.text_of(&[VipState::AdvertisedByNobody]) {
            Some(nobody) if verdict == Verdict::Aside => {
                step(Place::Advertisement, subject, Verdict::Broken, format!("{text}; {nobody}"))
            }
            _ => step(Place::Advertisement, subject, verdict, text),
        }
    }

    fn wire(&self, row: &Row) -> Vec<Step> {
        let Some(sessions) = &self.own().sessions else {
            return vec![step(Place::Wire, "-", Verdict::Unknown, "BGP is not seen on this node's wire")];
        };
        let wanted: Vec<&PeerWish> = match &self.here {
            Here::Yes(wishes) => wishes.iter().collect(),
            _ => Vec::new(),
        };
        let unseen = wanted
            .iter()
            .filter_map(|wish| wish.address.filter(|at| !sessions.iter().any(|one| one.peer == *at)));
        let mut steps: Vec<Step> = unseen
            .map(|address| {
                step(Place::Wire, format!("peer {address}"), Verdict::Broken, "there is no session")
            })
            .collect();
        for session in sessions {
            let asked = wanted.iter().any(|wish| wish.address.is_none_or(|address| address == session.peer));
            let (verdict, text) = match (session.established, session.prefix_of(self.vip)) {
                (false, _) if asked => (Verdict::Broken, format!("the session is {}", session.state)),
                (false, _) => (Verdict::Aside, format!("the session is {}", session.state)),
                (true, Some((prefix, since))) => {
                    let age = ago(self.evidence.now.saturating_sub(since));
                    let wrong = [VipState::WithoutEndpoint, VipState::AdvertisedUnwanted];
                    match row.text_of(&wrong) {
                        Some(text) if row.has(VipState::WithoutEndpoint) => (Verdict::Broken, text),
                        Some(text) => (Verdict::Odd, text),
                        None => (Verdict::Good, format!("announced as {prefix} since {age}")),
                    }
                }
                (true, None) if !session.complete => {
                    (Verdict::Unknown, "not heard: the agent came after the session began".to_owned())
                }
                (true, None) if asked => (Verdict::Broken, "not announced".to_owned()),
                (true, None) => (Verdict::Aside, "not announced, as it should be".to_owned()),
            };
            steps.push(step(Place::Wire, format!("peer {}", session.peer), verdict, text));
        }
        if steps.is_empty() {
            steps.push(step(Place::Wire, "-", Verdict::Unknown, "no BGP session was seen"));
        }
        steps
    }

    fn routers(&self, row: &Row) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .learned
            .iter()
            .map(|route| {
                let hops = route.next_hops();
                let (verdict, text) =
                    match (row.text_of(&[VipState::NotLearned, VipState::StaleRoute]), hops.len()) {
                        (Some(text), _) => (Verdict::Broken, text),
                        (None, 0) if route.prefix.is_some() => {
                            (Verdict::Broken, "no path is usable".to_owned())
                        }
                        (None, 0) => {
                            let verdict =
                                if self.intent.is_some() { Verdict::Broken } else { Verdict::Aside };
                            (verdict, "has no path".to_owned())
                        }
                        (None, paths) => {
                            let prefix = route.prefix.map(|one| one.prefix.to_string()).unwrap_or_default();
                            let text = format!("{prefix} over {paths} next hops");
                            match row.text_of(&[VipState::SpreadUneven]) {
                                Some(uneven) => (Verdict::Odd, format!("{text}; {uneven}")),
                                None => (Verdict::Good, text),
                            }
                        }
                    };
                let age = ago(route.view.age(self.evidence.wall));
                step(
                    Place::Router,
                    format!("router {}", route.view.router),
                    verdict,
                    format!("{text} (seen {age})"),
                )
            })
            .collect();
        for view in self.evidence.routers.iter().filter(|view| view.is_stale(self.evidence.wall)) {
            let age = ago(view.age(self.evidence.wall));
            let text = format!("its view is out of date: from {age}");
            steps.push(step(Place::Router, format!("router {}", view.router), Verdict::Unknown, text));
        }
        if steps.is_empty() {
            let text = "no router publishes a view: give the agent --router-view";
            steps.push(step(Place::Router, "-", Verdict::Unknown, text));
        }
        steps
    }

    /// How routers see their sessions with this node.
    fn router_sessions(&self) -> Vec<Step> {
        let views = self.evidence.fresh_routers();
        let peers = views.flat_map(|view| view.peers.iter().flatten().map(move |peer| (view, peer)));
        let own = peers.filter(|(_, peer)| self.own().has(peer.address));
        own.map(|(view, peer)| {
            let received = peer.prefixes_received.map(|count| format!(", {count} prefixes received"));
            let bfd = peer.bfd.as_ref().map(|bfd| {
                let told = bfd.remote_diagnostic.as_ref().filter(|told| *told != "ok");
                let told = told.map(|told| format!(" (this node tells: {told})")).unwrap_or_default();
                format!(", BFD {}{told}", bfd.state)
            });
            let verdict = match (&peer.bfd, peer.is_established()) {
                (_, false) if matches!(self.here, Here::Yes(_)) => Verdict::Broken,
                (_, false) => Verdict::Aside,
                (Some(bfd), true) if bfd.state != "up" => Verdict::Odd,
                (_, true) => Verdict::Good,
            };
            let text = format!(
                "its session with {} is {} for {}{}{}",
                peer.address,
                peer.state,
                peer.since,
                received.unwrap_or_default(),
                bfd.unwrap_or_default()
            );
            step(Place::Router, format!("router {}", view.router), verdict, text)
        })
        .collect()
    }

    fn next_hops(&self, row: &Row) -> Vec<Step> {
        let mut steps = Vec::new();
        for route in &self.learned {
            for hop in route.next_hops() {
                let node = self.node_at(hop).unwrap_or("no known node");
                let neighbours = route.view.neighbours.as_ref();
                let entry = neighbours.map(|all| all.iter().find(|one| one.address == hop));
                let (verdict, text) = match entry {
                    None => (Verdict::Unknown, format!("{node}; the router does not tell its neighbours")),
                    Some(None) => (Verdict::Unknown, format!("{node}; the router has not resolved it")),
                    Some(Some(one)) => match &one.mac {
                        Some(mac) => (Verdict::Good, format!("{node} at {mac} on {}", one.interface)),
                        None => (
                            Verdict::Broken,
                            format!("{node} does not answer on {} ({})", one.interface, one.state),
                        ),
                    },
                };
                steps.push(step(Place::NextHop, hop.to_string(), verdict, text));
            }
        }
        if let Some(text) = row.text_of(&[VipState::TwoMacs]) {
            steps.push(step(Place::NextHop, self.vip.to_string(), Verdict::Broken, text));
        }
        steps
    }

    fn hook(&self, row: &Row) -> Step {
        let wrong = [VipState::RoutingLoop, VipState::VlanUnanswered, VipState::PortUnserved];
        if let Some(text) = row.text_of(&wrong) {
            let odd = row.has(VipState::PortUnserved)
                && !row.has(VipState::RoutingLoop)
                && !row.has(VipState::VlanUnanswered);
            let verdict = if odd { Verdict::Odd } else { Verdict::Broken };
            return step(Place::Hook, self.own().node.clone(), verdict, text);
        }
        match self.facts {
            None => {
                step(Place::Hook, self.own().node.clone(), Verdict::Unknown, "nothing is counted for it here")
            }
            Some(facts) => {
                let traffic = &facts.traffic;
                let text = format!(
                    "{} packets in and {} out in the last {} s, {} in since the programs were loaded",
                    traffic.ingress,
                    traffic.egress,
                    traffic.window.as_secs(),
                    traffic.total
                );
                let verdict = if traffic.total > 0 { Verdict::Good } else { Verdict::Unknown };
                step(Place::Hook, self.own().node.clone(), verdict, text)
            }
        }
    }

    fn answers(&self, row: &Row) -> Vec<Step> {
        let steps: Vec<Step> = row
            .answers
            .iter()
            .map(|(port, answer)| {
                let (verdict, text) = match answer {
                    Answer::Answered(time) => (Verdict::Good, format!("answers in {} us", time.as_micros())),
                    Answer::Refused => (Verdict::Broken, "is refused".to_owned()),
                    Answer::Silent => (Verdict::Broken, "gives no answer".to_owned()),
                    Answer::NoRoute => (Verdict::Broken, "this node has no route to it".to_owned()),
                    Answer::Unclear => (Verdict::Unknown, "need not answer, and was not refused".to_owned()),
                };
                step(Place::Answer, port.to_string(), verdict, text)
            })
            .collect();
        if !steps.is_empty() {
            return steps;
        }
        let text = match &self.here {
            Here::NoLocalEndpoint => "not probed: nothing here is to answer",
            _ if self.intent.is_none() => "not probed: no Service says which ports to ask",
            _ => "not probed yet",
        };
        vec![step(Place::Answer, "-", Verdict::Unknown, text)]
    }
}

fn peer(wish: &PeerWish) -> String {
    match wish.address {
        Some(address) => format!("{} ({address})", wish.name),
        None => wish.name.clone(),
    }
}

/// An age as people say it.
fn ago(age: Duration) -> String {
    match age.as_secs() {
        0..120 => format!("{} s ago", age.as_secs()),
        120..7_200 => format!("{} min ago", age.as_secs() / 60),
        seconds => format!("{} h ago", seconds / 3_600),
    }
}
