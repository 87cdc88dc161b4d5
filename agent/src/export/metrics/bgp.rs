//! BGP as the wire shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::family::{Family, Kind, Measure, Page, Value, word};
use super::tcp::buckets;
use crate::model::address::{Direction, IfIndex};
use crate::model::bgp::{
    About, Asn, Cause, Difference, Event, Family as Afi, Messages, ReportedSession, Rib, Session, SessionKey,
    SessionState, Timing,
};
use crate::state::Snapshot;

const PEER: &[&str] = &["peer"];
const SIDE: &[&str] = &["peer", "direction"];

const fn family(
    (name, kind, unit): (&'static str, Kind, Measure),
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    Family { name, kind, unit, labels, help, advice }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    family((name, Kind::Gauge, Measure::Number), labels, help, advice)
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
) -> Family {
    family((name, Kind::Counter, Measure::Number), labels, help, advice)
}

const STATE: Family = gauge(
    "bgp_session_state",
    &["peer", "local_asn", "peer_asn", "state"],
    "1 for the state of a BGP session, as the wire shows it",
    "Anything but `established`: `weirctl bgp` tells how the session was lost and what the last attempt met.",
);
const COMPLETE: Family = gauge(
    "bgp_session_complete",
    PEER,
    "1 when the session was seen from its beginning without a gap, so that its prefixes are all there are",
    "0 after the agent came to a session that was up, or octets were lost: prefixes are those told since.",
);
const ESTABLISHED: Family = counter(
    "bgp_sessions_established",
    PEER,
    "How often a session came up while the agent looked",
    "More than a few a day: see `weir_bgp_session_drops_total` for why it does not stay.",
);
const DROPS: Family = counter(
    "bgp_session_drops",
    &["peer", "cause"],
    "How often an established session was lost, by cause",
    "`hold-timer` and `link`: the path between the two. `notification-*`: somebody decided so, and `weirctl bgp` shows \
     the code and the words. `fin` and `rst`: a speaker died or was restarted.",
);
const PREFIXES: Family = gauge(
    "bgp_prefixes",
    &["peer", "afi", "direction"],
    "Prefixes in force that were told in a session: egress by the node, ingress by its peer",
    "Egress 0 on an established session: the node attracts no traffic. See what is told with `weirctl bgp --routes`.",
);
const ANNOUNCED: Family = counter(
    "bgp_routes_announced",
    SIDE,
    "Routes told, repetitions included",
    "A steady rate with unchanged prefixes is churn: a speaker tells again what has not changed.",
);
const WITHDRAWN: Family = counter(
    "bgp_routes_withdrawn",
    SIDE,
    "Routes taken back",
    "Rises with every endpoint that moves; in bursts, look at the speaker's reasons.",
);
const MESSAGES: Family = counter(
    "bgp_messages",
    &["peer", "direction", "type"],
    "Messages by type",
    "No `keepalive` from one side: its speaker hangs, or its path does.",
);
const MALFORMED: Family = counter(
    "bgp_malformed_messages",
    SIDE,
    "Messages that break the rules of their type, or carry attributes that do",
    "A speaker has a fault, or somebody plays with port 179. `weirctl bgp` names the peer.",
);
const MARGIN: Family = gauge(
    "bgp_hold_margin_ratio",
    PEER,
    "What was left of the hold time at worst among the last messages, the lesser of both directions; 0 is a session lost",
    "Two thirds is usual. Below a third, a keepalive was late or lost: a full queue, a busy speaker, a bad link.",
);
const HOLD: Family = family(
    ("bgp_hold_time", Kind::Gauge, Measure::Seconds),
    PEER,
    "The hold time in force; estimated from keepalives where the OPENs were not seen",
    "A node that dies silently is noticed after this time, unless BFD is faster.",
);
const INTERVAL: Family = family(
    ("bgp_keepalive_interval", Kind::Gauge, Measure::Seconds),
    SIDE,
    "The usual distance of keepalives: the median of the last few",
    "More than a third of the hold time leaves little room for a lost one.",
);
const JITTER: Family = family(
    ("bgp_keepalive_jitter", Kind::Gauge, Measure::Seconds),
    SIDE,
    "By how much keepalives are off their usual distance: the mean of the last few",
    "Speakers vary by a quarter of the interval on purpose. More than that is a busy speaker or path.",
);
const CONVERGENCE: Family = family(
    ("bgp_convergence", Kind::Histogram, Measure::Seconds),
    &["peer", "event"],
    "Time from an event to the last UPDATE of those that followed it",
    "After `established`: how long a node needs until all its routes are told. Slow: a busy speaker, or many routes.",
);
const PASSWORD: Family = gauge(
    "bgp_password_suspect",
    PEER,
    "1 when connections are tried with TCP's MD5 option and never answered, as with two different passwords",
    "Compare the passwords of both ends; the receiver counts `TcpExt` `TCPMD5Failure`.",
);
const MISSING: Family = family(
    ("bgp_missing", Kind::Counter, Measure::Bytes),
    SIDE,
    "Octets of a session that never reached the agent, though the other end has them",
    "The view of that session is incomplete until it is established anew. See `weir_bgp_tap_lost_bytes_total`.",
);
const REPEATED: Family = family(
    ("bgp_repeated", Kind::Counter, Measure::Bytes),
    SIDE,
    "Octets of a session that passed more than once: sent again, or seen at two interfaces",
    "A rise at one interface is loss on the path to the peer.",
);
const GARBAGE: Family = family(
    ("bgp_garbage", Kind::Counter, Measure::Bytes),
    SIDE,
    "Octets on a BGP port that are no BGP",
    "Somebody speaks something else there, such as a scanner; or a speaker has a fault.",
);
const RESYNCS: Family = counter(
    "bgp_resyncs",
    SIDE,
    "How often the next message had to be found after something was missing or no BGP",
    "See the octets in `weir_bgp_missing_bytes_total` and `weir_bgp_garbage_bytes_total`.",
);
const DIFFERENCES: Family = gauge(
    "bgp_status_differences",
    &["peer", "about"],
    "How many facts of a session the speaker's own status tells otherwise than the wire; only where a status is known",
    "For some seconds after a change it is late; when it stays, `weirctl bgp` shows both.",
);
const REPORTED_STATE: Family = gauge(
    "bgp_reported_session_state",
    &["peer", "state"],
    "1 for the state of a BGP session as the speaker's own status tells it; only where a status is known",
    "Beside `weir_bgp_session_state`, which is what the wire shows. The speaker's word comes some seconds late.",
);
const REPORTED_PREFIXES: Family = gauge(
    "bgp_reported_prefixes",
    &["peer", "afi", "direction"],
    "Prefixes of a session as the speaker's own status counts them",
    "Beside `weir_bgp_prefixes`; `weir_bgp_status_differences` compares the two.",
);
const LOST_SEGMENTS: Family = counter(
    "bgp_tap_lost_segments",
    &[],
    "Segments on BGP's ports that the datapath could not pass to the agent whole",
    "A flood on port 179, or an agent that gets no CPU.",
);
const LOST_BYTES: Family = family(
    ("bgp_tap_lost", Kind::Counter, Measure::Bytes),
    &[],
    "Octets of such segments",
    "See `weir_bgp_tap_lost_segments_total`.",
);
const LEFT_OUT: Family = counter(
    "bgp_connections_left_out",
    &[],
    "Connections that were not followed, because there were too many",
    "More than a thousand connections on BGP's ports are no routing: look for a scanner.",
);

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[
    &STATE,
    &COMPLETE,
    &ESTABLISHED,
    &DROPS,
    &PREFIXES,
    &ANNOUNCED,
    &WITHDRAWN,
    &MESSAGES,
    &MALFORMED,
    &MARGIN,
    &HOLD,
    &INTERVAL,
    &JITTER,
    &CONVERGENCE,
    &PASSWORD,
    &MISSING,
    &REPEATED,
    &GARBAGE,
    &RESYNCS,
    &REPORTED_STATE,
    &REPORTED_PREFIXES,
    &DIFFERENCES,
    &LOST_SEGMENTS,
    &LOST_BYTES,
    &LEFT_OUT,
];

/// A peer by the address that people know it by; with its port where that is not BGP's, and its interface where it needs one.
pub(crate) fn peer_word(key: &SessionKey, name: impl Fn(IfIndex) -> String) -> String {
    let scope = key.scope.map(|interface| format!("%{}", name(interface))).unwrap_or_default();
    match (key.port, key.peer.is_ipv6()) {
        (179, _) => format!("{}{scope}", key.peer),
        (port, true) => format!("[{}{scope}]:{port}", key.peer),
        (port, false) => format!("{}{scope}:{port}", key.peer),
    }
}

/// Writes the families of this file.
pub(super) fn write(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    // Of two sessions with one peer, from two addresses of the node, the one that is up or came last stands for both.
    let mut peers: BTreeMap<String, &Session> = BTreeMap::new();
    for session in snapshot.bgp.sessions.values() {
        let peer = word(&peer_word(&session.key, |index| snapshot.interface_name(index))).into_owned();
        let shown = peers.entry(peer).or_insert(session);
        if (session.state, session.since.at()) > (shown.state, shown.since.at()) {
            *shown = session;
        }
    }
    let sessions: Vec<(&str, &Session)> =
        peers.iter().map(|(peer, session)| (peer.as_str(), *session)).collect();
    states(page, &sessions)?;
    routes(page, &sessions)?;
    timing(page, &sessions)?;
    flaws(page, &sessions)?;
    reported(page, snapshot)?;
    differences(page, snapshot)?;
    let missed = snapshot.bgp.missed;
    page.counter(&LOST_SEGMENTS, [([], missed.segments)])?;
    page.counter(&LOST_BYTES, [([], missed.bytes)])?;
    page.counter(&LEFT_OUT, [([], missed.connections)])
}

fn reported(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut peers: BTreeMap<IpAddr, &ReportedSession> = BTreeMap::new();
    for session in &snapshot.bgp_reported.sessions {
        // Of two instances with one peer, the one that is up stands for both.
        let shown = peers.entry(session.peer).or_insert(session);
        if session.state > shown.state {
            *shown = session;
        }
    }
    let states = peers.iter().flat_map(|(peer, session)| {
        let told = session.state.into_iter();
        told.flat_map(|told| SessionState::ALL.map(|state| (state, u64::from(state == told))))
            .map(|(state, holds)| ([peer.to_string().into(), state.as_str().into()], holds))
    });
    page.gauge(&REPORTED_STATE, states)?;
    let prefixes = peers.iter().flat_map(|(peer, session)| {
        let sides = [("ingress", &session.received), ("egress", &session.advertised)];
        sides.into_iter().flat_map(move |(side, routes)| {
            routes.iter().map(move |(afi, routes)| {
                ([peer.to_string().into(), afi.to_string().into(), side.into()], *routes)
            })
        })
    });
    page.gauge(&REPORTED_PREFIXES, prefixes)
}

fn differences(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let reported = &snapshot.bgp_reported;
    let all = reported.differences(&snapshot.bgp);
    let peers: BTreeSet<IpAddr> = reported.sessions.iter().map(|session| session.peer).collect();
    let series = peers.iter().flat_map(|peer| {
        About::ALL.map(|about| {
            let same = |one: &&Difference| one.peer == *peer && one.about == about;
            ([peer.to_string().into(), about.as_str().into()], all.iter().filter(same).count() as u64)
        })
    });
    page.gauge(&DIFFERENCES, series)
}

fn asn(asn: Option<Asn>) -> Value<'static> {
    asn.map_or(Value::from("unknown"), |asn| Value::Number(asn.0.into()))
}

