//! What the datapath counted: interfaces, virtual addresses, classes.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use super::family::{Family, Kind, Measure, Page, Value, word};
use crate::model::address::{Direction, IfIndex, Mac, Protocol};
use crate::model::interface::InterfaceCounters;
use crate::model::measurement::Measurement;
use crate::model::vip::VipCounters;
use crate::state::Snapshot;

/// Next hops shown for each virtual address and direction: those with the most packets.
pub(super) const HOPS_PER_VIP: usize = 16;

const fn counter(
    name: &'static str,
    unit: Measure,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, unit, labels, help, advice }
}

const HOOK: &[&str] = &["interface", "direction"];
const VIP: &[&str] = &["vip", "port", "protocol", "direction"];
const VIP_TCP: &[&str] = &["vip", "port", "direction"];
const VIP_VLAN: &[&str] = &["vip", "interface", "vlan", "direction"];
const VIP_HOP: &[&str] = &["vip", "interface", "hop", "direction"];
const CLASS: &[&str] = &["class", "direction"];

const INTERFACE_PACKETS: Family = counter(
    "interface_packets",
    Measure::Number,
    HOOK,
    "Packets at the hook, a GSO or GRO super-packet counted once",
    "Compare with `weir_link_packets_total`: a growing gap means that the hook does not see all, see `weir_hook_state`.",
);
const INTERFACE_BYTES: Family = counter(
    "interface",
    Measure::Bytes,
    HOOK,
    "Octets at the hook from the link-layer header on, without an accelerated VLAN tag",
    "Compare with the link's speed to see how full it is.",
);
const INTERFACE_SEGMENTS: Family = counter(
    "interface_segments",
    Measure::Number,
    HOOK,
    "Packets on the wire: a super-packet counts as its segments",
    "Divide by packets to see how well offloads work.",
);
const INTERFACE_NON_IP: Family = counter(
    "interface_non_ip_packets",
    Measure::Number,
    HOOK,
    "Packets that are not IP, such as ARP and LLDP",
    "A sudden rise is often an ARP storm or a loop.",
);
const INTERFACE_MALFORMED: Family = counter(
    "interface_malformed_packets",
    Measure::Number,
    HOOK,
    "Packets whose headers were cut short or made no sense",
    "Capture on the interface; look for a broken device or an attack.",
);
const VIP_PACKETS: Family = counter(
    "vip_packets",
    Measure::Number,
    VIP,
    "Packets from or to a virtual address before any translation, over all interfaces",
    "Zero on every node: the router does not send the address here. See the router's routes for it.",
);
const VIP_BYTES: Family = counter(
    "vip",
    Measure::Bytes,
    VIP,
    "Octets from or to a virtual address from the link-layer header on",
    "Compare nodes to see how evenly the router spreads the load.",
);
const VIP_SYN: Family = counter(
    "vip_tcp_syn_packets",
    Measure::Number,
    VIP_TCP,
    "TCP packets of a virtual address with SYN and without ACK",
    "Many more than accepted connections: a flood, or no endpoint behind the address.",
);
const VIP_RST: Family = counter(
    "vip_tcp_rst_packets",
    Measure::Number,
    VIP_TCP,
    "TCP packets of a virtual address with RST",
    "Egress resets right after SYN mean that nothing listens behind the port.",
);
const VIP_VLAN_PACKETS: Family = counter(
    "vip_vlan_packets",
    Measure::Number,
    VIP_VLAN,
    "Packets of a virtual address by interface and VLAN",
    "Packets on a VLAN other than planned: look at the router's sub-interface and the switch port.",
);
const VIP_VLAN_BYTES: Family = counter(
    "vip_vlan",
    Measure::Bytes,
    VIP_VLAN,
    "Octets of a virtual address by interface and VLAN",
    "As for the packets.",
);
const VIP_HOP_PACKETS: Family = counter(
    "vip_hop_packets",
    Measure::Number,
    VIP_HOP,
    "Packets of a virtual address by next hop, the busiest 16 of each",
    "A next hop that is no router: a host on the same segment, or a spoofed address.",
);
const CLASS_PACKETS: Family = counter(
    "class_packets",
    Measure::Number,
    CLASS,
    "Packets of a traffic class over all watched interfaces",
    "A large `other`: add ports or prefixes to the class table.",
);
const CLASS_BYTES: Family = counter(
    "class",
    Measure::Bytes,
    CLASS,
    "Octets of a traffic class over all watched interfaces",
    "Shows which class fills a link.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[
    &INTERFACE_PACKETS,
    &INTERFACE_BYTES,
    &INTERFACE_SEGMENTS,
    &INTERFACE_NON_IP,
    &INTERFACE_MALFORMED,
    &VIP_PACKETS,
    &VIP_BYTES,
    &VIP_SYN,
    &VIP_RST,
    &VIP_VLAN_PACKETS,
    &VIP_VLAN_BYTES,
    &VIP_HOP_PACKETS,
    &CLASS_PACKETS,
    &CLASS_BYTES,
];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot, measurement: &Measurement) -> fmt::Result {
    interfaces(page, snapshot, &measurement.interfaces)?;
    let wanted: HashSet<IpAddr> = snapshot.vips.iter().map(|vip| vip.0).collect();
    let rows: Vec<&VipCounters> = measurement.vips.iter().filter(|row| wanted.contains(&row.vip.0)).collect();
    vips(page, &rows)?;
    vlans(page, snapshot, &rows)?;
    hops(page, snapshot, &rows)?;
    let classes = |value: fn(&crate::model::class::ClassCounters) -> u64| {
        measurement.classes.iter().map(move |class| {
            ([Value::Text(word(&class.class)), class.direction.as_str().into()], value(class))
        })
    };
    page.counter(&CLASS_PACKETS, classes(|class| class.packets))?;
    page.counter(&CLASS_BYTES, classes(|class| class.bytes))
}

