//! BGP's sessions as messages of the gRPC interface. Pure.

use std::net::IpAddr;
use std::time::Duration;

use tonic::Status;

use super::convert::nanoseconds;
use super::{CHUNK, proto};
use crate::export::metrics::words;
use crate::model::address::Direction;
use crate::model::bgp::{
    AddPath, Attributes, Capabilities, Cause, Drop, Family, Hold, Knowledge, Origin, PathSegment,
    ReportedSession, Rib, Route, RouteKey, Session, Side, Since, Speaker, Timing, View,
};
use crate::state::Snapshot;

/// Changes in one message; of more, the rest is summed up.
const CHANGES: usize = 1000;

/// What a client wants to see.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    peer: Option<IpAddr>,
    routes: bool,
}

impl Wanted {
    /// Reads a request.
    ///
    /// # Errors
    /// When the peer is no address.
    pub(super) fn parse(peer: Option<&str>, routes: bool) -> Result<Self, Status> {
        let read = |text: &str| {
            text.parse().map_err(|_| {
                Status::invalid_argument(format!(
                    "{text} is no address of a peer; write one such as 10.10.30.1"
                ))
            })
        };
        Ok(Self { peer: peer.map(read).transpose()?, routes })
    }

    fn sessions<'a>(&'a self, view: &'a View) -> impl Iterator<Item = &'a Session> {
        let sessions = view.sessions.values().map(AsRef::as_ref);
        sessions.filter(|session: &&Session| self.peer.is_none_or(|peer| session.key.peer == peer))
    }
}

/// Everything, in messages of bearable size.
pub(super) fn pages(snapshot: &Snapshot, wanted: &Wanted, now: Duration) -> Vec<proto::BgpResponse> {
    let sessions = wanted.sessions(&snapshot.bgp).map(|session| message(snapshot, session)).collect();
    let differences = differences(snapshot, wanted);
    let reported = reported(snapshot, wanted);
    let mut pages = vec![proto::BgpResponse { sessions, differences, reported, ..empty(&snapshot.bgp, now) }];
    if wanted.routes {
        let mut routes = Vec::new();
        for session in wanted.sessions(&snapshot.bgp) {
            let peer = peer(snapshot, session);
            for (direction, rib) in ribs(session) {
                routes.extend(rib.routes.iter().map(|(key, one)| route(&peer, direction, key, one)));
            }
        }
        let chunks = routes.chunks(CHUNK).map(<[_]>::to_vec);
        pages.extend(chunks.map(|routes| proto::BgpResponse { routes, ..empty(&snapshot.bgp, now) }));
    }
    pages
}

/// What happened between two views.
pub(super) fn changes(
    snapshot: &Snapshot,
    before: &View,
    wanted: &Wanted,
    now: Duration,
    skipped: u64,
) -> proto::BgpResponse {
    let mut answer = proto::BgpResponse { skipped, ..empty(&snapshot.bgp, now) };
    for session in wanted.sessions(&snapshot.bgp) {
        let known = before.sessions.get(&session.key).map(AsRef::as_ref);
        if known.is_some_and(|known| std::ptr::eq(known, session)) {
            continue;
        }
        let told = answer.changes.len();
        happened(&peer(snapshot, session), known, session, &mut answer.changes);
        if answer.changes.len() > told {
            answer.sessions.push(message(snapshot, session));
        }
    }
    answer.changes.sort_by_key(|change| change.at_ns);
    answer
}

fn differences(snapshot: &Snapshot, wanted: &Wanted) -> Vec<proto::BgpDifference> {
    let all = snapshot.bgp_reported.differences(&snapshot.bgp).into_iter();
    let wanted = all.filter(|one| wanted.peer.is_none_or(|peer| one.peer == peer));
    wanted
        .map(|one| proto::BgpDifference {
            peer: one.peer.to_string(),
            about: one.about.as_str().to_owned(),
            wire: one.wire,
            reported: one.reported,
        })
        .collect()
}