fn states(page: &mut Page<'_>, sessions: &[(&str, &Session)]) -> fmt::Result {
    let states = sessions.iter().flat_map(|(peer, session)| {
        SessionState::ALL.map(|state| {
            let asns = [asn(session.local.asn), asn(session.peer.asn)];
            let [local, remote] = asns;
            let labels = [Value::from(*peer), local, remote, state.as_str().into()];
            (labels, u64::from(state == session.state))
        })
    });
    page.gauge(&STATE, states)?;
    let complete = |session: &Session| session.advertised.complete && session.received.complete;
    let up = sessions.iter().filter(|(_, session)| session.state == SessionState::Established);
    page.gauge(&COMPLETE, up.map(|(peer, session)| ([Value::from(*peer)], u64::from(complete(session)))))?;
    let established = sessions.iter().map(|(peer, session)| ([Value::from(*peer)], session.established));
    page.counter(&ESTABLISHED, established)?;
    let drops = sessions.iter().flat_map(|(peer, session)| {
        Cause::ALL.map(|cause| {
            let times = session.drops.get(&cause).copied().unwrap_or(0);
            ([Value::from(*peer), cause.as_str().into()], times)
        })
    });
    page.counter(&DROPS, drops)
}

/// Both directions of all sessions.
fn sides<'a>(
    sessions: &'a [(&'a str, &'a Session)],
) -> impl Iterator<Item = (&'a str, Direction, &'a Rib, &'a Timing)> {
    sessions.iter().flat_map(|(peer, session)| {
        [
            (*peer, Direction::Ingress, &session.received, &session.receiving),
            (*peer, Direction::Egress, &session.advertised, &session.sending),
        ]
    })
}

