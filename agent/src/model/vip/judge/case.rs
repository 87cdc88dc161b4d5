//! One address with what concerns it, looked up once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use weir_router_view::{Prefix, RouterView};

use super::{Basis, Finding, Learned};
use crate::model::cluster::{Here, Intent};
use crate::model::vip::evidence::{Evidence, NodeFacts, Session, VipFacts};
use crate::model::vip::state::VipState;

/// A router is given this long to learn what a node announces, beyond the moment at which it was asked.
pub(super) const CONVERGENCE: Duration = Duration::from_secs(5);

/// What is looked up for every address, made once for all of them.
pub(in crate::model::vip) struct Index<'a> {
    nodes: BTreeMap<IpAddr, &'a str>,
}

impl<'a> Index<'a> {
    pub(in crate::model::vip) fn of(evidence: &'a Evidence) -> Self {
        let objects = evidence.cluster.iter().flat_map(|cluster| &cluster.nodes);
        let by_objects =
            objects.flat_map(|node| node.addresses.iter().map(|address| (*address, node.name.as_str())));
        let by_facts = evidence.nodes().flat_map(|node| {
            let local = node.sessions.iter().flatten().filter_map(|session| session.local);
            node.addresses.iter().copied().chain(local).map(|address| (address, node.node.as_str()))
        });
        // What a node says of itself comes last, and counts.
        Self { nodes: by_objects.chain(by_facts).collect() }
    }

    /// The node that has an address, as the objects or the nodes themselves tell.
    pub(in crate::model::vip) fn node_at(&self, address: IpAddr) -> Option<&'a str> {
        self.nodes.get(&address).copied()
    }
}

/// One address, and what concerns it.
pub(in crate::model::vip) struct Case<'a> {
    pub(in crate::model::vip) evidence: &'a Evidence,
    index: &'a Index<'a>,
    pub(in crate::model::vip) vip: IpAddr,
    /// What the objects say; `None` where there is no source of them, or no Service has the address.
    pub(in crate::model::vip) intent: Option<Intent<'a>>,
    /// Whether this node is to advertise it.
    pub(in crate::model::vip) here: Here,
    /// What this node has seen of it.
    pub(in crate::model::vip) facts: Option<&'a VipFacts>,
    /// Where this node announces it.
    pub(in crate::model::vip) announced: Vec<(&'a Session, IpNet, Duration)>,
    /// What routers show of it.
    pub(in crate::model::vip) learned: Vec<Route<'a>>,
}

/// What one router shows of an address.
pub(in crate::model::vip) struct Route<'a> {
    pub(in crate::model::vip) view: &'a RouterView,
    pub(in crate::model::vip) prefix: Option<&'a Prefix>,
    here: bool,
}

impl Route<'_> {
    /// Distinct next hops that the router uses.
    pub(in crate::model::vip) fn next_hops(&self) -> Vec<IpAddr> {
        let paths = self.prefix.iter().flat_map(|prefix| &prefix.paths);
        let mut hops: Vec<IpAddr> = paths.filter(|path| path.is_used()).map(|path| path.next_hop).collect();
        hops.sort();
        hops.dedup();
        hops
    }

    /// Whether the router sends packets here.
    pub(in crate::model::vip) fn is_here(&self) -> bool {
        self.here
    }

    pub(super) fn shown(&self) -> Learned {
        Learned { router: self.view.router.clone(), next_hops: self.next_hops(), here: self.here }
    }

    pub(super) fn basis(&self) -> Basis {
        Basis::Router(self.view.router.clone())
    }
}

impl<'a> Case<'a> {
    /// Looks all up.
    pub(in crate::model::vip) fn of(evidence: &'a Evidence, index: &'a Index<'a>, vip: IpAddr) -> Self {
        let intent = evidence.cluster.as_ref().map(|cluster| Intent::of(cluster, vip));
        Self::new(evidence, index, vip, intent.filter(Intent::is_wanted))
    }

    /// The node that has an address.
    pub(in crate::model::vip) fn node_at(&self, address: IpAddr) -> Option<&'a str> {
        self.index.node_at(address)
    }

    /// Looks the rest up.
    pub(super) fn new(
        evidence: &'a Evidence,
        index: &'a Index<'a>,
        vip: IpAddr,
        intent: Option<Intent<'a>>,
    ) -> Self {
        let own = &evidence.own;
        let host = if vip.is_ipv4() { 32 } else { 128 };
        let lengths = intent.as_ref().map_or_else(|| vec![host], Intent::prefix_lengths);
        let shown = evidence.fresh_routers().filter(|view| view.prefixes.is_some());
        let learned = shown.map(|view| {
            let of_length = |length: &u8| view.prefix(IpNet::new(vip, *length).ok()?.trunc());
            let prefix = lengths.iter().rev().find_map(of_length);
            let used = prefix.iter().flat_map(|one| &one.paths).filter(|path| path.is_used());
            let here = used.into_iter().any(|path| index.node_at(path.next_hop) == Some(own.node.as_str()));
            Route { view, prefix, here }
        });
        Self {
            evidence,
            index,
            vip,
            here: intent.as_ref().map_or(Here::Unknown, |intent| intent.here(&own.node)),
            intent,
            facts: own.of(vip),
            announced: own.announced(vip).collect(),
            learned: learned.collect(),
        }
    }

    pub(in crate::model::vip) fn own(&self) -> &'a NodeFacts {
        &self.evidence.own
    }

    /// A finding that holds since now; whoever keeps findings knows since when.
    pub(super) fn finding(
        &self,
        state: VipState,
        basis: impl IntoIterator<Item = Basis>,
        what: String,
        action: impl Into<String>,
    ) -> Option<Finding> {
        let mut basis: Vec<Basis> = basis.into_iter().collect();
        basis.sort();
        basis.dedup();
        Some(Finding { state, basis, what, action: action.into(), since: self.evidence.now })
    }

    /// Whether a view is from so long after a moment that the router must have heard of it.
    pub(super) fn is_after(&self, view: &RouterView, moment: Duration) -> bool {
        let age = self.evidence.now.saturating_sub(moment);
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let happened = self.evidence.wall.checked_sub(age).unwrap_or(Timestamp::MIN);
        let settled = SignedDuration::try_from(CONVERGENCE).unwrap_or(SignedDuration::ZERO);
        view.observed_at.duration_since(happened) >= settled
    }

    /// The Services as text.
    pub(super) fn services(&self) -> String {
        let names = self.intent.iter().flat_map(|intent| &intent.services);
        names.map(|service| service.name.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Several things as text.
pub(super) fn list<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
