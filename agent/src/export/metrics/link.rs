//! Network interfaces as the kernel tells of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value, word};
use crate::model::address::IfIndex;
use crate::model::host::HostCounters;
use crate::model::link::{Link, LinkCounters, LinkKind, OperState};
use crate::state::Snapshot;

/// Interfaces that have series of their own; watched ones come first, then uplinks, then all others.
pub(super) const LINKS: usize = 256;

const INTERFACE: &[&str] = &["interface"];
const DIRECTION: &[&str] = &["interface", "direction"];

const fn family(
    name: &'static str,
    kind: Kind,
    unit: Measure,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    Family { name, kind, unit, labels, help, advice }
}

const COUNT: Family = family(
    "links",
    Kind::Gauge,
    Measure::Number,
    &["kind", "state"],
    "Network interfaces",
    "Shows how many there are, also those beyond the bound of the per-interface series.",
);
const INFO: Family = family(
    "link",
    Kind::Info,
    Measure::Number,
    &["interface", "kind", "vlan", "master", "parent"],
    "What a network interface is",
    "Join with other series to group them by kind or bond.",
);
const UP: Family = family(
    "link_up",
    Kind::Gauge,
    Measure::Number,
    INTERFACE,
    "1 when a network interface can carry packets",
    "0 on an uplink: cable, switch port, or the device below.",
);
const MTU: Family = family(
    "link_mtu",
    Kind::Gauge,
    Measure::Bytes,
    INTERFACE,
    "Maximum transmission unit",
    "Must be the same on all ends of a segment.",
);
const SPEED: Family = family(
    "link_speed",
    Kind::Gauge,
    Measure::BytesPerSecond,
    INTERFACE,
    "Speed, where the driver tells",
    "Lower than bought: a bad cable or negotiation.",
);
const FLAPS: Family = family(
    "link_flaps",
    Kind::Counter,
    Measure::Number,
    INTERFACE,
    "Times an interface lost its carrier or went down since the agent began to look",
    "More than one in an hour: replace cable or transceiver, look at the switch.",
);
const CARRIER: Family = family(
    "link_carrier_changes",
    Kind::Counter,
    Measure::Number,
    INTERFACE,
    "Changes of the carrier as counted by the kernel",
    "As for flaps, but since the device appeared.",
);
const PACKETS: Family = family(
    "link_packets",
    Kind::Counter,
    Measure::Number,
    DIRECTION,
    "Packets as counted by the device",
    "The base for shares of errors and drops.",
);
const BYTES: Family = family(
    "link",
    Kind::Counter,
    Measure::Bytes,
    DIRECTION,
    "Octets as counted by the device",
    "The device's load.",
);
const ERRORS: Family = family(
    "link_errors",
    Kind::Counter,
    Measure::Number,
    DIRECTION,
    "Bad packets as counted by the device",
    "Any growth on hardware: cable, transceiver, duplex.",
);
const DROPS: Family = family(
    "link_drops",
    Kind::Counter,
    Measure::Number,
    &["interface", "reason"],
    "Packets dropped by the device or its queues",
    "`rx_missed`: enlarge the ring. `rx_nohandler`: unknown protocol or VLAN. `queue_full`: egress is too slow.",
);
const QUEUE_LENGTH: Family = family(
    "link_queue_length_packets",
    Kind::Gauge,
    Measure::Number,
    INTERFACE,
    "Length of the transmit queue",
    "A setting (`txqueuelen`).",
);
const BACKLOG: Family = family(
    "link_queue_backlog_packets",
    Kind::Gauge,
    Measure::Number,
    INTERFACE,
    "Packets that wait in the queueing disciplines",
    "Steadily above zero: the link is full.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[
    &COUNT,
    &INFO,
    &UP,
    &MTU,
    &SPEED,
    &FLAPS,
    &CARRIER,
    &PACKETS,
    &BYTES,
    &ERRORS,
    &DROPS,
    &QUEUE_LENGTH,
    &BACKLOG,
];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot, host: Option<&HostCounters>) -> fmt::Result {
    count(page, snapshot)?;
    let links = chosen(snapshot);
    info(page, snapshot, &links)?;
    let of = |link: &'_ &Link| [Value::Text(word(&link.name).into_owned().into())];
    page.gauge(&UP, links.iter().map(|link| (of(link), u64::from(link.is_up()))))?;
    page.gauge(&MTU, links.iter().map(|link| (of(link), link.mtu)))?;
    page.gauge(&SPEED, links.iter().filter_map(|link| Some((of(link), link.speed? / 8))))?;
    page.counter(&FLAPS, links.iter().map(|link| (of(link), link.flaps)))?;
    page.counter(&CARRIER, links.iter().map(|link| (of(link), counters(host, link).carrier_changes)))?;
    both(page, &PACKETS, &links, |link| {
        let counters = counters(host, link);
        [counters.rx_packets, counters.tx_packets]
    })?;
    both(page, &BYTES, &links, |link| {
        let counters = counters(host, link);
        [counters.rx_bytes, counters.tx_bytes]
    })?;
    both(page, &ERRORS, &links, |link| {
        let counters = counters(host, link);
        [counters.rx_errors, counters.tx_errors]
    })?;
    let dropped = links.iter().flat_map(|link| {
        let rows =
            drops(counters(host, link)).into_iter().filter(|(_, reason, _)| !reason.ends_with("errors"));
        rows.map(|(_, reason, packets)| ([Value::Text(word(&link.name)), reason.into()], packets))
    });
    page.counter(&DROPS, dropped)?;
    page.gauge(&QUEUE_LENGTH, links.iter().map(|link| (of(link), link.queue_length)))?;
    page.gauge(&BACKLOG, links.iter().map(|link| (of(link), counters(host, link).qdisc_backlog)))
}