fn routes(page: &mut Page<'_>, sessions: &[(&str, &Session)]) -> fmt::Result {
    let prefixes = sides(sessions).flat_map(|(peer, direction, rib, _)| {
        Afi::ALL.map(|afi| {
            ([Value::from(peer), afi.as_str().into(), direction.as_str().into()], rib.prefixes(afi))
        })
    });
    page.gauge(&PREFIXES, prefixes)?;
    let of_rib = |value: fn(&Rib) -> u64| {
        sides(sessions).map(move |(peer, direction, rib, _)| {
            ([Value::from(peer), direction.as_str().into()], value(rib))
        })
    };
    page.counter(&ANNOUNCED, of_rib(|rib| rib.announcements))?;
    page.counter(&WITHDRAWN, of_rib(|rib| rib.withdrawals))
}

fn timing(page: &mut Page<'_>, sessions: &[(&str, &Session)]) -> fmt::Result {
    let messages = sides(sessions).flat_map(|(peer, direction, _, timing)| {
        let Messages { open, update, notification, keepalive, route_refresh } = timing.messages;
        let kinds = [
            ("open", open),
            ("update", update),
            ("notification", notification),
            ("keepalive", keepalive),
            ("route-refresh", route_refresh),
        ];
        kinds.map(|(kind, count)| ([Value::from(peer), direction.as_str().into(), kind.into()], count))
    });
    page.counter(&MESSAGES, messages)?;
    let labels = |peer, direction: Direction| [Value::from(peer), direction.as_str().into()];
    let malformed = sides(sessions).map(|(peer, side, _, timing)| (labels(peer, side), timing.malformed));
    page.counter(&MALFORMED, malformed)?;
    let of_peer = |value: fn(&Session) -> Option<f64>| {
        let value = move |(peer, session): &(&'_ str, &Session)| {
            Some(([Value::from((*peer).to_owned())], value(session)?))
        };
        sessions.iter().filter_map(value)
    };
    page.gauge(&MARGIN, of_peer(Session::hold_margin))?;
    page.gauge(&HOLD, of_peer(|session| Some(session.hold()?.time().as_secs_f64())))?;
    let of_side = |value: fn(&Timing) -> Option<std::time::Duration>| {
        sides(sessions).filter_map(move |(peer, side, _, timing)| {
            Some((labels(peer, side), value(timing)?.as_secs_f64()))
        })
    };
    page.gauge(&INTERVAL, of_side(|timing| timing.keepalive_interval))?;
    page.gauge(&JITTER, of_side(|timing| timing.jitter))?;
    let convergence = sessions.iter().flat_map(|(peer, session)| {
        let of_event = |(event, all): (&Event, &crate::model::bgp::Convergence)| {
            ([Value::from(*peer), event.as_str().into()], buckets(&all.times))
        };
        session.convergence.iter().map(of_event)
    });
    page.histogram(&CONVERGENCE, convergence)
}

fn flaws(page: &mut Page<'_>, sessions: &[(&str, &Session)]) -> fmt::Result {
    let suspect = |(peer, session): &(&'_ str, &Session)| {
        ([Value::from((*peer).to_owned())], u64::from(session.password_suspect))
    };
    page.gauge(&PASSWORD, sessions.iter().map(suspect))?;
    let of_side = |value: fn(&Timing) -> u64| {
        sides(sessions)
            .map(move |(peer, side, _, timing)| ([Value::from(peer), side.as_str().into()], value(timing)))
    };
    page.counter(&MISSING, of_side(|timing| timing.missing_bytes))?;
    page.counter(&REPEATED, of_side(|timing| timing.repeated_bytes))?;
    page.counter(&GARBAGE, of_side(|timing| timing.garbage_bytes))?;
    page.counter(&RESYNCS, of_side(|timing| timing.resyncs))
}
