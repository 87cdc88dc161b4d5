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
    /// Whether the device has a carrier (`IFLA_CARRIER`); true for devices that do not tell.
    pub carrier: bool,
    /// Its link-layer address, if it has one.
    pub mac: Option<Mac>,
    /// Maximum transmission unit in octets.
    pub mtu: u32,
    /// Speed in bits a second, where the driver tells (`ETHTOOL_A_LINKMODES_SPEED`).
    pub speed: Option<u64>,
    /// The bond or bridge that it belongs to.
    pub master: Option<IfIndex>,
    /// The device below, such as a VLAN sub-interface's parent, if in this namespace. The peer of a veth is not below it.
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

/// The kernel's counters of a link (`struct rtnl_link_stats64` in linux/if_link.h, which defines the words below).
///
/// A driver fills most of them; the stack then adds its own drops to `rx_dropped`, `tx_dropped` and `rx_nohandler`
/// (`dev_get_stats` in net/core/dev.c). Drivers stretch the definitions, so treat each as that driver's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounters {
    /// Good packets received, also those that the host then had to drop.
    pub rx_packets: u64,
    /// Octets of the good packets received.
    pub rx_bytes: u64,
    /// Bad packets received: wrong length, checksum, framing and what the driver has no other counter for.
    pub rx_errors: u64,
    /// Good packets received and then dropped: by the driver for lack of memory, by the stack because the backlog of a
    /// CPU was full or because no protocol wanted them. Packets that the device itself dropped are in `rx_missed`.
    pub rx_dropped: u64,
    /// Packets that the device dropped because the host had given it no free buffer.
    pub rx_missed: u64,
    /// Packets dropped by the stack because the device is not meant to receive, such as the standby port of a bond.
    pub rx_nohandler: u64,
    /// Packets handed to the device.
    pub tx_packets: u64,
    /// Octets handed to the device.
    pub tx_bytes: u64,
    /// Packets that the device failed to send: aborted, no carrier, FIFO, heartbeat, window and other errors.
    pub tx_errors: u64,
    /// Packets dropped on the way to the device, by the driver or by the stack after the queueing discipline.
    pub tx_dropped: u64,
    /// Times the carrier was lost or came back (`IFLA_CARRIER_CHANGES`).
    pub carrier_changes: u64,
    /// Times the carrier was lost (`IFLA_CARRIER_DOWN_COUNT`).
    pub carrier_losses: u64,
    /// Packets dropped by the root queueing discipline and all below it (`drops` of `struct gnet_stats_queue`). The
    /// kernel does not include them in `tx_dropped`, and begins at zero again when the discipline is replaced.
    pub qdisc_drops: u64,
    /// Packets now waiting in the queueing disciplines of the device (`qlen` of `struct gnet_stats_queue`).
    pub qdisc_backlog: u64,
}

impl Link {
    /// Whether it can carry packets: set up, with a carrier, and not held down by a lower layer or a protocol.
    pub fn is_up(&self) -> bool {
        self.admin_up && self.carrier && matches!(self.state, OperState::Up | OperState::Unknown)
    }

    /// Whether this report was made before that one: the kernel's count of carrier changes only grows in a link's life.
    pub fn is_older_than(&self, other: &Link) -> bool {
        self.counters.carrier_changes < other.counters.carrier_changes
    }

    /// The same link with the history of what was known `before`.
    #[must_use]
    pub fn after(mut self, before: &Link) -> Link {
        self.flaps = before.flaps + self.losses_since(before);
        if (self.state, self.admin_up, self.carrier) == (before.state, before.admin_up, before.carrier) {
            self.changed = before.changed;
        }
        self
    }

    /// The kernel's own count also sees losses that came and went between two looks. It says nothing of an interface
    /// that was set down while its carrier stayed.
    fn losses_since(&self, before: &Link) -> u64 {
        if !before.admin_up && !self.admin_up {
            return 0;
        }
        let counted = self.counters.carrier_losses.saturating_sub(before.counters.carrier_losses);
        let fell = before.admin_up && before.carrier && !(self.admin_up && self.carrier);
        counted.max(u64::from(fell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(admin_up: bool, carrier: bool, state: OperState, carrier_losses: u64) -> Link {
        Link {
            index: IfIndex::try_from(2).unwrap(),
            name: "eth0".into(),
            kind: LinkKind::Physical,
            state,
            admin_up,
            carrier,
            mac: None,
            mtu: 1500,
            speed: None,
            master: None,
            parent: None,
            queue_length: 1000,
            counters: LinkCounters { carrier_losses, ..LinkCounters::default() },
            flaps: 0,
            changed: Some(Duration::from_secs(carrier_losses)),
        }
    }

    #[test]
    fn a_loss_counts_once_however_the_kernel_tells_of_it() {
        use OperState::{Down, Up};
        let steps = [
            (link(true, true, Up, 3), 0, "first sight counts nothing of the past"),
            (link(true, false, Up, 4), 1, "the count comes first"),
            (link(true, false, Down, 4), 1, "the state follows"),
            (link(true, true, Up, 4), 1, "back"),
            (link(true, true, Up, 6), 3, "two losses between two looks"),
            (link(false, true, Down, 6), 4, "set down with its carrier on"),
            (link(false, false, Down, 7), 4, "the carrier goes later"),
            (link(true, true, Up, 7), 4, "set up"),
            (link(false, false, Down, 8), 5, "both at once"),
            (link(true, true, Up, 0), 5, "a driver that begins at zero again"),
        ];
        let mut known = link(true, true, Up, 3);
        for (next, flaps, what) in steps {
            known = next.after(&known);
            assert_eq!(known.flaps, flaps, "{what}");
        }
    }

    #[test]
    fn the_time_of_a_change_stays_while_nothing_changes() {
        let before = link(true, true, OperState::Up, 1);
        assert_eq!(link(true, true, OperState::Up, 5).after(&before).changed, before.changed);
        assert_eq!(link(true, false, OperState::Up, 5).after(&before).changed, Some(Duration::from_secs(5)));
    }
}
