//! The kernel's neighbour tables (ARP and ND).

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::address::{IfIndex, Mac};

/// An entry of the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// On which interface.
    pub interface: IfIndex,
    /// Whose address.
    pub address: IpAddr,
    /// The link-layer address, once resolved.
    pub mac: Option<Mac>,
    /// Its state.
    pub state: NeighbourState,
    /// How often it became unreachable (FAILED) since the agent began to look.
    pub failures: u64,
    /// How often its link-layer address changed.
    pub moves: u64,
    /// When it last changed, as time since boot.
    pub changed: Option<Duration>,
}

/// State of a neighbour entry (`NUD_*` in linux/neighbour.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourState {
    /// Being resolved.
    Incomplete,
    /// Known good.
    Reachable,
    /// Good once, not used of late.
    Stale,
    /// Used again, about to be probed.
    Delay,
    /// Being probed.
    Probe,
    /// It does not answer.
    Failed,
    /// Needs no resolution.
    NoArp,
    /// Set by hand.
    Permanent,
}
