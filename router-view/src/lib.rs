//! What a router has learned: the document that vyos-sync publishes and the agent reads. Data only.
//!
//! A part that the router would not show is absent, never empty. Words come from FRR; a reader takes one that it does not
//! know for a state that is not good.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The document's `apiVersion`.
pub const API_VERSION: &str = "weir.dev/v1alpha1";
/// The document's `kind`.
pub const KIND: &str = "RouterView";
/// Prefixes in one document at most; `truncated` says that there were more.
pub const PREFIXES: usize = 20_000;
/// A document is out of date after this many of its periods.
pub const PERIODS: u32 = 3;

/// What one router showed at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterView {
    /// [`API_VERSION`].
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// Name of the Router object.
    pub router: String,
    /// When the router was asked.
    pub observed_at: Timestamp,
    /// Seconds until the next document is due.
    pub period_seconds: u32,
    /// The router's own addresses towards its peers.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its BGP sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<Peer>>,
    /// Its BGP table, sorted by prefix: whoever reads it sorts it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<Prefix>>,
    /// Its neighbours' link-layer addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<Vec<Neighbour>>,
    /// Its interfaces' counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<Interface>>,
    /// Whether there were more prefixes than [`PREFIXES`].
    #[serde(default)]
    pub truncated: bool,
    /// What the router would not show, and why.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// A BGP session as the router sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's AS number.
    pub asn: u32,
    /// `established`, or FRR's word in lower case, such as `active` or `idle (admin)`.
    pub state: String,
    /// For how long, in FRR's words.
    pub since: String,
    /// Messages received and sent.
    pub messages: [u64; 2],
    /// Prefixes received, where the session is established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes_received: Option<u64>,
    /// BFD towards it, where there is some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

impl Peer {
    /// Whether routes are exchanged.
    pub fn is_established(&self) -> bool {
        self.state == "established"
    }
}

/// A BFD session as the router sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// `up`, `down`, `init`, `shutdown` and FRR's other words.
    pub state: String,
    /// For how long, in FRR's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The router's own diagnostic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
    /// What the peer tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_diagnostic: Option<String>,
}

/// A prefix of the BGP table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prefix {
    /// The prefix.
    pub prefix: IpNet,
    /// All its paths.
    pub paths: Vec<Path>,
    /// The next hops in the router's forwarding table; absent where it would not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Vec<IpAddr>>,
}

/// A path of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Its next hop.
    pub next_hop: IpAddr,
    /// Whether it may be used.
    pub valid: bool,
    /// Whether it is the best one.
    pub best: bool,
    /// Whether it is used beside the best one.
    pub multipath: bool,
    /// Whether it is kept for a peer that restarts (RFC 4724).
    pub stale: bool,
}

impl Path {
    /// Whether the router sends packets along it.
    pub fn is_used(&self) -> bool {
        self.valid && (self.best || self.multipath)
    }
}

/// A neighbour (ARP or ND).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Through which interface.
    pub interface: String,
    /// Its link-layer address, where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The kernel's word for its state, in lower case.
    pub state: String,
}

/// Counters of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Packets received and sent.
    pub packets: [u64; 2],
    /// Octets received and sent.
    pub bytes: [u64; 2],
    /// Packets dropped on the way in and out.
    pub dropped: [u64; 2],
}

impl RouterView {
    /// How old it is; zero where the two clocks disagree.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.duration_since(self.observed_at).try_into().unwrap_or_default()
    }

    /// Whether it is out of date: older than [`PERIODS`] of its periods.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.age(now) > Duration::from_secs(self.period_seconds.max(1).into()) * PERIODS
    }

    /// The session with a peer.
    pub fn peer(&self, address: IpAddr) -> Option<&Peer> {
        self.peers.iter().flatten().find(|peer| peer.address == address)
    }

    /// A prefix of the sorted table.
    pub fn prefix(&self, prefix: IpNet) -> Option<&Prefix> {
        let all = self.prefixes.as_ref()?;
        all.binary_search_by_key(&prefix, |one| one.prefix).ok().and_then(|at| all.get(at))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_as_written_and_needs_only_its_head() {
        let text = r#"{"apiVersion":"weir.dev/v1alpha1","kind":"RouterView","router":"gw",
            "observedAt":"2026-01-02T03:04:05Z","periodSeconds":30}"#;
        let view: RouterView = serde_json::from_str(text).unwrap();
        assert_eq!((view.peers.clone(), view.prefix("10.0.0.1/32".parse().unwrap())), (None, None));
        let again: RouterView = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
        assert_eq!(again, view);
        let at = |seconds| view.observed_at + jiff::SignedDuration::from_secs(seconds);
        assert!(!view.is_stale(at(90)) && view.is_stale(at(91)));
        assert_eq!(view.age(at(-5)), Duration::ZERO);
    }

    #[test]
    fn a_prefix_is_found_in_the_sorted_table() {
        let text = r#"{"apiVersion":"weir.dev/v1alpha1","kind":"RouterView","router":"gw","observedAt":"2026-01-02T03:04:05Z",
            "periodSeconds":30,"prefixes":[{"prefix":"10.10.50.10/32","paths":[]},{"prefix":"fd00::1/128","paths":[]}]}"#;
        let view: RouterView = serde_json::from_str(text).unwrap();
        let found = |prefix: &str| view.prefix(prefix.parse().unwrap()).is_some();
        assert_eq!(
            [found("10.10.50.10/32"), found("fd00::1/128"), found("10.10.50.0/24")],
            [true, true, false]
        );
    }
}
