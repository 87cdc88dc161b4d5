//! What the kernel gave up and how full it is: drops, the loss ledger, neighbours, routes, its own counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::family::{Family, Kind, Measure, Page, Value, word};
use super::{Scrape, link};
use crate::model::address::IfIndex;
use crate::model::host::HostCounters;
use crate::model::link::Link;
use crate::model::loss::{LossLayer, Losses};
use crate::model::neighbour::{Neighbour, NeighbourState};
use crate::state::Snapshot;

/// Gateways whose neighbour entries have series of their own.
pub(super) const NEIGHBOURS: usize = 64;

/// The counters of `/proc/net/{snmp,snmp6,netstat}` that tell of loss or pressure.
pub(super) const SNMP: &[(&str, &str)] = &[
    ("Ip", "InHdrErrors"),
    ("Ip", "InAddrErrors"),
    ("Ip", "InDiscards"),
    ("Ip", "OutDiscards"),
    ("Ip", "OutNoRoutes"),
    ("Ip", "ReasmFails"),
    ("Ip", "FragFails"),
    ("Ip6", "InHdrErrors"),
    ("Ip6", "InDiscards"),
    ("Ip6", "OutDiscards"),
    ("Ip6", "OutNoRoutes"),
    ("Ip6", "ReasmFails"),
    ("Ip6", "FragFails"),
    ("Tcp", "InSegs"),
    ("Tcp", "OutSegs"),
    ("Tcp", "RetransSegs"),
    ("Tcp", "InErrs"),
    ("Tcp", "OutRsts"),
    ("Tcp", "AttemptFails"),
    ("Tcp", "EstabResets"),
    ("Udp", "InErrors"),
    ("Udp", "NoPorts"),
    ("Udp", "RcvbufErrors"),
    ("Udp", "SndbufErrors"),
    ("Udp6", "InErrors"),
    ("Udp6", "RcvbufErrors"),
    ("TcpExt", "ListenOverflows"),
    ("TcpExt", "ListenDrops"),
    ("TcpExt", "TCPBacklogDrop"),
    ("TcpExt", "TCPTimeouts"),
    ("TcpExt", "TCPSynRetrans"),
    ("TcpExt", "SyncookiesSent"),
    ("TcpExt", "SyncookiesFailed"),
    ("TcpExt", "TCPReqQFullDrop"),
    ("TcpExt", "PruneCalled"),
];

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    Family { name, kind, unit: Measure::Number, labels, help, advice }
}

