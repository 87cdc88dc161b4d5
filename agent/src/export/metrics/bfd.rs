//! Bidirectional Forwarding Detection.

use std::fmt;

use super::family::{Family, Kind, Measure, Page, Value, word};
use crate::model::bfd::{Rejection, SessionView};
use crate::state::Snapshot;

const PEER: &[&str] = &["peer"];

const MODE: Family = Family {
    name: "bfd_mode",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &["mode"],
    help: "1 for what the agent does about BFD",
    advice: "`observing`: another program owns the port, and the sessions shown are its own; `weirctl bfd` names it.",
};
const STATE: Family = Family {
    name: "bfd_session_state",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: PEER,
    help: "State of a session, as RFC 5880 numbers them: 0 admin-down, 1 down, 2 init, 3 up",
    advice: "Below 3 for longer than a restart of the router: `weirctl bfd` tells why.",
};
const MARGIN: Family = Family {
    name: "bfd_margin_ratio",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: PEER,
    help: "Share of the detection time that was left at worst when a packet came, over the last half to one minute",
    advice: "Below 0.3: the next delay is a flap; longer intervals, or look for a busy router or link.",
};
const DETECTION: Family = Family {
    name: "bfd_detection",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: &["peer", "side"],
    help: "Time without a packet after which the peer counts as gone here, and this node there, as negotiated",
    advice: "Larger than configured: the other end asked for slower packets. 15 s `there`: an agent has just ended.",
};
const DROPS: Family = Family {
    name: "bfd_session_drops",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["peer", "diagnostic"],
    help: "Times a session left Up, by the diagnostic told to the peer",
    advice: "`detection-time-expired`: loss towards this node. `neighbor-signaled-down`: loss towards the router, or its restart.",
};
const PACKETS: Family = Family {
    name: "bfd_packets",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["peer", "direction"],
    help: "Control packets of a session that were believed, and those sent",
    advice: "No growth of `ingress` on a session that is down: the peer sends none, or a filter drops them.",
};
const ECHOES: Family = Family {
    name: "bfd_echoes",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: PEER,
    help: "Echo packets that were sent back to a peer",
    advice: "No growth although the peer was given `echo=`: it does not use echo, or a filter drops UDP 3785.",
};
const REJECTED: Family = Family {
    name: "bfd_rejected_packets",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["reason"],
    help: "Packets to the ports of BFD that were not believed",
    advice: "`stranger` or `ttl`: somebody sends them who is no peer, or from afar. `queue-full`: a flood.",
};
const LATENESS: Family = Family {
    name: "bfd_transmit_lateness",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: &[],
    help: "By how much the agent's own packets were late at worst, over the last half to one minute",
    advice: "More than a third of an interval: give the agent CAP_SYS_NICE, or use longer intervals.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] =
    &[&MODE, &STATE, &MARGIN, &DETECTION, &DROPS, &PACKETS, &ECHOES, &REJECTED, &LATENESS];

/// Writes the families of this file; nothing where BFD was not asked for.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let bfd = &snapshot.bfd;
    let now = bfd.mode.as_str();
    if now == "off" {
        return Ok(());
    }
    let labels: Vec<String> = bfd.sessions.iter().map(label).collect();
    let peer = |label: &'_ String| Value::from(label.clone());
    let sessions = || labels.iter().zip(&bfd.sessions);
    page.gauge(&MODE, ["speaking", "observing"].map(|mode| ([mode.into()], u64::from(mode == now))))?;
    page.gauge(&STATE, sessions().map(|(label, one)| ([peer(label)], one.state as u64)))?;
    page.gauge(&MARGIN, sessions().filter_map(|(label, one)| Some(([peer(label)], one.margin?))))?;
    let detection = sessions().flat_map(|(label, one)| {
        let sides = [("here", one.detection_time), ("there", one.remote_detection_time)];
        sides.map(|(side, time)| ([peer(label), side.into()], time.as_secs_f64()))
    });
    page.gauge(&DETECTION, detection)?;
    let drops = sessions().flat_map(|(label, one)| {
        one.drops.iter().map(move |(why, count)| ([peer(label), why.as_str().into()], *count))
    });
    page.counter(&DROPS, drops)?;
    let packets = sessions().flat_map(|(label, one)| {
        let directions = [("ingress", one.received), ("egress", one.sent)];
        directions.map(|(direction, count)| ([peer(label), direction.into()], count))
    });
    page.counter(&PACKETS, packets)?;
    let echoes = sessions().filter(|(_, one)| one.echoes > 0);
    page.counter(&ECHOES, echoes.map(|(label, one)| ([peer(label)], one.echoes)))?;
    let count = |reason: &Rejection| bfd.rejected.0.get(reason).copied().unwrap_or(0);
    page.counter(&REJECTED, Rejection::ALL.iter().map(|reason| ([reason.as_str().into()], count(reason))))?;
    let own = (now == "speaking").then_some(([], bfd.lateness.as_secs_f64()));
    page.gauge(&LATENESS, own)
}

/// As [`SessionView::label`], in plain characters.
fn label(session: &SessionView) -> String {
    match &session.interface {
        Some(interface) => format!("{}%{}", session.peer, word(interface)),
        None => session.peer.to_string(),
    }
}
