//! Routes that one side of a session has told the other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::capability::Family;

/// The community by which a router is asked to prefer other paths (RFC 8326): 65535:0.
pub const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;

/// What one side has told the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rib {
    /// Routes in force.
    #[serde(with = "pairs")]
    pub routes: Arc<BTreeMap<RouteKey, Route>>,
    /// Prefixes taken back, and when (time since boot); the latest few thousand.
    #[serde(with = "pairs")]
    pub withdrawn: Arc<BTreeMap<RouteKey, Duration>>,
    /// Whether these are all routes that were told: the session was seen from its beginning, without a gap.
    pub complete: bool,
    /// When the first exchange of a family was over (End-of-RIB, RFC 4724 section 2), as time since boot.
    pub end_of_rib: BTreeMap<Family, Duration>,
    /// Routes told so far, repetitions included.
    pub announcements: u64,
    /// Routes taken back so far.
    pub withdrawals: u64,
    /// Routes for which there was no room.
    pub left_out: u64,
}

/// A prefix, and the path's number where several paths of a prefix are told (RFC 7911).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteKey {
    /// The prefix, without bits behind its length.
    pub prefix: IpNet,
    /// The path's number.
    pub path: Option<u32>,
}

/// A route in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What was told with it.
    pub attributes: Arc<Attributes>,
    /// Since when it has been in force, as time since boot.
    pub since: Duration,
    /// When it was last told, as time since boot.
    pub updated: Duration,
}

/// Path attributes (RFC 4271 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// How the route came into BGP.
    pub origin: Option<Origin>,
    /// The AS path, nearest first.
    pub as_path: Vec<PathSegment>,
    /// Where packets go.
    pub next_hop: Option<Hop>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_preference: Option<u32>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// Codes of attributes that mean nothing to this reader.
    pub unknown: Vec<u8>,
}

impl Attributes {
    /// Whether the sender asks to prefer other paths (RFC 8326).
    pub fn graceful_shutdown(&self) -> bool {
        self.communities.contains(&GRACEFUL_SHUTDOWN)
    }
}

/// How a route came into BGP (RFC 4271 section 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From an interior protocol.
    Igp,
    /// From EGP (RFC 904).
    Egp,
    /// By other means.
    Incomplete,
}

/// A part of an AS path (RFC 4271 section 4.3, RFC 5065).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathSegment {
    /// AS_SEQUENCE.
    Sequence(Vec<u32>),
    /// AS_SET.
    Set(Vec<u32>),
    /// AS_CONFED_SEQUENCE.
    ConfederationSequence(Vec<u32>),
    /// AS_CONFED_SET.
    ConfederationSet(Vec<u32>),
}

/// A next hop; of IPv6 routes it may come with a link-local address (RFC 2545 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The address, as told: an IPv4 address written as an IPv6 one stays so.
    pub address: IpAddr,
    /// The link-local address beside it.
    pub link_local: Option<Ipv6Addr>,
}

impl Rib {
    /// A route of a prefix: of several paths the one with the lowest number.
    pub fn route(&self, prefix: IpNet) -> Option<&Route> {
        let from = RouteKey { prefix: prefix.trunc(), path: None };
        let to = RouteKey { path: Some(u32::MAX), ..from };
        self.routes.range(from..=to).next().map(|(_, route)| route)
    }

    /// How many prefixes of a family are in force; paths of the same prefix count once.
    pub fn prefixes(&self, family: Family) -> u64 {
        let of_family = |key: &&RouteKey| matches!(key.prefix, IpNet::V4(_)) == (family == Family::Ipv4);
        let mut last = None;
        let distinct = self.routes.keys().filter(of_family);
        distinct.filter(|key| last.replace(key.prefix) != Some(key.prefix)).count() as u64
    }
}

/// Maps with keys that are no text: as a list of pairs.
mod pairs {
    use super::{Arc, BTreeMap};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &Arc<BTreeMap<K, V>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<Arc<BTreeMap<K, V>>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let pairs = Vec::<(K, V)>::deserialize(deserializer)?;
        Ok(Arc::new(pairs.into_iter().collect()))
    }
}
