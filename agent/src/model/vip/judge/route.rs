//! Wanted, advertised, learned: what disagrees between the objects, the wire and the router.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::case::{Case, Route, list};
use super::{Basis, Finding};
use crate::model::cluster::{Here, NodesKnown, PeerWish, TrafficPolicy};
use crate::model::vip::evidence::{NodeFacts, Session};
use crate::model::vip::state::VipState;

/// New connections that every node should have had before their shares are compared.
const SHARE_SAMPLE: u64 = 50;

/// What is wrong between this node and a peer that should hear of an address.
enum Gap {
    NoSession,
    Down(String),
    Silent,
}

impl Case<'_> {
    pub(super) fn advertised_by_nobody(&self) -> Option<Finding> {
        let intent = self.intent.as_ref()?;
        if !self.announced.is_empty() || matches!(self.here, Here::OtherClass | Here::ByLink) {
            return None;
        }
        // Without an endpoint nobody is to advertise an address of policy Local: that is agreement.
        let local = intent.services.iter().all(|service| service.policy == TrafficPolicy::Local);
        if local && intent.usable_endpoints(None) == Some(0) {
            return None;
        }
        let routers: Vec<&Route<'_>> =
            self.learned.iter().filter(|route| !route.view.truncated || route.prefix.is_some()).collect();
        if routers.iter().any(|route| !route.next_hops().is_empty()) {
            return None;
        }
        let (wanting, why) = (intent.nodes(), self.why_not());
        let told: Vec<&NodeFacts> =
            self.evidence.others.iter().filter(|node| wanting.contains(&node.node.as_str())).collect();
        if told.iter().any(|node| node.announced(self.vip).next().is_some()) {
            return None;
        }
        let mut basis = vec![Basis::Objects];
        let all_nodes = self.knows_all_nodes();
        let by_objects = all_nodes && matches!(self.here, Here::NotSelected) && wanting.is_empty();
        let all_told = all_nodes
            && !wanting.is_empty()
            && wanting.iter().all(|name| self.evidence.nodes().any(|node| node.node == *name && hears(node)));
        if routers.is_empty() && !by_objects && !all_told {
            return None;
        }
        basis.extend(routers.iter().map(|route| route.basis()));
        if hears(self.own()) {
            basis.push(Basis::Wire);
        }
        if all_told && !told.is_empty() {
            basis.push(Basis::Nodes(told.len()));
        }
        let routers = list(routers.iter().map(|route| format!("router {} has no path", route.view.router)));
        let seen = if routers.is_empty() { "no node announces it".to_owned() } else { routers };
        let what = format!("Service {} has it, and {seen}", self.services());
        self.finding(VipState::AdvertisedByNobody, basis, what, why)
    }

    /// Whether a node that is not among the objects is none.
    fn knows_all_nodes(&self) -> bool {
        self.evidence.cluster.as_ref().is_some_and(|cluster| cluster.nodes_known == NodesKnown::All)
    }

    /// Why this node does not advertise an address that a Service has, and what to do.
    fn why_not(&self) -> String {
        match &self.here {
            Here::NotSelected => format!(
                "no CiliumBGPAdvertisement that a peer of {} uses selects the Service for {}: compare its selector with \
                 the Service's labels, and its labels with the families of the CiliumBGPPeerConfig",
                self.own().node,
                if self.vip.is_ipv4() { "ipv4" } else { "ipv6" }
            ),
            Here::NoSpeaker => format!(
                "{} has no CiliumBGPNodeConfig: compare the node's labels with the nodeSelector of the CiliumBGPClusterConfig",
                self.own().node
            ),
            Here::NoLocalEndpoint => {
                "its policy is Local: look whether the nodes with its endpoints have a BGP speaker".to_owned()
            }
            Here::Yes(wishes) => match self.gaps(wishes).first() {
                Some((wish, gap)) => advice(wish, gap),
                None => "look at the sessions of the nodes that are to advertise it: weirctl bgp".to_owned(),
            },
            Here::Unknown | Here::OtherClass | Here::ByLink => {
                "look at the speaker that is to advertise it, and at its sessions: weirctl bgp".to_owned()
            }
        }
    }

    pub(super) fn not_advertised(&self) -> Option<Finding> {
        let Here::Yes(wishes) = &self.here else { return None };
        let gaps = self.gaps(wishes);
        let (wish, gap) = gaps.first()?;
        let each = gaps.iter().map(|(wish, gap)| match gap {
            Gap::NoSession => format!("there is no session with {}", peer(wish)),
            Gap::Down(state) => format!("the session with {} is {state}", peer(wish)),
            Gap::Silent => format!("it is not announced to {}", peer(wish)),
        });
        let what = format!("this node is to advertise it by {}, and {}", wish.advertisement, list(each));
        self.finding(VipState::NotAdvertised, [Basis::Objects, Basis::Wire], what, advice(wish, gap))
    }

    fn gaps<'w>(&self, wishes: &'w [PeerWish]) -> Vec<(&'w PeerWish, Gap)> {
        let Some(sessions) = &self.own().sessions else { return Vec::new() };
        wishes.iter().filter_map(|wish| Some((wish, self.gap(wish, sessions)?))).collect()
    }

    fn gap(&self, wish: &PeerWish, sessions: &[Session]) -> Option<Gap> {
        let Some(address) = wish.address else {
            // Whom the speaker has found we do not know: any session will do.
            return self.announced.is_empty().then_some(Gap::NoSession);
        };
        match sessions.iter().find(|session| session.peer == address) {
            None => Some(Gap::NoSession),
            Some(session) if !session.established => Some(Gap::Down(session.state.clone())),
            Some(session) if session.prefix_of(self.vip).is_some() => None,
            Some(session) => session.complete.then_some(Gap::Silent),
        }
    }

    pub(super) fn advertised_without_endpoint(&self) -> Option<Finding> {
        let intent = self.intent.as_ref()?;
        let (session, prefix, _) = self.announced.first()?;
        let unserved = intent.unserved_on(&self.own().node);
        if unserved.len() < intent.services.len() {
            return None;
        }
        let anywhere = intent.usable_endpoints(None).unwrap_or(0);
        let local = unserved.iter().any(|service| service.policy == TrafficPolicy::Local);
        let (what, action) = if local && anywhere > 0 {
            (
                format!(
                    "this node announces {prefix} to {}; externalTrafficPolicy of Service {} is Local, and none of its \
                     {anywhere} usable endpoints is on this node: what the router sends here is dropped",
                    session.peer,
                    self.services()
                ),
                "Cilium 1.19.5 does so (cilium#44803): give every node that announces an endpoint, keep the others out by the \
                 nodeSelector of the CiliumBGPClusterConfig, or set externalTrafficPolicy to Cluster",
            )
        } else {
            (
                format!(
                    "this node announces {prefix} to {}, and Service {} has no usable endpoint anywhere: connections are \
                     refused or dropped",
                    session.peer,
                    self.services()
                ),
                "look at the pods behind the Service and its selector; Cilium stops advertising Services without \
                 endpoints with enable-no-service-endpoints-routable=false",
            )
        };
        self.finding(VipState::WithoutEndpoint, [Basis::Wire, Basis::Objects], what, action)
    }

    pub(super) fn advertised_unwanted(&self) -> Option<Finding> {
        let cluster = self.evidence.cluster.as_ref()?;
        // A document that could not be read may be the Service.
        if self.intent.is_some() || !cluster.faults.is_empty() {
            return None;
        }
        let (session, prefix, _) =
            self.announced.iter().find(|(_, prefix, _)| prefix.prefix_len() == prefix.max_prefix_len())?;
        let what =
            format!("this node announces {prefix} to {}, and no Service has the address", session.peer);
        let action = "a Service that was deleted, or an address set by hand: look at the speaker of this node; \
                      restart it if it does not withdraw";
        self.finding(VipState::AdvertisedUnwanted, [Basis::Wire, Basis::Objects], what, action)
    }

    pub(super) fn not_learned(&self) -> Option<Finding> {
        for (session, prefix, since) in &self.announced {
            let of_peer = |route: &&Route<'_>| route.view.addresses.contains(&session.peer);
            let Some(route) = self.learned.iter().find(of_peer) else { continue };
            let view = route.view;
            if view.truncated || !self.is_after(view, *since) {
                continue;
            }
            let paths = route.prefix.map_or(&[][..], |one| &one.paths);
            // A next hop that nobody knows may be another address of this node.
            let others = |hop: IpAddr| self.node_at(hop).is_some_and(|node| node != self.own().node);
            if paths.iter().all(|path| others(path.next_hop)) {
                let what = format!(
                    "this node announces {prefix} to {}, and router {} has no path through this node",
                    session.peer, view.router
                );
                let action = "look at what the router lets in from this peer: prefix list, route map, maximum-prefix; \
                              `show bgp ... neighbors ADDRESS filtered-routes` on the router";
                return self.finding(VipState::NotLearned, [Basis::Wire, route.basis()], what, action);
            }
            let installed = route.prefix.and_then(|one| one.installed.as_deref());
            if installed == Some(&[]) && !route.next_hops().is_empty() {
                let what =
                    format!("router {} has paths to {prefix} and none in its forwarding table", view.router);
                let action = "look why the router's kernel does not take the route: `show ip route ADDRESS`, next hops \
                              that are not reachable, a better route of another protocol";
                return self.finding(VipState::NotLearned, [route.basis()], what, action);
            }
        }
        None
    }

    pub(super) fn stale_route(&self) -> Option<Finding> {
        let mut wrong = Vec::new();
        let mut basis = BTreeSet::new();
        for route in &self.learned {
            for path in route.prefix.iter().flat_map(|one| &one.paths).filter(|path| path.is_used()) {
                let hop = path.next_hop;
                let why = match self.node_at(hop) {
                    _ if path.stale => Some(format!("{hop} is kept for a peer that restarts")),
                    Some(name) => self.evidence.nodes().find(|node| node.node == name).and_then(|node| {
                        let gone = self.has_withdrawn(node, route);
                        let own = node.node == self.own().node;
                        basis.extend(gone.then_some(if own { Basis::Wire } else { Basis::Nodes(1) }));
                        gone.then(|| format!("{hop} is {name}, which does not announce it"))
                    }),
                    None => {
                        let known = self.evidence.cluster.as_ref().is_some_and(|cluster| {
                            cluster.faults.is_empty() && !cluster.nodes.is_empty() && self.knows_all_nodes()
                        });
                        basis.extend(known.then_some(Basis::Objects));
                        known.then(|| format!("{hop} is the address of no Node"))
                    }
                };
                if let Some(why) = why {
                    basis.insert(route.basis());
                    wrong.push(format!("router {} sends it to {}", route.view.router, why));
                }
            }
        }
        if wrong.is_empty() {
            return None;
        }
        let action = "graceful restart keeps routes of a node that is gone: shorten restartTimeSeconds, use BFD; clear the \
                      session on the router (`reset bgp ADDRESS`) if the route stays";
        self.finding(VipState::StaleRoute, basis, list(wrong), action)
    }

    /// Whether a node does not announce the address to a router, and the router must know.
    fn has_withdrawn(&self, node: &NodeFacts, route: &Route<'_>) -> bool {
        let Some(sessions) = &node.sessions else { return false };
        let mut towards =
            sessions.iter().filter(|session| route.view.addresses.contains(&session.peer)).peekable();
        towards.peek().is_some()
            && towards.all(|session| {
                let since = session.withdrawn.iter().filter(|(prefix, _)| prefix.contains(&self.vip));
                let since = since.map(|(_, at)| *at).max().or(session.since);
                let silent =
                    !session.established || session.complete && session.prefix_of(self.vip).is_none();
                silent && since.is_some_and(|since| self.is_after(route.view, since))
            })
    }

    pub(super) fn spread_uneven(&self) -> Option<Finding> {
        self.uneven_routes().or_else(|| self.uneven_shares())
    }

    fn uneven_routes(&self) -> Option<Finding> {
        for route in &self.learned {
            let used = route.next_hops();
            let Some(prefix) = route.prefix.filter(|_| !used.is_empty()) else { continue };
            let valid = prefix.paths.iter().filter(|path| path.valid).map(|path| path.next_hop);
            let idle: BTreeSet<IpAddr> = valid.filter(|hop| !used.contains(hop)).collect();
            if !idle.is_empty() {
                let what = format!(
                    "router {} has valid paths through {} next hops and uses {}: {} get nothing",
                    route.view.router,
                    used.len() + idle.len(),
                    used.len(),
                    list(idle.iter().map(|hop| self.named(*hop)))
                );
                let action = "raise maximum-paths above the number of nodes; paths must agree in AS path length, local \
                              preference and MED (or a node is being drained on purpose)";
                return self.finding(VipState::SpreadUneven, [route.basis()], what, action);
            }
            let Some(installed) = prefix.installed.as_ref().filter(|hops| !hops.is_empty()) else { continue };
            let lost: Vec<&IpAddr> = used.iter().filter(|hop| !installed.contains(hop)).collect();
            if !lost.is_empty() {
                let what = format!(
                    "router {} uses {} next hops in BGP, and its forwarding table lacks {}",
                    route.view.router,
                    used.len(),
                    list(lost.iter().map(|hop| self.named(**hop)))
                );
                let action =
                    "look on the router whether these next hops are reachable: `show ip route`, `show arp`";
                return self.finding(VipState::SpreadUneven, [route.basis()], what, action);
            }
        }
        None
    }

    fn named(&self, hop: IpAddr) -> String {
        match self.node_at(hop) {
            Some(node) => format!("{node} ({hop})"),
            None => hop.to_string(),
        }
    }

    /// New connections of all nodes that announce the address, where the agents of at least two tell.
    fn uneven_shares(&self) -> Option<Finding> {
        let telling = self.evidence.nodes().filter(|node| node.announced(self.vip).next().is_some());
        let shares: Vec<(&str, u64)> = telling
            .filter_map(|node| Some((node.node.as_str(), node.of(self.vip)?.traffic.connections)))
            .collect();
        let nodes = shares.len() as u64;
        let sum: u64 = shares.iter().map(|(_, connections)| connections).sum();
        if nodes < 2 || sum < nodes * SHARE_SAMPLE {
            return None;
        }
        let fair = sum / nodes;
        let uneven = |(_, connections): &&(&str, u64)| *connections < fair / 2 || *connections > fair * 2;
        shares.iter().find(uneven)?;
        let each = shares.iter().map(|(node, connections)| format!("{node} {connections}"));
        let what = format!("new connections of the last while: {}; even would be {fair} each", list(each));
        let action = "set the router's multipath hash to addresses and ports (`system ip multipath layer4-hashing`); few \
                      clients behind one address also look like this";
        self.finding(VipState::SpreadUneven, [Basis::Packets, Basis::Nodes(shares.len() - 1)], what, action)
    }

    pub(super) fn outside_pools(&self) -> Option<Finding> {
        let intent = self.intent.as_ref()?;
        if matches!(self.here, Here::OtherClass) {
            return None;
        }
        let holding = intent.pool().err()?;
        let (what, action) = match holding {
            Some(pool) => (
                format!(
                    "pool {} holds it, and its serviceSelector does not take Service {}",
                    pool.name,
                    self.services()
                ),
                "Cilium takes the address back at its next look: mend the Service's labels or the pool's serviceSelector",
            ),
            None => (
                format!(
                    "no CiliumLoadBalancerIPPool holds it; Service {} has it all the same",
                    self.services()
                ),
                "a pool was shrunk or deleted, or the address was set by hand: add a block to a pool, or give the Service \
                 another address (annotation lbipam.cilium.io/ips)",
            ),
        };
        self.finding(VipState::OutsidePools, [Basis::Objects], what, action)
    }
}

/// Whether what a node announces is known in full on every session.
fn hears(node: &NodeFacts) -> bool {
    node.sessions
        .as_ref()
        .is_some_and(|sessions| sessions.iter().all(|session| !session.established || session.complete))
}

fn peer(wish: &PeerWish) -> String {
    match wish.address {
        Some(address) => format!("{} ({address})", wish.name),
        None => wish.name.clone(),
    }
}

fn advice(wish: &PeerWish, gap: &Gap) -> String {
    match gap {
        Gap::NoSession | Gap::Down(_) => format!(
            "bring the session with {} up: `weirctl bgp` tells how its last one ended; look at the router's peers, its \
             password, and what lies between",
            peer(wish)
        ),
        Gap::Silent => "look at the conditions of the CiliumBGPNodeConfig (cilium.io/BGPReconcileError) and at the log of the \
                        Cilium agent of this node"
            .to_owned(),
    }
}
