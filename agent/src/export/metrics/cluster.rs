//! The cluster source.

use std::fmt;

use super::family::{Family, Kind, Measure, Page};
use crate::model::cluster::{Server, SourceState};
use crate::state::Snapshot;

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, unit: Measure::Number, labels, help, advice }
}

const CLUSTER: Family = gauge(
    "cluster_state",
    &["state"],
    "1 for the state of the cluster source: asked, answers or away; nothing without a cluster",
    "`away`: the agent goes on with what it knew. `weirctl status` tells why.",
);
const CLUSTER_KINDS: Family = gauge(
    "cluster_kind_state",
    &["kind", "state"],
    "1 for the way in which a kind of the cluster is followed: starting, following, missing or refused",
    "`refused`: the agent's account lacks a right. `missing`: the cluster has no such kind; it is looked for again.",
);
const POD_ADDRESSES: Family = gauge(
    "pod_addresses",
    &[],
    "Addresses of Pods on this node whose workload is known",
    "0 on a node with Pods: see `weir_cluster_state`.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&CLUSTER, &CLUSTER_KINDS, &POD_ADDRESSES];

/// Writes the families of this file; nothing without a cluster.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let sources = &snapshot.sources;
    let is_there = sources.server != Server::Off;
    let server = is_there.then_some(sources.server.as_str());
    let states =
        server.into_iter().flat_map(|now| Server::WORDS.map(|word| ([word.into()], u64::from(word == now))));
    page.gauge(&CLUSTER, states)?;
    let kinds = sources.kinds.iter().flat_map(|(kind, state)| {
        SourceState::WORDS.map(|word| ([(*kind).into(), word.into()], u64::from(word == state.as_str())))
    });
    page.gauge(&CLUSTER_KINDS, kinds)?;
    let addresses = is_there.then_some(snapshot.workloads.len() as u64);
    page.gauge(&POD_ADDRESSES, addresses.into_iter().map(|count| ([], count)))
}
