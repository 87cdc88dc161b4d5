//! Health of the node's TCP sockets.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use super::family::{Buckets, Family, Kind, Measure, Page, Value, word};
use crate::model::measurement::Measurement;
use crate::model::tcp::{Histogram, TcpCounters, TcpPeer};

/// Peer prefixes shown: those with the most trouble, then with the most connections.
pub(super) const PEERS: usize = 64;

/// The smallest bucket bound is 2^4 µs (16 µs), the largest 2^24 µs (16.8 s).
const BOUNDS: std::ops::RangeInclusive<usize> = 4..=24;

const CLASS: &[&str] = &["class"];
const PEER: &[&str] = &["prefix"];

const fn of_class(name: &'static str, help: &'static str, advice: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit: Measure::Number, labels: CLASS, help, advice }
}

const fn of_peer(name: &'static str, help: &'static str, advice: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit: Measure::Number, labels: PEER, help, advice }
}

const RTT: Family = Family {
    name: "tcp_rtt",
    kind: Kind::Histogram,
    unit: Measure::Seconds,
    labels: CLASS,
    help: "Smoothed round-trip times of local sockets, a sample for each update of the kernel's estimate",
    advice: "A rise in one class points at its peers or its class of service, in all classes at the uplink.",
};
const CONNECT: Family = Family {
    name: "tcp_connect",
    kind: Kind::Histogram,
    unit: Measure::Seconds,
    labels: CLASS,
    help: "Times from SYN to established, for connections opened on this node",
    advice: "A step at 1 s or 3 s is a lost SYN that was sent again.",
};
const CONNECTS: Family =
    of_class("tcp_connects", "Connections opened by a socket of this node", "The rate of new connections.");
const ACCEPTS: Family =
    of_class("tcp_accepts", "Connections accepted by a socket of this node", "The rate of new connections.");
const FAILED: Family = of_class(
    "tcp_failed_connects",
    "Connections that never got an answer or were refused",
    "See which peers in `weir_tcp_peer_failed_connects_total`, then look for drops and routes towards them.",
);
const RESETS: Family = of_class(
    "tcp_resets",
    "Connections that ended by a reset or a time-out instead of FIN",
    "Look for restarting peers, and for middle boxes that forget connections.",
);
const RETRANSMITS: Family = of_class(
    "tcp_retransmitted_segments",
    "Segments that were sent again",
    "More than 1 % of what is sent: look for loss at `weir_drops_total` and on the path.",
);
const PEER_RTT: Family = Family {
    name: "tcp_peer_rtt",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: PEER,
    help: "Round-trip time to the peers of a prefix, as last smoothed by any socket",
    advice: "Compare with the minimum: the difference is queueing.",
};
const PEER_RTT_MIN: Family = Family {
    name: "tcp_peer_rtt_min",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: PEER,
    help: "The smallest smoothed round-trip time to the peers of a prefix",
    advice: "The path's own length; a jump means another path.",
};
const PEER_CONNECTIONS: Family = of_peer(
    "tcp_peer_connections",
    "Connections opened to or accepted from the peers of a prefix",
    "Shows who talks to this node.",
);
const PEER_FAILED: Family = of_peer(
    "tcp_peer_failed_connects",
    "Connections to the peers of a prefix that never got an answer or were refused",
    "Check that the prefix is reachable: route, neighbour, policy.",
);
const PEER_RESETS: Family = of_peer(
    "tcp_peer_resets",
    "Connections with the peers of a prefix that ended by a reset or a time-out",
    "As for the class, but here is the prefix.",
);
const PEER_RETRANSMITS: Family = of_peer(
    "tcp_peer_retransmitted_segments",
    "Segments sent again to the peers of a prefix",
    "Loss towards one prefix only: look at the path there, not at this node.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[
    &RTT,
    &CONNECT,
    &CONNECTS,
    &ACCEPTS,
    &FAILED,
    &RESETS,
    &RETRANSMITS,
    &PEER_RTT,
    &PEER_RTT_MIN,
    &PEER_CONNECTIONS,
    &PEER_FAILED,
    &PEER_RESETS,
    &PEER_RETRANSMITS,
];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, measurement: &Measurement) -> fmt::Result {
    classes(page, &measurement.tcp)?;
    peers(page, &measurement.tcp_peers)
}

