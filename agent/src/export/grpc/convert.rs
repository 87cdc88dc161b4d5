//! From the model to the messages of the gRPC interface. Pure; the only place where the two meet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::filter::Filter;
use super::{CHUNK, Moves, proto};
use crate::export::metrics::words::{self, layer as layer_word};
use crate::model::address::{Direction, IfIndex, Mac, Protocol};
use crate::model::cluster::Server;
use crate::model::drops::DropPlace;
use crate::model::flow::{Flow, tcp_flag_letters};
use crate::model::host::HostCounters;
use crate::model::link::{Link, LinkCounters, LinkKind};
use crate::model::loss::{LossLayer, Losses};
use crate::model::measurement::{Measurement, SourceError};
use crate::model::mesh::PeerProbe;
use crate::model::probe::{GatewayProbe, Probe};
use crate::model::tcp::TcpCounters;
use crate::state::Snapshot;

/// A duration as the interface's nanoseconds.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A source that could not be read, with its causes.
pub(super) fn problem(source: &str, error: &SourceError) -> proto::Problem {
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = Some(error.source.as_ref());
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    proto::Problem { source: source.to_owned(), text }
}

/// The word for where a packet was dropped.
pub(super) fn place(snapshot: &Snapshot, place: &DropPlace) -> String {
    match place {
        DropPlace::Interface(index) => snapshot.interface_name(*index),
        DropPlace::OtherNamespace => "other-namespace".to_owned(),
        DropPlace::NoDevice => "no-device".to_owned(),
    }
}

/// How the agent and the node are.
pub(super) fn status(
    snapshot: &Snapshot,
    measurement: &Result<Measurement, SourceError>,
    host: &Result<HostCounters, SourceError>,
) -> proto::StatusResponse {
    let report = &snapshot.capabilities;
    let failed = [("datapath", measurement.as_ref().err()), ("host", host.as_ref().err())];
    let problems = failed.into_iter().filter_map(|(source, error)| Some(problem(source, error?)));
    let missed = snapshot.missed.iter();
    let conntrack = host.as_ref().ok().and_then(|host| host.conntrack);
    let mut status = proto::StatusResponse {
        node: snapshot.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: report.kernel.clone(),
        lockdown: report.lockdown.clone(),
        held: report.held.clone(),
        hooks: hooks(snapshot),
        features: features(snapshot),
        gateways: snapshot.gateways.values().map(|one| gateway(snapshot, one)).collect(),
        mesh: snapshot.mesh.values().map(|one| mesh_peer(snapshot, one)).collect(),
        link_differences: link_differences(snapshot),
        vips: snapshot.vips.iter().map(|vip| vip.0.to_string()).collect(),
        conntrack: conntrack.map(|table| proto::Conntrack { entries: table.entries, limit: table.limit }),
        unobserved_ns: nanoseconds(snapshot.unobserved),
        missed: missed
            .map(|(kind, times)| proto::Missed { kind: (*kind).to_owned(), times: *times })
            .collect(),
        neighbours: neighbours(snapshot),
        routes: snapshot.routes.len() as u64,
        cluster: cluster(snapshot),
        problems: problems.collect(),
        ..Default::default()
    };
    if let Ok(measurement) = measurement {
        own_cost(&mut status, measurement);
    }
    status
}

fn own_cost(status: &mut proto::StatusResponse, measurement: &Measurement) {
    let programs = measurement.programs.iter().map(|one| proto::Program {
        name: one.program.clone(),
        runs: one.runs,
        run_time_ns: nanoseconds(one.run_time),
        memory_bytes: one.memory_bytes,
    });
    let maps = measurement.maps.iter().map(|one| proto::Map {
        name: one.map.clone(),
        entries: one.entries,
        capacity: one.capacity,
        memory_bytes: one.memory_bytes,
    });
    let shortfall = &measurement.shortfall;
    status.programs = programs.collect();
    status.maps = maps.collect();
    status.tcp = measurement.tcp.iter().map(tcp).collect();
    status.shortfall = Some(proto::Shortfall {
        flows_evicted: shortfall.flows_evicted,
        flow_insert_failures: shortfall.flow_insert_failures,
        ledger_overflow: shortfall.ledger_overflow,
        events_lost: shortfall.events_lost,
    });
}