const DROPS: Family = family(
    "drops",
    Kind::Counter,
    &["reason", "source"],
    "Packets that were given up. Sources see some of the same packets, so do not add them up",
    "Look at the reason that grows; `weirctl drops` shows where. `nic` and `qdisc` are those of the watched interfaces.",
);
const LOSS: Family = family(
    "loss_packets",
    Kind::Counter,
    &["interface", "layer", "reason"],
    "Packets that a watched interface lost since the first scrape, each under the first layer that knows why",
    "The layer tells where to look: `nic` ring size or cabling, `softnet` CPU, `qdisc` egress rate, `kernel` the reason.",
);
const UNEXPLAINED: Family = family(
    "loss_unexplained_packets",
    Kind::Gauge,
    &["interface"],
    "Packets that a watched interface counts as lost and that no layer explains",
    "Should stay near zero; otherwise read the driver's own statistics (`ethtool -S`).",
);
const ELSEWHERE: Family = family(
    "loss_backlog_elsewhere_packets",
    Kind::Gauge,
    &[],
    "Packets that a full backlog dropped on this host, of all network namespaces, and that no interface's rows hold",
    "See `weir_softnet_dropped_packets_total` for the CPU.",
);
const NEIGHBOUR_COUNT: Family = family(
    "neighbours",
    Kind::Gauge,
    &["interface", "state"],
    "Entries of the neighbour table",
    "Many `incomplete` or `failed`: a scan, or a segment that is cut.",
);
const NEIGHBOUR_FAILURES: Family = family(
    "gateway_neighbour_failures",
    Kind::Counter,
    &["interface", "gateway"],
    "Times a gateway's neighbour entry became unreachable",
    "The router did not answer ARP or ND: look at the link, the VLAN and the router.",
);
const NEIGHBOUR_MOVES: Family = family(
    "gateway_neighbour_moves",
    Kind::Counter,
    &["interface", "gateway"],
    "Times a gateway's link-layer address changed",
    "Expected when a virtual router fails over; otherwise look for a duplicate address.",
);
const ROUTES: Family = family(
    "routes",
    Kind::Gauge,
    &["family", "protocol"],
    "Routes of the main tables by who made them",
    "A sudden fall of `bgp` or `dhcp` means that their source went away.",
);
const DEFAULT_HOPS: Family = family(
    "default_route_hops",
    Kind::Gauge,
    &["family"],
    "Ways of the default route with the lowest metric; no series without a default route",
    "Fewer than planned: an uplink or its gateway is down.",
);
const CONNTRACK: Family = family(
    "conntrack_entries",
    Kind::Gauge,
    &[],
    "Entries of the connection-tracking table",
    "Near the limit new connections are dropped: raise `nf_conntrack_max` or find who opens them.",
);
const CONNTRACK_LIMIT: Family = family(
    "conntrack_entries_limit",
    Kind::Gauge,
    &[],
    "Most entries of the connection-tracking table",
    "The base for its fill.",
);
const SOFTNET_PROCESSED: Family = family(
    "softnet_processed_packets",
    Kind::Counter,
    &["cpu"],
    "Packets that a CPU took off its receive queues",
    "One CPU far above the others: spread the queues (RSS, RPS).",
);
const SOFTNET_DROPPED: Family = family(
    "softnet_dropped_packets",
    Kind::Counter,
    &["cpu"],
    "Packets dropped because a CPU's backlog was full",
    "Raise `net.core.netdev_max_backlog` or spread the queues.",
);
const SOFTNET_SQUEEZES: Family = family(
    "softnet_time_squeezes",
    Kind::Counter,
    &["cpu"],
    "Polls that ended with work left, because budget or time ran out",
    "Steady growth together with drops: raise `net.core.netdev_budget`.",
);
const SOFTNET_BACKLOG: Family = family(
    "softnet_backlog_packets",
    Kind::Gauge,
    &["cpu"],
    "Packets now in a CPU's backlog",
    "Rarely above zero on a healthy node.",
);
const SNMP_COUNTERS: Family = family(
    "snmp_events",
    Kind::Counter,
    &["table", "counter"],
    "Chosen counters of `/proc/net/snmp`, `snmp6` and `netstat`",
    "See RFC 4293, 4022 and 4113 for `Ip`, `Tcp` and `Udp`, the kernel's snmp_counter document for `TcpExt`.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[
    &DROPS,
    &LOSS,
    &UNEXPLAINED,
    &ELSEWHERE,
    &NEIGHBOUR_COUNT,
    &NEIGHBOUR_FAILURES,
    &NEIGHBOUR_MOVES,
    &ROUTES,
    &DEFAULT_HOPS,
    &CONNTRACK,
    &CONNTRACK_LIMIT,
    &SOFTNET_PROCESSED,
    &SOFTNET_DROPPED,
    &SOFTNET_SQUEEZES,
    &SOFTNET_BACKLOG,
    &SNMP_COUNTERS,
];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, scrape: &Scrape) -> fmt::Result {
    drops(page, scrape)?;
    scrape.loss.as_ref().map_or(Ok(()), |losses| loss(page, &scrape.snapshot, losses))?;
    neighbours(page, &scrape.snapshot)?;
    routes(page, &scrape.snapshot)?;
    scrape.host.as_ref().map_or(Ok(()), |host| self::host(page, host))
}

/// The word of a layer in labels and tables.
pub(crate) fn layer_word(layer: LossLayer) -> &'static str {
    match layer {
        LossLayer::Nic => "nic",
        LossLayer::Softnet => "softnet",
        LossLayer::Qdisc => "qdisc",
        LossLayer::Policy => "policy",
        LossLayer::Kernel => "kernel",
        LossLayer::Unexplained => "unexplained",
    }
}

/// The word of a neighbour's state in labels and tables.
pub(crate) fn neighbour_word(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay => "delay",
        NeighbourState::Probe => "probe",
        NeighbourState::Failed => "failed",
        NeighbourState::NoArp => "no-arp",
        NeighbourState::Permanent => "permanent",
    }
}

fn drops(page: &mut Page<'_>, scrape: &Scrape) -> fmt::Result {
    let mut sums: BTreeMap<(&'static str, Value<'_>), u64> = BTreeMap::new();
    for row in scrape.measurement.iter().flat_map(|measurement| &measurement.drops) {
        *sums.entry(("kernel", Value::Text(word(&row.reason)))).or_default() += row.packets;
    }
    for one in link::watched(&scrape.snapshot) {
        for (source, reason, packets) in link::drops(link::counters(scrape.host.as_ref(), one)) {
            *sums.entry((source, reason.into())).or_default() += packets;
        }
    }
    if let Some(host) = scrape.host.as_ref().filter(|host| !host.softnet.is_empty()) {
        let dropped = host.softnet.iter().map(|cpu| cpu.dropped).sum();
        sums.insert(("softnet", "backlog_full".into()), dropped);
    }
    page.counter(
        &DROPS,
        sums.into_iter().map(|((source, reason), packets)| ([reason, source.into()], packets)),
    )
}

