//! What is known of virtual addresses at one moment, and from whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use weir_router_view::RouterView;

use crate::model::address::Mac;
use crate::model::cluster::{Cluster, ServicePort};

/// All that is known. What nobody has told is absent, and nothing is concluded from it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// When, as time since boot.
    pub now: Duration,
    /// When, by the calendar.
    pub wall: Timestamp,
    /// The objects, where there is a source of them.
    pub cluster: Option<Arc<Cluster>>,
    /// What this node's agent has seen.
    pub own: NodeFacts,
    /// What other nodes' agents tell, by NodeDatapath objects.
    pub others: Vec<NodeFacts>,
    /// What routers publish.
    pub routers: Vec<Arc<RouterView>>,
    /// Virtual addresses given by flag or file.
    pub given: Vec<IpAddr>,
}

/// What one node's agent has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeFacts {
    /// The node.
    pub node: String,
    /// Its addresses, as far as known.
    pub addresses: Vec<IpAddr>,
    /// Its BGP sessions as seen on the wire; `None` where they cannot be seen.
    pub sessions: Option<Vec<Session>>,
    /// What was seen of each address.
    pub vips: BTreeMap<IpAddr, VipFacts>,
}

/// A BGP session of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// The peer.
    pub peer: IpAddr,
    /// The node's own address.
    pub local: Option<IpAddr>,
    /// Whether routes are exchanged.
    pub established: bool,
    /// The state in the words of RFC 4271.
    pub state: String,
    /// Since when, as time since boot.
    pub since: Option<Duration>,
    /// Whether what was announced before the agent looked is known: it was there from the OPEN on, or saw End-of-RIB.
    pub complete: bool,
    /// The prefixes of VIP size that the node announces to it, and since when.
    pub announced: BTreeMap<IpNet, Duration>,
    /// The prefixes that it took back of late, and when.
    pub withdrawn: BTreeMap<IpNet, Duration>,
}

/// What one node has seen of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VipFacts {
    /// What probing its ports has shown.
    pub answers: BTreeMap<ServicePort, Answer>,
    /// Packets of the last while.
    pub traffic: Traffic,
    /// Packets of the last while to ports that no Service has.
    pub strays: Vec<Stray>,
    /// Who has claimed the address by ARP or neighbour discovery in the last while.
    pub owners: Vec<Owner>,
}

/// What probing a port has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It answered, after so long.
    Answered(Duration),
    /// It was refused: nothing listens behind it.
    Refused,
    /// No answer in time.
    Silent,
    /// The node has no way to it.
    NoRoute,
    /// It was asked and cannot be told: a UDP port that need not answer.
    Unclear,
}

impl Answer {
    /// Whether the port is known not to answer.
    pub fn is_bad(self) -> bool {
        matches!(self, Answer::Refused | Answer::Silent | Answer::NoRoute)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Answer::Answered(_) => "answers",
            Answer::Refused => "refused",
            Answer::Silent => "silent",
            Answer::NoRoute => "no-route",
            Answer::Unclear => "unclear",
        }
    }
}

/// Packets of an address at one node within a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// The while.
    pub window: Duration,
    /// To the address.
    pub ingress: u64,
    /// From the address.
    pub egress: u64,
    /// New TCP connections: packets with SYN and without ACK, to the address.
    pub connections: u64,
    /// TCP packets to the address by VLAN; untagged ones are not here.
    pub vlans: BTreeMap<u16, u64>,
    /// TCP packets from the address.
    pub tcp_egress: u64,
    /// Packets to the address since the programs were loaded.
    pub total: u64,
}

/// Packets to a port that no Service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// The port.
    pub port: ServicePort,
    /// How many in the last while.
    pub packets: u64,
    /// How many of them were the same packet again with a lower time to live.
    pub looped: u64,
    /// Largest and smallest time to live of those.
    pub ttl: [u8; 2],
    /// From which next hop they came.
    pub hop: Mac,
    /// Through which interface.
    pub interface: String,
    /// When the last was seen, as time since boot.
    pub last: Duration,
}

