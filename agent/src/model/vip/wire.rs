//! From BGP on the wire to what concerns virtual addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use ipnet::IpNet;

use super::evidence::Session;
use crate::model::bgp;

/// Prefixes of one session that are looked at; a node that announces more host routes than this announces no VIPs.
const PREFIXES: usize = 8_192;

/// The sessions of a view, with the prefixes that concern virtual addresses: host routes, and those that hold a known address.
pub fn sessions(view: &bgp::View, known: &BTreeSet<IpAddr>) -> Vec<Session> {
    let each = view.sessions.values().map(|session| Session {
        peer: session.key.peer.to_canonical(),
        local: Some(session.key.local.to_canonical()),
        established: session.state == bgp::SessionState::Established,
        state: session.state.as_str().to_owned(),
        since: Some(session.since.at()),
        complete: session.advertised.complete,
        announced: concerning(
            session.advertised.routes.iter().map(|(key, route)| (key.prefix, route.since)),
            known,
        ),
        withdrawn: concerning(session.advertised.withdrawn.iter().map(|(key, at)| (key.prefix, *at)), known),
    });
    each.collect()
}

fn concerning(
    all: impl Iterator<Item = (IpNet, Duration)>,
    known: &BTreeSet<IpAddr>,
) -> BTreeMap<IpNet, Duration> {
    all.filter(|(prefix, _)| is_host(prefix) || holds_any(prefix, known)).take(PREFIXES).collect()
}

fn is_host(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn holds_any(prefix: &IpNet, known: &BTreeSet<IpAddr>) -> bool {
    let range = (Bound::Included(prefix.network()), Bound::Included(prefix.broadcast()));
    prefix.prefix_len() > 0 && known.range(range).next().is_some()
}