fn reported(snapshot: &Snapshot, wanted: &Wanted) -> Vec<proto::BgpReported> {
    let all = snapshot.bgp_reported.sessions.iter();
    let wanted = all.filter(|one| wanted.peer.is_none_or(|peer| one.peer == peer));
    wanted
        .map(|one| proto::BgpReported {
            peer: one.peer.to_string(),
            state: one.state.map(|state| state.as_str().to_owned()),
            local_asn: one.local_asn.map(|asn| asn.0),
            peer_asn: one.peer_asn.map(|asn| asn.0),
            hold_ns: one.hold_time.map(nanoseconds),
            advertised: ReportedSession::total(&one.advertised),
            received: ReportedSession::total(&one.received),
        })
        .collect()
}

fn empty(view: &View, now: Duration) -> proto::BgpResponse {
    let missed = view.missed;
    let missed =
        proto::BgpMissed { segments: missed.segments, bytes: missed.bytes, connections: missed.connections };
    proto::BgpResponse { missed: Some(missed), now_ns: nanoseconds(now), ..Default::default() }
}

fn peer(snapshot: &Snapshot, session: &Session) -> String {
    words::bgp_peer(&session.key, |index| snapshot.interface_name(index))
}

fn ribs(session: &Session) -> [(Direction, &Rib); 2] {
    [(Direction::Egress, &session.advertised), (Direction::Ingress, &session.received)]
}

fn happened(peer: &str, before: Option<&Session>, now: &Session, into: &mut Vec<proto::BgpChange>) {
    let change = |at: Duration, kind: &str, what: String, detail: Option<String>| proto::BgpChange {
        at_ns: nanoseconds(at),
        peer: peer.to_owned(),
        kind: kind.to_owned(),
        direction: None,
        what,
        detail,
    };
    let lost = |drop: &Drop| {
        let words = drop.text.as_ref().map(|text| format!("; {text:?}")).unwrap_or_default();
        Some(format!("{}{words}", drop.reason))
    };
    if let Some(drop) =
        now.last_drop.as_ref().filter(|drop| before.and_then(|it| it.last_drop.as_ref()) != Some(*drop))
    {
        into.push(change(drop.at, "drop", drop.cause.as_str().to_owned(), lost(drop)));
    }
    let failed = now.last_failure.as_ref();
    if let Some(drop) = failed.filter(|drop| before.and_then(|it| it.last_failure.as_ref()) != Some(*drop)) {
        into.push(change(drop.at, "failure", drop.cause.as_str().to_owned(), lost(drop)));
    }
    if before.is_none_or(|before| (before.state, before.since) != (now.state, now.since)) {
        into.push(change(now.since.at(), "state", now.state.as_str().to_owned(), None));
    }
    if let Knowledge::Gap { at } = now.knowledge
        && before.is_none_or(|before| before.knowledge != now.knowledge)
    {
        into.push(change(at, "gap", "octets are missing".to_owned(), None));
    }
    for (number, (direction, rib)) in ribs(now).into_iter().enumerate() {
        let known = before.map(|before| ribs(before)[number].1);
        moved(peer, direction, known, rib, into);
    }
}

fn moved(
    peer: &str,
    direction: Direction,
    before: Option<&Rib>,
    now: &Rib,
    into: &mut Vec<proto::BgpChange>,
) {
    if before.is_some_and(|before| {
        std::sync::Arc::ptr_eq(&before.routes, &now.routes)
            && std::sync::Arc::ptr_eq(&before.withdrawn, &now.withdrawn)
    }) {
        return;
    }
    let change = |at: Duration, kind: &str, key: &RouteKey, detail: Option<String>| proto::BgpChange {
        at_ns: nanoseconds(at),
        peer: peer.to_owned(),
        kind: kind.to_owned(),
        direction: Some(direction.to_string()),
        what: key.prefix.to_string(),
        detail,
    };
    let mut changes = Vec::new();
    for (key, route) in now.routes.iter() {
        match before.and_then(|before| before.routes.get(key)) {
            Some(known) if known.updated == route.updated => {}
            Some(known) if known.since == route.since => {
                changes.push(change(route.updated, "changed", key, Some(detail(&route.attributes))));
            }
            _ => changes.push(change(route.updated, "announced", key, Some(detail(&route.attributes)))),
        }
    }
    for (key, at) in now.withdrawn.iter() {
        if before.and_then(|before| before.withdrawn.get(key)) != Some(at) {
            changes.push(change(*at, "withdrawn", key, None));
        }
    }
    let more = changes.len().saturating_sub(CHANGES);
    if more > 0 {
        changes.sort_by_key(|change| change.at_ns);
        changes.truncate(CHANGES);
        if let Some(last) = changes.last().cloned() {
            let (what, detail) = (format!("{more} more routes"), None);
            changes.push(proto::BgpChange { kind: "more".to_owned(), what, detail, ..last });
        }
    }
    into.extend(changes);
}

