//! Network interfaces as the kernel tells of them.

use std::time::Duration;

use serde::Serialize;

use super::address::{IfIndex, Mac};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its operational state.
    pub state: OperState,
    /// Whether the administrator has set it up.
    pub admin_up: bool,
    /// Its link-layer address, if it has one.
    pub mac: Option<Mac>,
    /// Maximum transmission unit in octets.
    pub mtu: u32,
    /// Speed in bits a second, where the driver tells.
    pub speed: Option<u64>,
    /// The bond or bridge that it belongs to.
    pub master: Option<IfIndex>,
    /// The device below, such as a VLAN sub-interface's parent, if in this namespace.
    pub parent: Option<IfIndex>,
    /// Length of its transmit queue in packets.
    pub queue_length: u32,
    /// The kernel's counters.
    pub counters: LinkCounters,
    /// How often it lost its carrier or went down since the agent began to look.
    pub flaps: u64,
    /// When its state last changed, as time since boot.
    pub changed: Option<Duration>,
}

/// What kind of device a link is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// The loopback device.
    Loopback,
    /// A device of hardware, or one that the kernel names no kind for.
    Physical,
    /// A VLAN sub-interface with its identifier.
    Vlan(u16),
    /// A bond.
    Bond,
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// Any other, by the kernel's own word (`vxlan`, `wireguard`, `dummy`, ...).
    Other(String),
}

/// Operational state (RFC 2863, `IF_OPER_*` in linux/if.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperState {
    /// It can carry packets.
    Up,
    /// It cannot.
    Down,
    /// The device below is down.
    LowerLayerDown,
    /// It waits for an outside event.
    Dormant,
    /// In test mode.
    Testing,
    /// Its hardware is gone.
    NotPresent,
    /// The driver does not tell.
    Unknown,
}

/// The kernel's counters of a link (`struct rtnl_link_stats64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounters {
    /// Received packets.
    pub rx_packets: u64,
    /// Received octets.
    pub rx_bytes: u64,
    /// Bad received packets.
    pub rx_errors: u64,
    /// Received packets that were dropped for lack of room.
    pub rx_dropped: u64,
    /// Packets that the device dropped because no buffer was free.
    pub rx_missed: u64,
    /// Received packets for which no handler was found.
    pub rx_nohandler: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Sent octets.
    pub tx_bytes: u64,
    /// Packets that could not be sent because of errors.
    pub tx_errors: u64,
    /// Packets dropped on the way to the device.
    pub tx_dropped: u64,
    /// Times the carrier was lost, as counted by the kernel.
    pub carrier_changes: u64,
    /// Packets dropped by the queueing disciplines of the device.
    pub qdisc_drops: u64,
    /// Packets now waiting in the queueing disciplines of the device.
    pub qdisc_backlog: u64,
}
