//! Rates between two readings. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::convert::{self, flow_key};
use super::{Moves, proto};
use crate::model::address::{Direction, IfIndex};
use crate::model::flow::Flow;
use crate::model::measurement::{Measurement, SourceError};
use crate::state::Snapshot;

/// Everything that rates are made of, read at one moment.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) measurement: Result<Measurement, SourceError>,
    pub(super) flows: Result<Vec<Flow>, SourceError>,
}

/// The rates between two readings, largest first.
pub(super) fn top(
    snapshot: &Snapshot,
    earlier: &Reading,
    later: &Reading,
    skipped: u64,
    limit: usize,
) -> proto::TopResponse {
    let elapsed = later.at.saturating_duration_since(earlier.at);
    let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
    let mut top =
        proto::TopResponse { interval_ns: convert::nanoseconds(elapsed), skipped, ..Default::default() };
    match (&earlier.measurement, &later.measurement) {
        (Ok(before), Ok(now)) => measured(&mut top, snapshot, before, now, seconds),
        (_, Err(error)) => top.problems.push(convert::problem("datapath", error)),
        (Err(_), Ok(_)) => {}
    }
    match (&earlier.flows, &later.flows) {
        (Ok(before), Ok(now)) => top.flows = flows(snapshot, before, now, seconds, limit),
        (_, Err(error)) => top.problems.push(convert::problem("flows", error)),
        (Err(_), Ok(_)) => {}
    }
    top.vips.truncate(limit);
    top.classes.truncate(limit);
    top.drops.truncate(limit);
    top
}

/// Packets, octets and SYNs of both directions.
#[derive(Clone, Copy, Default)]
struct Both {
    ingress: [u64; 2],
    egress: [u64; 2],
    syn: u64,
}

impl Both {
    fn add(&mut self, direction: Direction, packets: u64, bytes: u64, syn: u64) {
        let one = if direction == Direction::Ingress { &mut self.ingress } else { &mut self.egress };
        one[0] += packets;
        one[1] += bytes;
        self.syn += syn;
    }

    /// What was added since an earlier sum; a counter that began anew adds all that it shows.
    fn since(self, before: Self) -> Self {
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let pair = |now: [u64; 2], before: [u64; 2]| [grown(now[0], before[0]), grown(now[1], before[1])];
        Self {
            ingress: pair(self.ingress, before.ingress),
            egress: pair(self.egress, before.egress),
            syn: grown(self.syn, before.syn),
        }
    }

    fn bytes(self) -> u64 {
        self.ingress[1] + self.egress[1]
    }
}

fn rate([packets, bytes]: [u64; 2], seconds: f64) -> proto::Rate {
    proto::Rate { packets: packets as f64 / seconds, bytes: bytes as f64 / seconds }
}

/// The growth of each key between two sums, largest first.
fn growth<K: Ord + Clone>(before: &BTreeMap<K, Both>, now: BTreeMap<K, Both>) -> Vec<(K, Both)> {
    let grown = now.into_iter().map(|(key, sum)| {
        let since = sum.since(before.get(&key).copied().unwrap_or_default());
        (key, since)
    });
    let mut grown: Vec<(K, Both)> = grown.collect();
    grown.sort_by_key(|(_, sum)| Reverse(sum.bytes()));
    grown
}

fn measured(
    top: &mut proto::TopResponse,
    snapshot: &Snapshot,
    before: &Measurement,
    now: &Measurement,
    seconds: f64,
) {
    let pair = |sum: Both| (Some(rate(sum.ingress, seconds)), Some(rate(sum.egress, seconds)));
    top.interfaces = growth(&interfaces(before), interfaces(now))
        .into_iter()
        .filter(|(index, _)| snapshot.links.contains_key(index))
        .map(|(index, sum)| {
            let (ingress, egress) = pair(sum);
            proto::InterfaceRate { interface: snapshot.interface_name(index), ingress, egress }
        })
        .collect();
    top.vips = growth(&vips(before), vips(now))
        .into_iter()
        .map(|((vip, port, protocol), sum)| {
            let (ingress, egress) = pair(sum);
            let protocol = crate::model::address::Protocol(protocol).to_string();
            let (vip, port) = (vip.to_string(), port.map(u32::from));
            proto::VipRate { vip, port, protocol, ingress, egress, syn: sum.syn as f64 / seconds }
        })
        .collect();
    top.classes = growth(&classes(before), classes(now))
        .into_iter()
        .map(|(class, sum)| {
            let (ingress, egress) = pair(sum);
            proto::ClassRate { class: class.to_owned(), ingress, egress }
        })
        .collect();
    top.drops = drops(snapshot, before, now, seconds);
}

fn interfaces(measurement: &Measurement) -> BTreeMap<IfIndex, Both> {
    let mut sums: BTreeMap<IfIndex, Both> = BTreeMap::new();
    for row in &measurement.interfaces {
        sums.entry(row.interface).or_default().add(row.direction, row.packets, row.bytes, 0);
    }
    sums
}

fn vips(measurement: &Measurement) -> BTreeMap<(IpAddr, Option<u16>, u8), Both> {
    let mut sums: BTreeMap<_, Both> = BTreeMap::new();
    for row in &measurement.vips {
        let sum = sums.entry((row.vip.0, row.port, row.protocol.0)).or_default();
        sum.add(row.direction, row.packets, row.bytes, row.syn);
    }
    sums
}

fn classes(measurement: &Measurement) -> BTreeMap<&str, Both> {
    let mut sums: BTreeMap<&str, Both> = BTreeMap::new();
    for row in &measurement.classes {
        sums.entry(&row.class).or_default().add(row.direction, row.packets, row.bytes, 0);
    }
    sums
}

fn drops(snapshot: &Snapshot, before: &Measurement, now: &Measurement, seconds: f64) -> Vec<proto::DropRate> {
    let known: BTreeMap<_, u64> =
        before.drops.iter().map(|row| ((&row.reason, &row.place), row.packets)).collect();
    let grown = now.drops.iter().map(|row| {
        let before = known.get(&(&row.reason, &row.place)).copied().unwrap_or_default();
        (row, row.packets.checked_sub(before).unwrap_or(row.packets))
    });
    let mut grown: Vec<_> = grown.filter(|(_, packets)| *packets > 0).collect();
    grown.sort_by_key(|(_, packets)| Reverse(*packets));
    let rates = grown.into_iter().map(|(row, packets)| proto::DropRate {
        reason: row.reason.clone(),
        place: convert::place(snapshot, &row.place),
        packets: packets as f64 / seconds,
    });
    rates.collect()
}

fn flows(
    snapshot: &Snapshot,
    before: &[Flow],
    now: &[Flow],
    seconds: f64,
    limit: usize,
) -> Vec<proto::FlowRate> {
    let mut moves = Moves::default();
    for flow in before {
        moves.since(flow_key(flow), [flow.packets, flow.bytes]);
    }
    let mut grown: Vec<(&Flow, [u64; 2])> =
        now.iter().map(|flow| (flow, moves.since(flow_key(flow), [flow.packets, flow.bytes]))).collect();
    grown.retain(|(_, [packets, _])| *packets > 0);
    grown.sort_by_key(|(_, [_, bytes])| Reverse(*bytes));
    let rates = grown.into_iter().take(limit).map(|(flow, grown)| proto::FlowRate {
        flow: Some(convert::flow(snapshot, flow, grown)),
        rate: Some(rate(grown, seconds)),
    });
    rates.collect()
}