fn cluster(snapshot: &Snapshot) -> Option<proto::Cluster> {
    let sources = &snapshot.sources;
    let kinds = |word| sources.kinds_that_are(word).map(str::to_owned).collect();
    (sources.server != Server::Off).then(|| proto::Cluster {
        server: sources.server.as_str().to_owned(),
        trouble: sources.trouble(),
        following: kinds("following"),
        missing: kinds("missing"),
        addresses: snapshot.workloads.len() as u64,
    })
}

fn hooks(snapshot: &Snapshot) -> Vec<proto::Hook> {
    let hooks = snapshot.hooks.values().map(|hook| {
        let (state, _, reason) = words::hook(&hook.state);
        proto::Hook {
            interface: hook.name.clone(),
            direction: hook.direction.to_string(),
            state: state.to_owned(),
            reason,
            programs: hook.programs.clone(),
        }
    });
    hooks.collect()
}

fn features(snapshot: &Snapshot) -> Vec<proto::Feature> {
    let features = snapshot.capabilities.features.iter().map(|feature| {
        let (state, reason) = words::feature(&feature.state);
        proto::Feature {
            name: feature.name.to_owned(),
            purpose: feature.purpose.to_owned(),
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            found: feature.found.clone(),
        }
    });
    features.collect()
}

fn neighbours(snapshot: &Snapshot) -> Vec<proto::NeighbourCount> {
    let mut counts: BTreeMap<_, u64> = BTreeMap::new();
    for one in snapshot.neighbours.values() {
        *counts.entry(one.state).or_default() += 1;
    }
    let word = |state| words::neighbour(state).to_owned();
    counts.into_iter().map(|(state, count)| proto::NeighbourCount { state: word(state), count }).collect()
}

fn gateway(snapshot: &Snapshot, one: &GatewayProbe) -> proto::Gateway {
    let probes = [(words::link_layer(one.gateway), &one.link_layer), ("echo", &one.echo)];
    proto::Gateway {
        interface: snapshot.interface_name(one.interface),
        address: one.gateway.to_string(),
        probes: probes.map(|(kind, one)| probe(kind, one)).into(),
        path_mtu: one.path_mtu,
    }
}

fn mesh_peer(snapshot: &Snapshot, one: &PeerProbe) -> proto::MeshPeer {
    proto::MeshPeer {
        node: one.node.clone(),
        interface: snapshot.interface_name(one.interface),
        address: one.address.to_string(),
        echo: Some(probe("echo", &one.echo)),
        path_mtu: one.path_mtu,
    }
}

fn link_differences(snapshot: &Snapshot) -> Vec<proto::LinkDifference> {
    let differing = snapshot.link_monitors.iter().filter(|one| one.differs);
    let differences = differing.map(|one| proto::LinkDifference {
        interface: one.link.clone(),
        monitor: one.monitor.clone(),
        says: one.says.as_str().to_owned(),
        is: one.is.map(|is| words::state(is).to_owned()),
    });
    differences.collect()
}

fn probe(kind: &str, one: &Probe) -> proto::Probe {
    proto::Probe {
        kind: kind.to_owned(),
        sent: one.sent,
        lost: one.lost,
        last_ns: one.last.map(nanoseconds),
        median_ns: one.latency.quantile(0.5).map(nanoseconds),
        unable: one.unable.clone(),
    }
}

fn tcp(one: &TcpCounters) -> proto::Tcp {
    proto::Tcp {
        class: one.class.clone(),
        connects: one.connects,
        accepts: one.accepts,
        failed_connects: one.failed_connects,
        resets: one.resets,
        retransmits: one.retransmits,
        rtt_median_ns: one.rtt.quantile(0.5).map(nanoseconds),
        rtt_p99_ns: one.rtt.quantile(0.99).map(nanoseconds),
    }
}

/// All links in the order of their index.
pub(super) fn links(snapshot: &Snapshot, host: Option<&HostCounters>) -> proto::LinksResponse {
    let links = snapshot.links.values().map(|one| link(snapshot, one, words::link_counters(host, one)));
    proto::LinksResponse { links: links.collect() }
}

