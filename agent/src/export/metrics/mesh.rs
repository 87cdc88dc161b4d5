//! Active probes of other nodes.

use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value, word};
use crate::model::mesh::PeerProbe;
use crate::state::Snapshot;

const PEER: &[&str] = &["peer_node", "family"];

const SENT: Family = Family {
    name: "mesh_probes",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: PEER,
    help: "Echo requests sent to another node of the mesh's sample",
    advice: "The base for the share that is lost. No series: no other node is known, or there is no route to it.",
};
const LOST: Family = Family {
    name: "mesh_probes_lost",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: PEER,
    help: "Echo requests to another node that got no answer in time",
    advice: "One node loses to all: its link. All lose to one: that node. One family alone: its routes or a filter.",
};
const ANSWERS: Family = Family {
    name: "mesh_answer_latency",
    kind: Kind::Counter,
    unit: Measure::Seconds,
    labels: PEER,
    help: "Time that answers of another node took, in all",
    advice: "Its rate by that of answers (sent less lost) is the mean latency.",
};
const LAST: Family = Family {
    name: "mesh_probe_last",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: PEER,
    help: "Latency of another node's last answer",
    advice: "For a glance; for alerts use `weir_mesh_answer_latency_seconds_total`.",
};
const UNABLE: Family = Family {
    name: "mesh_probe_unable",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: PEER,
    help: "1 when another node cannot be probed at all",
    advice: "`weirctl status` tells why.",
};
const PATH_MTU: Family = Family {
    name: "mesh_path_mtu",
    kind: Kind::Gauge,
    unit: Measure::Bytes,
    labels: PEER,
    help: "Largest IP packet that another node answered with fragmentation forbidden",
    advice: "Below the links' MTU: something between the two nodes has a smaller one.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&SENT, &LOST, &ANSWERS, &LAST, &UNABLE, &PATH_MTU];

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let peers: Vec<_> = snapshot.mesh.values().map(|one| (labels(one), one)).collect();
    page.counter(&SENT, peers.iter().map(|(labels, one)| (labels.clone(), one.echo.sent)))?;
    page.counter(&LOST, peers.iter().map(|(labels, one)| (labels.clone(), one.echo.lost)))?;
    let took = |one: &PeerProbe| one.echo.latency.sum.as_secs_f64();
    page.seconds(&ANSWERS, peers.iter().map(|(labels, one)| (labels.clone(), took(one))))?;
    let last = peers.iter().filter_map(|(labels, one)| Some((labels.clone(), one.echo.last?.as_secs_f64())));
    page.gauge(&LAST, last)?;
    let unable = peers.iter().map(|(labels, one)| (labels.clone(), u64::from(one.echo.unable.is_some())));
    page.gauge(&UNABLE, unable)?;
    let mtu = peers.iter().filter_map(|(labels, one)| Some((labels.clone(), u64::from(one.path_mtu?))));
    page.gauge(&PATH_MTU, mtu)
}

fn labels(one: &PeerProbe) -> [Value<'_>; 2] {
    let family = if one.address.is_ipv4() { "ipv4" } else { "ipv6" };
    [Value::Text(word(&one.node)), family.into()]
}