fn detail(attributes: &Attributes) -> String {
    let hop = attributes.next_hop.map(|hop| format!("via {}", hop.address));
    let path = Some(as_path(&attributes.as_path)).filter(|path| !path.is_empty());
    let communities = communities(attributes);
    let parts = [hop, path.map(|path| format!("path {path}"))].into_iter().flatten();
    let communities = (!communities.is_empty()).then(|| format!("communities {}", communities.join(" ")));
    parts.chain(communities).collect::<Vec<_>>().join(", ")
}

fn message(snapshot: &Snapshot, session: &Session) -> proto::BgpSession {
    let (since, since_exact) = match session.since {
        Since::Exactly(at) => (at, true),
        Since::Before(at) => (at, false),
    };
    let knowledge = match session.knowledge {
        Knowledge::Whole => "whole",
        Knowledge::Joined { .. } => "joined",
        Knowledge::Gap { .. } => "gap",
    };
    let hold = session.hold();
    let drops = Cause::ALL.into_iter().filter_map(|cause| {
        let times = session.drops.get(&cause).copied()?;
        Some(proto::BgpDrops { cause: cause.as_str().to_owned(), times })
    });
    let convergence = session.convergence.iter().map(|(event, all)| proto::BgpConvergence {
        event: event.as_str().to_owned(),
        times: all.times.count(),
        last_ns: nanoseconds(all.last),
    });
    proto::BgpSession {
        local: session.key.local.to_string(),
        peer: peer(snapshot, session),
        interface: session.interface.map(|index| snapshot.interface_name(index)),
        state: session.state.as_str().to_owned(),
        since_ns: nanoseconds(since),
        since_exact,
        knowledge: knowledge.to_owned(),
        local_speaker: Some(speaker(&session.local)),
        peer_speaker: Some(speaker(&session.peer)),
        hold_ns: hold.map(|hold| nanoseconds(hold.time())),
        hold_estimated: matches!(hold, Some(Hold::Estimated(_))),
        hold_margin: session.hold_margin(),
        authenticated: session.authenticated,
        password_suspect: session.password_suspect,
        egress: Some(direction(&session.advertised, &session.sending)),
        ingress: Some(direction(&session.received, &session.receiving)),
        drops: drops.collect(),
        last_drop: session.last_drop.as_ref().map(lost),
        last_failure: session.last_failure.as_ref().map(lost),
        established: session.established,
        convergence: convergence.collect(),
    }
}

fn lost(drop: &Drop) -> proto::BgpDrop {
    let by = drop.by.map(|side| match side {
        Side::Local => "local",
        Side::Peer => "peer",
    });
    proto::BgpDrop {
        at_ns: nanoseconds(drop.at),
        cause: drop.cause.as_str().to_owned(),
        by: by.map(str::to_owned),
        code: drop.code.map(|(code, _)| code.into()),
        subcode: drop.code.map(|(_, subcode)| subcode.into()),
        hard_reset: drop.hard_reset,
        reason: drop.reason.clone(),
        text: drop.text.clone(),
    }
}

fn speaker(speaker: &Speaker) -> proto::BgpSpeaker {
    let capabilities = speaker.capabilities.as_ref();
    proto::BgpSpeaker {
        asn: speaker.asn.map(|asn| asn.0),
        identifier: speaker.identifier.map(|identifier| identifier.to_string()),
        hold_ns: speaker.hold_time.map(nanoseconds),
        host_name: capabilities.and_then(|all| all.host_name.clone()),
        capabilities: capabilities.map(capability_words).unwrap_or_default(),
    }
}