fn link(snapshot: &Snapshot, one: &Link, counters: &LinkCounters) -> proto::Link {
    let name = |index: Option<IfIndex>| index.map(|index| snapshot.interface_name(index));
    proto::Link {
        index: one.index.into(),
        name: one.name.clone(),
        kind: words::kind(&one.kind).to_owned(),
        vlan: if let LinkKind::Vlan(vlan) = one.kind { Some(vlan.into()) } else { None },
        state: words::state(one.state).to_owned(),
        admin_up: one.admin_up,
        mac: one.mac.map(|mac| mac.to_string()),
        mtu: one.mtu,
        speed: one.speed,
        master: name(one.master),
        parent: name(one.parent),
        flaps: one.flaps,
        rx_packets: counters.rx_packets,
        rx_bytes: counters.rx_bytes,
        rx_errors: counters.rx_errors,
        rx_dropped: counters.rx_dropped + counters.rx_missed,
        tx_packets: counters.tx_packets,
        tx_bytes: counters.tx_bytes,
        tx_errors: counters.tx_errors,
        tx_dropped: counters.tx_dropped + counters.qdisc_drops,
        queue: counters.qdisc_backlog,
        measured: Direction::ALL
            .iter()
            .any(|direction| snapshot.hooks.contains_key(&(one.index, *direction))),
    }
}

/// What makes a flow the same at two looks.
pub(super) type FlowKey = (IfIndex, Direction, Option<u16>, Mac, [IpAddr; 2], Protocol, [u16; 2]);

/// The key of a flow.
pub(super) fn flow_key(flow: &Flow) -> FlowKey {
    let (ends, ports) = ([flow.source, flow.destination], [flow.source_port, flow.destination_port]);
    (flow.interface, flow.direction, flow.vlan, flow.hop, ends, flow.protocol, ports)
}

/// A flow with what it gained since the last look.
pub(super) fn flow(snapshot: &Snapshot, flow: &Flow, [new_packets, new_bytes]: [u64; 2]) -> proto::Flow {
    let workload = |address: &IpAddr| snapshot.workloads.get(address).map(|one| one.to_string());
    proto::Flow {
        source_workload: workload(&flow.source),
        destination_workload: workload(&flow.destination),
        interface: snapshot.interface_name(flow.interface),
        direction: flow.direction.to_string(),
        vlan: flow.vlan.map(u32::from),
        hop: flow.hop.to_string(),
        source: flow.source.to_string(),
        destination: flow.destination.to_string(),
        protocol: flow.protocol.to_string(),
        source_port: flow.source_port.into(),
        destination_port: flow.destination_port.into(),
        class: flow.class.to_string(),
        packets: flow.packets,
        bytes: flow.bytes,
        tcp_flags: tcp_flag_letters(flow.tcp_flags),
        first_ns: nanoseconds(flow.first),
        last_ns: nanoseconds(flow.last),
        new_packets,
        new_bytes,
    }
}

/// The largest flows, in messages of bounded size; the first message is there even when there is no flow.
pub(super) fn flow_pages(
    snapshot: &Snapshot,
    mut flows: Vec<Flow>,
    limit: usize,
) -> Vec<proto::FlowsResponse> {
    flows.sort_by_key(|flow| Reverse(flow.bytes));
    let left_out = flows.len().saturating_sub(limit) as u64;
    flows.truncate(limit);
    let mut pages = pages(flows.iter().map(|one| flow(snapshot, one, [0, 0])).collect());
    if let Some(first) = pages.first_mut() {
        first.left_out = left_out;
    }
    pages
}

/// The flows that moved since the last look, and what to compare the next look with.
pub(super) fn moving(
    snapshot: &Snapshot,
    filter: &Filter,
    flows: Vec<Flow>,
    before: Moves<FlowKey>,
    skipped: u64,
) -> (Vec<proto::FlowsResponse>, Moves<FlowKey>) {
    // Built anew at each look, so that flows that are gone are forgotten.
    let mut now = Moves::default();
    let mut moved = Vec::new();
    for one in flows.into_iter().filter(|flow| filter.matches(flow)) {
        let (key, counters) = (flow_key(&one), [one.packets, one.bytes]);
        now.since(key, before.before(&key));
        let grown = now.since(key, counters);
        if grown[0] > 0 {
            moved.push(flow(snapshot, &one, grown));
        }
    }
    moved.sort_by_key(|flow| Reverse(flow.new_bytes));
    let mut pages = pages(moved);
    if let Some(first) = pages.first_mut() {
        first.skipped = skipped;
    }
    (pages, now)
}

