//! Links as the kernel describes them (`RTM_NEWLINK`, linux/if_link.h).

use std::time::Duration;

use super::attribute::{after, attributes, text, u16_at, u32_at, u64_at};
use crate::model::address::{IfIndex, Mac};
use crate::model::link::{Link, LinkCounters, LinkKind, OperState};

/// `struct ifinfomsg`.
const HEADER: usize = 16;
/// `IFLA_VLAN_ID` (linux/if_link.h).
const VLAN_ID: u16 = 1;

/// The body of a request for all links.
pub(super) const REQUEST: [u8; HEADER] = [0; HEADER];

/// Whose link a message is about. `None` for other families: a bridge speaks of its ports by the same message types, and
/// its `RTM_DELLINK` means that the port left the bridge, not that the link has gone.
pub(super) fn index(body: &[u8]) -> Option<IfIndex> {
    let family = i32::from(*body.first()?);
    if family != libc::AF_UNSPEC { None } else { IfIndex::try_from(u32_at(body, 4)?).ok() }
}

/// The link of a message, as of `now` (time since boot). Its speed and its queueing disciplines are told elsewhere.
/// `None` for a message without a name: wireless events come by the same type and describe no link.
pub(super) fn link(body: &[u8], now: Duration) -> Option<Link> {
    let mut link = blank(index(body)?, u32_at(body, 8)?, now);
    let mut kind = KindOfLink::default();
    let mut below = None;
    let mut below_is_elsewhere = false;
    for (number, value) in attributes(after(body, HEADER)) {
        match number {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac).filter(|mac| !mac.is_zero()),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or_default(),
            libc::IFLA_TXQLEN => link.queue_length = u32_at(value, 0).unwrap_or_default(),
            libc::IFLA_MASTER => link.master = interface(value),
            libc::IFLA_LINK => below = interface(value),
            libc::IFLA_LINK_NETNSID => below_is_elsewhere = true,
            libc::IFLA_OPERSTATE => link.state = oper_state(value),
            libc::IFLA_CARRIER => link.carrier = value.first() != Some(&0),
            libc::IFLA_STATS64 => counters(value, &mut link.counters),
            libc::IFLA_CARRIER_CHANGES => link.counters.carrier_changes = count(value),
            libc::IFLA_CARRIER_DOWN_COUNT => link.counters.carrier_losses = count(value),
            libc::IFLA_LINKINFO => kind = kind_of_link(value),
            _ => {}
        }
    }
    link.kind = kind.into_kind(u16_at(body, 2)?);
    if !below_is_elsewhere && link.kind != LinkKind::Veth {
        link.parent = below.filter(|below| *below != link.index);
    }
    (!link.name.is_empty()).then_some(link)
}

fn blank(index: IfIndex, flags: u32, now: Duration) -> Link {
    Link {
        index,
        name: String::new(),
        kind: LinkKind::Physical,
        state: OperState::Unknown,
        admin_up: flags & libc::IFF_UP as u32 != 0,
        carrier: true,
        mac: None,
        mtu: 0,
        speed: None,
        master: None,
        parent: None,
        queue_length: 0,
        counters: LinkCounters::default(),
        flaps: 0,
        changed: Some(now),
    }
}

#[derive(Default)]
struct KindOfLink {
    word: Option<String>,
    vlan: Option<u16>,
}

impl KindOfLink {
    fn into_kind(self, hardware: u16) -> LinkKind {
        match self.word.as_deref() {
            None if hardware == libc::ARPHRD_LOOPBACK => LinkKind::Loopback,
            None => LinkKind::Physical,
            Some("bond") => LinkKind::Bond,
            Some("bridge") => LinkKind::Bridge,
            Some("veth") => LinkKind::Veth,
            Some(word) => self.vlan.map_or_else(|| LinkKind::Other(word.to_owned()), LinkKind::Vlan),
        }
    }
}

fn kind_of_link(info: &[u8]) -> KindOfLink {
    let find = |wanted| attributes(info).find(|(number, _)| *number == wanted).map(|(_, value)| value);
    let word = find(libc::IFLA_INFO_KIND).map(text);
    let data = find(libc::IFLA_INFO_DATA).unwrap_or_default();
    let vlan = attributes(data).find(|(number, _)| *number == VLAN_ID);
    let vlan = vlan.filter(|_| word.as_deref() == Some("vlan")).and_then(|(_, value)| u16_at(value, 0));
    KindOfLink { word, vlan }
}

fn interface(value: &[u8]) -> Option<IfIndex> {
    IfIndex::try_from(u32_at(value, 0)?).ok()
}

fn count(value: &[u8]) -> u64 {
    u32_at(value, 0).unwrap_or_default().into()
}

/// `IF_OPER_*` (RFC 2863, linux/if.h).
fn oper_state(value: &[u8]) -> OperState {
    match value.first() {
        Some(1) => OperState::NotPresent,
        Some(2) => OperState::Down,
        Some(3) => OperState::LowerLayerDown,
        Some(4) => OperState::Testing,
        Some(5) => OperState::Dormant,
        Some(6) => OperState::Up,
        _ => OperState::Unknown,
    }
}

/// `struct rtnl_link_stats64`: a row of 64-bit counters that newer kernels make longer.
fn counters(value: &[u8], counters: &mut LinkCounters) {
    let field = |place: usize| u64_at(value, place * 8).unwrap_or_default();
    counters.rx_packets = field(0);
    counters.tx_packets = field(1);
    counters.rx_bytes = field(2);
    counters.tx_bytes = field(3);
    counters.rx_errors = field(4);
    counters.tx_errors = field(5);
    counters.rx_dropped = field(6);
    counters.tx_dropped = field(7);
    counters.rx_missed = field(15);
    counters.rx_nohandler = field(23);
}