fn capability_words(all: &Capabilities) -> Vec<String> {
    let mut words: Vec<String> = all.families.iter().map(ToString::to_string).collect();
    words.extend(all.other_families.iter().map(|(afi, safi)| format!("afi-{afi}-safi-{safi}")));
    let flags = [
        (all.route_refresh, "route-refresh"),
        (all.enhanced_route_refresh, "enhanced-route-refresh"),
        (all.extended_next_hop, "extended-next-hop"),
        (all.extended_message, "extended-message"),
        (all.four_octet_asn.is_some(), "four-octet-asn"),
        (all.graceful_restart.is_some(), "graceful-restart"),
        (all.long_lived_graceful_restart, "long-lived-graceful-restart"),
    ];
    words.extend(flags.into_iter().filter(|(has, _)| *has).map(|(_, word)| word.to_owned()));
    words.extend(all.add_path.iter().map(|(family, mode)| {
        let mode = match mode {
            AddPath::Receive => "receive",
            AddPath::Send => "send",
            AddPath::Both => "both",
        };
        format!("add-path-{family}-{mode}")
    }));
    words
}

fn direction(rib: &Rib, timing: &Timing) -> proto::BgpDirection {
    let end = |family| rib.end_of_rib.get(&family).copied().map(nanoseconds);
    proto::BgpDirection {
        ipv4_prefixes: rib.prefixes(Family::Ipv4),
        ipv6_prefixes: rib.prefixes(Family::Ipv6),
        complete: rib.complete,
        announcements: rib.announcements,
        withdrawals: rib.withdrawals,
        ipv4_end_of_rib_ns: end(Family::Ipv4),
        ipv6_end_of_rib_ns: end(Family::Ipv6),
        last_message_ns: timing.last_message.map(nanoseconds),
        keepalive_interval_ns: timing.keepalive_interval.map(nanoseconds),
        keepalive_jitter_ns: timing.jitter.map(nanoseconds),
        open: timing.messages.open,
        update: timing.messages.update,
        notification: timing.messages.notification,
        keepalive: timing.messages.keepalive,
        route_refresh: timing.messages.route_refresh,
        malformed: timing.malformed,
        missing_bytes: timing.missing_bytes,
        repeated_bytes: timing.repeated_bytes,
        garbage_bytes: timing.garbage_bytes,
        resyncs: timing.resyncs,
        left_out: rib.left_out,
    }
}

fn route(peer: &str, direction: Direction, key: &RouteKey, route: &Route) -> proto::BgpRoute {
    let attributes = &route.attributes;
    let origin = attributes.origin.map(|origin| match origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    });
    proto::BgpRoute {
        peer: peer.to_owned(),
        direction: direction.to_string(),
        prefix: key.prefix.to_string(),
        path_id: key.path,
        next_hop: attributes.next_hop.map(|hop| hop.address.to_string()),
        as_path: as_path(&attributes.as_path),
        origin: origin.map(str::to_owned),
        med: attributes.med,
        local_preference: attributes.local_preference,
        communities: communities(attributes),
        since_ns: nanoseconds(route.since),
        updated_ns: nanoseconds(route.updated),
    }
}

fn communities(attributes: &Attributes) -> Vec<String> {
    let plain = attributes.communities.iter().map(|one| format!("{}:{}", one >> 16, one & 0xffff));
    let large = attributes.large_communities.iter().map(|[a, b, c]| format!("{a}:{b}:{c}"));
    plain.chain(large).collect()
}

fn as_path(path: &[PathSegment]) -> String {
    let join =
        |numbers: &[u32], by: &str| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(by);
    let segment = |segment: &PathSegment| match segment {
        PathSegment::Sequence(numbers) => join(numbers, " "),
        PathSegment::Set(numbers) => format!("{{{}}}", join(numbers, ",")),
        PathSegment::ConfederationSequence(numbers) => format!("({})", join(numbers, " ")),
        PathSegment::ConfederationSet(numbers) => format!("[{}]", join(numbers, ",")),
    };
    path.iter().map(segment).collect::<Vec<_>>().join(" ")
}
