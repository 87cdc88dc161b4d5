//! What the datapath counted at each interface, and how it is attached there.

use serde::Serialize;

use super::address::{Direction, IfIndex};

/// Counters of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceCounters {
    /// Which interface.
    pub interface: IfIndex,
    /// Which hook of it.
    pub direction: Direction,
    /// Packets, super-packets counted once.
    pub packets: u64,
    /// Octets from the link-layer header on.
    pub bytes: u64,
    /// Packets on the wire: a super-packet counts as its segments.
    pub segments: u64,
    /// Packets that are not IP (ARP, LLDP, ...): counted here, in no flow.
    pub not_ip: u64,
    /// Packets whose headers were cut short or made no sense: counted here, in no flow.
    pub malformed: u64,
}

/// How the agent's program sits on a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Which interface.
    pub interface: IfIndex,
    /// Its name when last seen.
    pub name: String,
    /// Which hook of it.
    pub direction: Direction,
    /// How the program is attached and where in the chain.
    pub state: HookState,
    /// Identifiers of all programs on the hook, in the order in which they run; ours included.
    pub programs: Vec<u32>,
}

/// How the agent's program sits on a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum HookState {
    /// First in the TCX chain: it sees every packet.
    Head,
    /// Attached, but programs run before it and may hide packets from it.
    NotHead {
        /// How many run before it.
        before: usize,
    },
    /// The kernel has no TCX: a legacy tc filter.
    LegacyTc,
    /// Not attached.
    Detached {
        /// Why, and the way out.
        reason: String,
    },
}