fn loss(page: &mut Page<'_>, snapshot: &Snapshot, losses: &Losses) -> fmt::Result {
    let watched: BTreeMap<IfIndex, &Link> = link::watched(snapshot).map(|link| (link.index, link)).collect();
    let mut explained: BTreeMap<[Value<'_>; 3], u64> = BTreeMap::new();
    let mut unexplained: BTreeMap<[Value<'_>; 1], u64> = BTreeMap::new();
    for ledger in &losses.interfaces {
        let Some(link) = watched.get(&ledger.interface) else { continue };
        for row in &ledger.rows {
            let interface = Value::Text(word(&link.name));
            if row.layer == LossLayer::Unexplained {
                *unexplained.entry([interface]).or_default() += row.packets;
            } else {
                let reason = Value::Text(word(&row.reason));
                *explained.entry([interface, layer_word(row.layer).into(), reason]).or_default() +=
                    row.packets;
            }
        }
    }
    page.counter(&LOSS, explained)?;
    page.gauge(&UNEXPLAINED, unexplained)?;
    page.gauge(&ELSEWHERE, [([], losses.backlog_elsewhere)])
}

fn neighbours(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut counts: BTreeMap<(&str, NeighbourState), u64> = BTreeMap::new();
    for one in snapshot.neighbours.values() {
        if let Some(link) = snapshot.links.get(&one.interface).filter(|link| link::has_series(snapshot, link))
        {
            *counts.entry((&link.name, one.state)).or_default() += 1;
        }
    }
    let labels = |(name, state)| [Value::Text(word(name)), neighbour_word(state).into()];
    page.gauge(&NEIGHBOUR_COUNT, counts.into_iter().map(|(key, count)| (labels(key), count)))?;
    let gateways = gateway_neighbours(snapshot);
    let series = |value: fn(&Neighbour) -> u64| {
        gateways
            .iter()
            .map(move |(name, one)| ([Value::Text(word(name)), one.address.to_string().into()], value(one)))
    };
    page.counter(&NEIGHBOUR_FAILURES, series(|one| one.failures))?;
    page.counter(&NEIGHBOUR_MOVES, series(|one| one.moves))
}

fn gateway_neighbours(snapshot: &Snapshot) -> Vec<(&str, &Neighbour)> {
    let hops = snapshot.routes.iter().flat_map(|route| &route.hops);
    let gateways: BTreeSet<_> = hops.filter_map(|hop| Some((hop.interface, hop.gateway?))).collect();
    let entries = gateways
        .iter()
        .filter_map(|key| Some((snapshot.links.get(&key.0)?.name.as_str(), snapshot.neighbours.get(key)?)));
    entries.take(NEIGHBOURS).collect()
}

fn routes(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut defaults: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for route in &snapshot.routes {
        let family = family_word(route.destination.addr());
        *counts.entry((family, route_maker(route.protocol))).or_default() += 1;
        if route.is_default() {
            let best = defaults.entry(family).or_insert((route.metric, 0));
            if route.metric < best.0 {
                *best = (route.metric, 0);
            }
            if route.metric == best.0 {
                best.1 += route.hops.len() as u64;
            }
        }
    }
    let series = counts.into_iter().map(|((family, maker), count)| ([family.into(), maker.into()], count));
    page.gauge(&ROUTES, series)?;
    page.gauge(&DEFAULT_HOPS, defaults.into_iter().map(|(family, (_, hops))| ([family.into()], hops)))
}

fn family_word(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// `RTPROT_*` in linux/rtnetlink.h.
fn route_maker(protocol: u8) -> &'static str {
    match protocol {
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        12 => "bird",
        16 => "dhcp",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        _ => "other",
    }
}

fn host(page: &mut Page<'_>, host: &HostCounters) -> fmt::Result {
    page.gauge(&CONNTRACK, host.conntrack.map(|table| ([], table.entries)))?;
    page.gauge(&CONNTRACK_LIMIT, host.conntrack.map(|table| ([], table.limit)))?;
    let cpus = |value: fn(&crate::model::host::Softnet) -> u64| {
        host.softnet.iter().map(move |row| ([u64::from(row.cpu).into()], value(row)))
    };
    page.counter(&SOFTNET_PROCESSED, cpus(|row| row.processed))?;
    page.counter(&SOFTNET_DROPPED, cpus(|row| row.dropped))?;
    page.counter(&SOFTNET_SQUEEZES, cpus(|row| row.time_squeeze))?;
    page.gauge(&SOFTNET_BACKLOG, cpus(|row| row.backlog))?;
    let known: BTreeMap<(&str, &str), u64> =
        host.snmp.iter().map(|row| ((row.table.as_str(), row.name.as_str()), row.value)).collect();
    let chosen = SNMP.iter().filter_map(|key| Some(([key.0.into(), key.1.into()], *known.get(key)?)));
    page.counter(&SNMP_COUNTERS, chosen)
}