fn interfaces(page: &mut Page<'_>, snapshot: &Snapshot, rows: &[InterfaceCounters]) -> fmt::Result {
    let series = |value: fn(&InterfaceCounters) -> u64| {
        rows.iter().filter_map(move |row| {
            let name = &snapshot.links.get(&row.interface)?.name;
            Some(([Value::Text(word(name)), row.direction.as_str().into()], value(row)))
        })
    };
    page.counter(&INTERFACE_PACKETS, series(|row| row.packets))?;
    page.counter(&INTERFACE_BYTES, series(|row| row.bytes))?;
    page.counter(&INTERFACE_SEGMENTS, series(|row| row.segments))?;
    page.counter(&INTERFACE_NON_IP, series(|row| row.not_ip))?;
    page.counter(&INTERFACE_MALFORMED, series(|row| row.malformed))
}

#[derive(Clone, Copy, Default)]
struct Sums {
    packets: u64,
    bytes: u64,
    syn: u64,
    rst: u64,
}

/// Adds up the rows with the same key, in the order of the keys.
fn sum_by<K: Ord + Copy>(rows: &[&VipCounters], key: impl Fn(&VipCounters) -> K) -> Vec<(K, Sums)> {
    let mut keyed: Vec<(K, &VipCounters)> = rows.iter().map(|row| (key(row), *row)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    let mut sums: Vec<(K, Sums)> = Vec::with_capacity(keyed.len());
    for (key, row) in keyed {
        if sums.last().is_none_or(|(last, _)| *last != key) {
            sums.push((key, Sums::default()));
        }
        if let Some((_, sum)) = sums.last_mut() {
            sum.packets += row.packets;
            sum.bytes += row.bytes;
            sum.syn += row.syn;
            sum.rst += row.rst;
        }
    }
    sums
}

/// Texts of addresses, each made once.
struct Texts(Vec<(IpAddr, String)>);

impl Texts {
    fn of(rows: &[&VipCounters]) -> Self {
        let mut addresses: Vec<IpAddr> = rows.iter().map(|row| row.vip.0).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self(addresses.into_iter().map(|address| (address, address.to_string())).collect())
    }

    fn get(&self, address: IpAddr) -> Value<'_> {
        match self.0.binary_search_by_key(&address, |(known, _)| *known) {
            Ok(at) => self.0[at].1.as_str().into(),
            Err(_) => address.to_string().into(),
        }
    }
}