/// A link-layer address that has claimed an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Which.
    pub mac: Mac,
    /// On which interface.
    pub interface: String,
    /// Whether it is this node's own.
    pub own: bool,
    /// When it was first seen to claim, as time since boot.
    pub first: Duration,
    /// When last.
    pub last: Duration,
}

impl NodeFacts {
    /// What was seen of an address.
    pub fn of(&self, vip: IpAddr) -> Option<&VipFacts> {
        self.vips.get(&vip)
    }

    /// The sessions on which an address is announced, with the prefix and since when; only established ones: what a speaker
    /// means to announce on a session that is down nobody hears (cilium#39861).
    pub fn announced(&self, vip: IpAddr) -> impl Iterator<Item = (&Session, IpNet, Duration)> {
        let sessions = self.sessions.iter().flatten().filter(|session| session.established);
        sessions.filter_map(move |session| {
            let (prefix, since) = session.prefix_of(vip)?;
            Some((session, prefix, since))
        })
    }

    /// Whether an address is one of the node's.
    pub fn has(&self, address: IpAddr) -> bool {
        let sessions = self.sessions.iter().flatten();
        self.addresses.contains(&address) || sessions.into_iter().any(|one| one.local == Some(address))
    }
}

impl Session {
    /// The longest announced prefix that holds an address, default routes left out.
    pub fn prefix_of(&self, vip: IpAddr) -> Option<(IpNet, Duration)> {
        let longest = if vip.is_ipv4() { 32 } else { 128 };
        // By length, not by looking at all: a node may announce thousands, and thousands are asked for.
        (1..=longest).rev().find_map(|length| {
            let prefix = IpNet::new(vip, length).ok()?.trunc();
            Some((prefix, *self.announced.get(&prefix)?))
        })
    }
}

impl Evidence {
    /// The published view of the router that has an address, if it is not out of date.
    pub fn router_at(&self, address: IpAddr) -> Option<&RouterView> {
        self.fresh_routers().find(|view| view.addresses.contains(&address))
    }

    /// The published views that are not out of date.
    pub fn fresh_routers(&self) -> impl Iterator<Item = &RouterView> {
        self.routers.iter().map(Arc::as_ref).filter(|view| !view.is_stale(self.wall))
    }

    /// This node and those that tell of themselves.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// The node that has an address, as the objects or the nodes themselves tell.
    pub fn node_at(&self, address: IpAddr) -> Option<&str> {
        let by_facts = self.nodes().find(|node| node.has(address)).map(|node| node.node.as_str());
        by_facts.or_else(|| self.cluster.as_ref()?.node_of(address))
    }

    /// All virtual addresses that anybody knows of, sorted: those of Services, those given, and the host routes that this node
    /// announces out of a pool. Without pools nobody can tell a virtual address from a loopback.
    pub fn vips(&self) -> Vec<IpAddr> {
        let of_services: BTreeSet<IpAddr> = self.cluster.iter().flat_map(|cluster| cluster.vips()).collect();
        let sessions = self.own.sessions.iter().flatten().filter(|session| session.established);
        let announced = sessions.flat_map(|session| session.announced.keys());
        let hosts = announced.filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
        let foreign = hosts.map(IpNet::addr).filter(|address| !of_services.contains(address));
        let foreign = foreign.filter(|address| self.is_pooled(*address));
        let foreign = foreign.filter(|address| !self.is_other_address(*address));
        let others: Vec<IpAddr> = foreign.chain(self.given.iter().copied()).collect();
        of_services.into_iter().chain(others).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn is_pooled(&self, address: IpAddr) -> bool {
        let pools = self.cluster.iter().flat_map(|cluster| &cluster.pools);
        pools.flat_map(|pool| &pool.blocks).any(|block| block.holds(address))
    }

    /// Addresses that may be announced and are no virtual addresses: of nodes, and other ones of Services.
    fn is_other_address(&self, address: IpAddr) -> bool {
        let of_service = |cluster: &Arc<Cluster>| {
            cluster.services.iter().any(|service| service.other_addresses.contains(&address))
        };
        self.node_at(address).is_some() || self.cluster.as_ref().is_some_and(of_service)
    }
}