/// A histogram of powers of two microseconds as buckets in seconds.
pub(super) fn buckets(Histogram { buckets: histogram, sum }: &Histogram) -> Buckets {
    // The last bucket has no upper bound of its own, so no bound from there on can be vouched for.
    let bounded = histogram.len().checked_sub(1).unwrap_or(*BOUNDS.end() + 1);
    let mut counts = Vec::with_capacity(BOUNDS.count() + 1);
    let mut next = 0;
    for bound in BOUNDS.take_while(|bound| *bound < bounded) {
        let below = histogram.get(next..=bound).unwrap_or_default();
        counts.push((Duration::from_micros(1 << bound).as_secs_f64(), below.iter().sum()));
        next = bound + 1;
    }
    counts.push((f64::INFINITY, histogram.get(next..).unwrap_or_default().iter().sum()));
    Buckets { counts, sum: sum.as_secs_f64() }
}

fn classes(page: &mut Page<'_>, rows: &[TcpCounters]) -> fmt::Result {
    let histograms = |of: fn(&TcpCounters) -> &Histogram| {
        rows.iter().map(move |row| ([Value::Text(word(&row.class))], buckets(of(row))))
    };
    page.histogram(&RTT, histograms(|row| &row.rtt))?;
    page.histogram(&CONNECT, histograms(|row| &row.connect))?;
    let counters = |value: fn(&TcpCounters) -> u64| {
        rows.iter().map(move |row| ([Value::Text(word(&row.class))], value(row)))
    };
    page.counter(&CONNECTS, counters(|row| row.connects))?;
    page.counter(&ACCEPTS, counters(|row| row.accepts))?;
    page.counter(&FAILED, counters(|row| row.failed_connects))?;
    page.counter(&RESETS, counters(|row| row.resets))?;
    page.counter(&RETRANSMITS, counters(|row| row.retransmits))
}

fn peers(page: &mut Page<'_>, rows: &[TcpPeer]) -> fmt::Result {
    let mut rows: Vec<&TcpPeer> = rows.iter().collect();
    let trouble = |row: &TcpPeer| row.failed_connects + row.resets + row.retransmits;
    rows.sort_by_key(|row| Reverse((trouble(row), row.connections)));
    rows.truncate(PEERS);
    let named: Vec<(String, &TcpPeer)> = rows.into_iter().map(|row| (row.prefix.to_string(), row)).collect();
    let gauges = |value: fn(&TcpPeer) -> Duration| {
        named.iter().map(move |(name, row)| ([name.as_str().into()], value(row).as_secs_f64()))
    };
    page.gauge(&PEER_RTT, gauges(|row| row.rtt))?;
    page.gauge(&PEER_RTT_MIN, gauges(|row| row.rtt_min))?;
    let counters = |value: fn(&TcpPeer) -> u64| {
        named.iter().map(move |(name, row)| ([name.as_str().into()], value(row)))
    };
    page.counter(&PEER_CONNECTIONS, counters(|row| row.connections))?;
    page.counter(&PEER_FAILED, counters(|row| row.failed_connects))?;
    page.counter(&PEER_RESETS, counters(|row| row.resets))?;
    page.counter(&PEER_RETRANSMITS, counters(|row| row.retransmits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_in_one_bucket() {
        let histogram: Vec<u64> = (0..32).map(|n| n + 1).collect();
        let counts = buckets(&Histogram { buckets: histogram.clone(), sum: Duration::ZERO }).counts;
        assert_eq!(counts.iter().map(|(_, n)| n).sum::<u64>(), histogram.iter().sum::<u64>());
        assert_eq!(counts[0], (16e-6, 1 + 2 + 3 + 4 + 5));
        assert_eq!(counts.len(), 22);
    }

    #[test]
    fn an_unbounded_bucket_is_only_in_the_last() {
        let counts = buckets(&Histogram { buckets: vec![0, 0, 0, 0, 0, 3, 7], sum: Duration::ZERO }).counts;
        assert_eq!(counts, [(16e-6, 0), (32e-6, 3), (f64::INFINITY, 7)]);
        let empty = buckets(&Histogram::default()).counts;
        assert_eq!((empty.len(), empty[21]), (22, (f64::INFINITY, 0)));
    }
}