fn port(port: Option<u16>) -> Value<'static> {
    port.map_or("other".into(), |port| u64::from(port).into())
}

fn vips(page: &mut Page<'_>, rows: &[&VipCounters]) -> fmt::Result {
    let texts = Texts::of(rows);
    let sums = sum_by(rows, |row| (row.vip.0, row.port, row.protocol.0, row.direction));
    let all = |value: fn(&Sums) -> u64| {
        let texts = &texts;
        sums.iter().map(move |((vip, number, protocol, direction), sum)| {
            let protocol = protocol_name(*protocol);
            ([texts.get(*vip), port(*number), protocol, direction.as_str().into()], value(sum))
        })
    };
    page.counter(&VIP_PACKETS, all(|sum| sum.packets))?;
    page.counter(&VIP_BYTES, all(|sum| sum.bytes))?;
    let tcp = |value: fn(&Sums) -> u64| {
        let texts = &texts;
        sums.iter().filter(|((_, _, protocol, _), _)| *protocol == 6).map(
            move |((vip, number, _, direction), sum)| {
                ([texts.get(*vip), port(*number), direction.as_str().into()], value(sum))
            },
        )
    };
    page.counter(&VIP_SYN, tcp(|sum| sum.syn))?;
    page.counter(&VIP_RST, tcp(|sum| sum.rst))
}

fn protocol_name(number: u8) -> Value<'static> {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        number => Protocol(number).to_string().into(),
    }
}

fn vlans(page: &mut Page<'_>, snapshot: &Snapshot, rows: &[&VipCounters]) -> fmt::Result {
    let texts = Texts::of(rows);
    let sums = sum_by(rows, |row| (row.vip.0, row.interface, row.vlan, row.direction));
    let series = |value: fn(&Sums) -> u64| {
        let texts = &texts;
        sums.iter().filter_map(move |((vip, interface, vlan, direction), sum)| {
            let vlan = vlan.map_or("none".into(), |vlan| u64::from(vlan).into());
            let labels =
                [texts.get(*vip), interface_name(snapshot, *interface)?, vlan, direction.as_str().into()];
            Some((labels, value(sum)))
        })
    };
    page.counter(&VIP_VLAN_PACKETS, series(|sum| sum.packets))?;
    page.counter(&VIP_VLAN_BYTES, series(|sum| sum.bytes))
}

fn hops(page: &mut Page<'_>, snapshot: &Snapshot, rows: &[&VipCounters]) -> fmt::Result {
    let texts = Texts::of(rows);
    let mut sums: Vec<((IpAddr, Direction, IfIndex, Mac), Sums)> =
        sum_by(rows, |row| (row.vip.0, row.direction, row.interface, row.hop));
    sums.retain(|((_, _, interface, _), _)| snapshot.links.contains_key(interface));
    let busiest = sums.chunk_by_mut(|(a, _), (b, _)| (a.0, a.1) == (b.0, b.1)).flat_map(|of_one| {
        of_one.sort_by_key(|(_, sum)| Reverse(sum.packets));
        of_one.iter().take(HOPS_PER_VIP)
    });
    page.counter(
        &VIP_HOP_PACKETS,
        busiest.filter_map(|((vip, direction, interface, hop), sum)| {
            let interface = interface_name(snapshot, *interface)?;
            Some((
                [texts.get(*vip), interface, hop.to_string().into(), direction.as_str().into()],
                sum.packets,
            ))
        }),
    )
}

fn interface_name(snapshot: &Snapshot, index: IfIndex) -> Option<Value<'_>> {
    snapshot.links.get(&index).map(|link| Value::Text(word(&link.name)))
}