/// The links on which the agent measures.
pub(crate) fn watched(snapshot: &Snapshot) -> impl Iterator<Item = &Link> {
    let indices: BTreeSet<IfIndex> = snapshot.hooks.keys().map(|(index, _)| *index).collect();
    indices.into_iter().filter_map(|index| snapshot.links.get(&index))
}

/// A link's counters, the freshest known.
pub(crate) fn counters<'a>(host: Option<&'a HostCounters>, link: &'a Link) -> &'a LinkCounters {
    host.and_then(|host| host.links.get(&link.index)).unwrap_or(&link.counters)
}

/// What a link lost by its own counters: who counted, the reason, and packets.
pub(crate) fn drops(counters: &LinkCounters) -> [(&'static str, &'static str, u64); 7] {
    [
        ("nic", "rx_errors", counters.rx_errors),
        ("nic", "rx_dropped", counters.rx_dropped),
        ("nic", "rx_missed", counters.rx_missed),
        ("nic", "rx_nohandler", counters.rx_nohandler),
        ("nic", "tx_errors", counters.tx_errors),
        ("nic", "tx_dropped", counters.tx_dropped),
        ("qdisc", "queue_full", counters.qdisc_drops),
    ]
}

/// Whether a link is one of those with series of their own.
pub(super) fn has_series(snapshot: &Snapshot, link: &Link) -> bool {
    snapshot.links.len() <= LINKS || chosen(snapshot).iter().any(|one| one.index == link.index)
}

/// The word of a kind in labels and tables.
pub(crate) fn kind_word(kind: &LinkKind) -> &str {
    match kind {
        LinkKind::Loopback => "loopback",
        LinkKind::Physical => "physical",
        LinkKind::Vlan(_) => "vlan",
        LinkKind::Bond => "bond",
        LinkKind::Bridge => "bridge",
        LinkKind::Veth => "veth",
        LinkKind::Other(kind) => kind,
    }
}

/// The word of a state in labels and tables.
pub(crate) fn state_word(state: OperState) -> &'static str {
    match state {
        OperState::Up => "up",
        OperState::Down => "down",
        OperState::LowerLayerDown => "lower-layer-down",
        OperState::Dormant => "dormant",
        OperState::Testing => "testing",
        OperState::NotPresent => "not-present",
        OperState::Unknown => "unknown",
    }
}

fn chosen(snapshot: &Snapshot) -> Vec<&Link> {
    let watched: BTreeSet<IfIndex> = watched(snapshot).map(|link| link.index).collect();
    let mut links: Vec<&Link> =
        snapshot.links.values().filter(|link| link.kind != LinkKind::Loopback).collect();
    let rank = |link: &Link| match link.kind {
        _ if watched.contains(&link.index) => 0,
        LinkKind::Physical | LinkKind::Bond | LinkKind::Bridge | LinkKind::Vlan(_) => 1,
        _ => 2,
    };
    links.sort_by_key(|link| (rank(link), link.index));
    links.truncate(LINKS);
    links
}

fn count(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for link in snapshot.links.values() {
        *counts.entry((kind_word(&link.kind), state_word(link.state))).or_default() += 1;
    }
    page.gauge(
        &COUNT,
        counts.into_iter().map(|((kind, state), n)| ([Value::Text(word(kind)), state.into()], n)),
    )
}

fn info(page: &mut Page<'_>, snapshot: &Snapshot, links: &[&Link]) -> fmt::Result {
    let name = |index: Option<IfIndex>| {
        index.and_then(|index| snapshot.links.get(&index)).map_or("", |link| &link.name)
    };
    page.info(
        &INFO,
        links.iter().map(|link| {
            let vlan = if let LinkKind::Vlan(vlan) = link.kind { vlan.to_string() } else { String::new() };
            let [master, parent] = [link.master, link.parent].map(|index| Value::Text(name(index).into()));
            let kind = Value::Text(word(kind_word(&link.kind)));
            [Value::Text(word(&link.name)), kind, vlan.into(), master, parent]
        }),
    )
}

fn both(
    page: &mut Page<'_>,
    family: &Family,
    links: &[&Link],
    values: impl Fn(&Link) -> [u64; 2],
) -> fmt::Result {
    let series = links.iter().flat_map(|link| {
        let [rx, tx] = values(link);
        [("ingress", rx), ("egress", tx)]
            .map(|(direction, n)| ([Value::Text(word(&link.name)), direction.into()], n))
    });
    page.counter(family, series)
}