fn pages(flows: Vec<proto::Flow>) -> Vec<proto::FlowsResponse> {
    let mut pages: Vec<_> = flows
        .chunks(CHUNK)
        .map(|flows| proto::FlowsResponse { flows: flows.to_vec(), ..Default::default() })
        .collect();
    if pages.is_empty() {
        pages.push(proto::FlowsResponse::default());
    }
    pages
}

/// Dropped packets by source, reason and place.
pub(super) struct Drops(BTreeMap<(String, String, String), u64>);

/// All that dropped packets, as far as it could be read.
pub(super) fn drops(snapshot: &Snapshot, measurement: &Measurement, host: Option<&HostCounters>) -> Drops {
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for row in &measurement.drops {
        let key = ("kernel".to_owned(), row.reason.clone(), place(snapshot, &row.place));
        *sums.entry(key).or_default() += row.packets;
    }
    for link in words::watched(snapshot) {
        for (source, reason, packets) in words::link_drops(words::link_counters(host, link)) {
            sums.insert((source.to_owned(), reason.to_owned(), link.name.clone()), packets);
        }
    }
    for row in host.iter().flat_map(|host| &host.softnet) {
        sums.insert(
            ("softnet".to_owned(), "backlog_full".to_owned(), format!("cpu{}", row.cpu)),
            row.dropped,
        );
    }
    Drops(sums)
}

/// Where the measured interfaces lost packets; what no interface can be told of is in the place `elsewhere`.
pub(super) fn losses(snapshot: &Snapshot, losses: &Losses) -> Vec<proto::Loss> {
    let watched: BTreeMap<IfIndex, &Link> = words::watched(snapshot).map(|link| (link.index, link)).collect();
    let rows =
        losses.interfaces.iter().filter_map(|ledger| Some((watched.get(&ledger.interface)?, &ledger.rows)));
    let rows = rows.flat_map(|(link, rows)| {
        rows.iter().map(|row| proto::Loss {
            interface: link.name.clone(),
            layer: layer_word(row.layer).to_owned(),
            reason: row.reason.clone(),
            packets: row.packets,
        })
    });
    let elsewhere = (losses.backlog_elsewhere > 0).then(|| proto::Loss {
        interface: "elsewhere".to_owned(),
        layer: layer_word(LossLayer::Softnet).to_owned(),
        reason: "backlog_full".to_owned(),
        packets: losses.backlog_elsewhere,
    });
    rows.chain(elsewhere).collect()
}

/// What dropped more than at an earlier look, as a message.
pub(super) fn grown(now: &Drops, earlier: &Drops, skipped: u64) -> proto::DropsResponse {
    proto::DropsResponse { drops: now.grown_since(earlier), skipped, ..Default::default() }
}

/// A look at the drops that failed.
pub(super) fn drops_problem(error: &SourceError, skipped: u64) -> proto::DropsResponse {
    proto::DropsResponse { problems: vec![problem("datapath", error)], skipped, ..Default::default() }
}

/// A look at the flows that failed.
pub(super) fn flows_problem(error: &SourceError, skipped: u64) -> proto::FlowsResponse {
    proto::FlowsResponse { problems: vec![problem("flows", error)], skipped, ..Default::default() }
}

impl Drops {
    /// All that dropped anything, most packets first.
    pub(super) fn listed(&self) -> Vec<proto::Drop> {
        sorted(
            self.0
                .iter()
                .filter(|(_, packets)| **packets > 0)
                .map(|(key, packets)| message(key, *packets, 0)),
        )
    }

    /// What dropped more than at an earlier look, largest growth first.
    fn grown_since(&self, earlier: &Self) -> Vec<proto::Drop> {
        let grown = self.0.iter().filter_map(|(key, packets)| {
            let before = earlier.0.get(key).copied().unwrap_or_default();
            let grown = packets.checked_sub(before).unwrap_or(*packets);
            (grown > 0).then(|| message(key, *packets, grown))
        });
        sorted(grown)
    }
}

fn message(
    (source, reason, place): &(String, String, String),
    packets: u64,
    new_packets: u64,
) -> proto::Drop {
    let [source, reason, place] = [source, reason, place].map(String::clone);
    proto::Drop { source, reason, place, packets, new_packets }
}

fn sorted(drops: impl Iterator<Item = proto::Drop>) -> Vec<proto::Drop> {
    let mut drops: Vec<proto::Drop> = drops.collect();
    drops.sort_by_key(|drop| Reverse((drop.new_packets, drop.packets)));
    drops
}
