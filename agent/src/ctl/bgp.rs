//! BGP's sessions as text for people. Pure.

use super::number::{count, time};
use super::screen::{Colour, Screen};
use super::table::{Cell, Table, number, room, text};
use crate::export::proto::{
    BgpChange, BgpDirection, BgpDrop, BgpReported, BgpResponse, BgpRoute, BgpSession,
};

/// Below this margin a session is in danger: a keepalive was late or lost.
const THIN: f64 = 0.34;

/// Sessions and routes of a list.
pub(super) fn bgp(answer: &BgpResponse, screen: &Screen, first: bool) -> String {
    let mut out = sessions(answer).render(screen);
    if first && answer.sessions.is_empty() {
        out.push_str("no BGP session was seen; see docs/bgp.md for what makes one visible\n");
    }
    for note in answer.sessions.iter().flat_map(|session| notes(session, answer.now_ns)) {
        out += &(screen.paint(&note, Some(Colour::Yellow)) + "\n");
    }
    for one in &answer.reported {
        out += &(reported(one) + "\n");
    }
    for one in &answer.differences {
        let (peer, about) = (&one.peer, &one.about);
        let note = format!("{peer}: {about}: the wire shows {}, Cilium reports {}", one.wire, one.reported);
        out += &(screen.paint(&note, Some(Colour::Red)) + "\n");
    }
    if let Some(missed) = answer.missed.filter(|missed| missed.segments > 0 && first) {
        let (segments, bytes) = (count(missed.segments), count(missed.bytes));
        let text = format!("{segments} segments ({bytes} octets) of BGP's ports did not reach the agent");
        out += &(screen.paint(&text, Some(Colour::Yellow)) + "\n");
    }
    out + &routes(&answer.routes, answer.now_ns).render(screen)
}

/// What happened, a line each.
pub(super) fn changes(answer: &BgpResponse, screen: &Screen) -> String {
    answer.changes.iter().map(|change| line(change, answer.now_ns, screen)).collect()
}

fn line(change: &BgpChange, now: u64, screen: &Screen) -> String {
    let direction = change.direction.as_deref().map(arrow).unwrap_or_default();
    let detail = change.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let text = format!(
        "{:>7} ago  {}{direction}  {} {}{detail}",
        time(now.saturating_sub(change.at_ns)),
        change.peer,
        change.kind,
        change.what
    );
    let colour = match (change.kind.as_str(), change.what.as_str()) {
        ("drop" | "failure", _) => Some(Colour::Red),
        ("state", "established") => Some(Colour::Green),
        ("gap" | "more", _) => Some(Colour::Yellow),
        _ => None,
    };
    screen.paint(&text, colour) + "\n"
}

fn arrow(direction: &str) -> &'static str {
    if direction == "egress" { " <-" } else { " ->" }
}

fn sessions(answer: &BgpResponse) -> Table {
    let columns = [
        text("PEER"),
        number("ASN"),
        number("OURS"),
        text("STATE"),
        number("FOR"),
        number("HOLD"),
        number("MARGIN"),
        number("TOLD"),
        number("HEARD"),
        number("LOST"),
        room("LAST", 20),
    ];
    let mut table = Table::new("BGP", columns);
    for session in &answer.sessions {
        let lost: u64 = session.drops.iter().map(|drop| drop.times).sum();
        let last = session.last_drop.as_ref().map(|drop| drop.cause.clone()).unwrap_or_default();
        table.row([
            session.peer.as_str().into(),
            asn(session.peer_speaker.as_ref().and_then(|speaker| speaker.asn)),
            asn(session.local_speaker.as_ref().and_then(|speaker| speaker.asn)),
            state(&session.state),
            since(session, answer.now_ns).into(),
            hold(session).into(),
            margin(session.hold_margin),
            prefixes(session.egress.as_ref()).into(),
            prefixes(session.ingress.as_ref()).into(),
            Cell::coloured(count(lost), (lost > 0).then_some(Colour::Yellow)),
            last.into(),
        ]);
    }
    table
}

fn asn(asn: Option<u32>) -> Cell {
    asn.map_or("?".to_owned(), |asn| asn.to_string()).into()
}

fn state(word: &str) -> Cell {
    let colour = if word == "established" { Colour::Green } else { Colour::Red };
    Cell::coloured(word, Some(colour))
}

/// With a `>` where it has been so for longer than the agent has looked.
fn since(session: &BgpSession, now: u64) -> String {
    let long = time(now.saturating_sub(session.since_ns));
    if session.since_exact { long } else { format!(">{long}") }
}

fn hold(session: &BgpSession) -> String {
    match session.hold_ns {
        Some(hold) if session.hold_estimated => format!("~{}", time(hold)),
        Some(hold) => time(hold),
        None => "-".to_owned(),
    }
}

fn margin(margin: Option<f64>) -> Cell {
    match margin {
        Some(margin) => {
            Cell::coloured(format!("{:.0}%", margin * 100.0), (margin < THIN).then_some(Colour::Red))
        }
        None => "-".into(),
    }
}

/// With a `+` where there may be more that the agent has not seen.
fn prefixes(direction: Option<&BgpDirection>) -> String {
    let Some(direction) = direction else { return "-".to_owned() };
    let all = direction.ipv4_prefixes + direction.ipv6_prefixes;
    let more = if direction.complete || all == 0 && direction.last_message_ns.is_none() { "" } else { "+" };
    format!("{all}{more}")
}

/// What a table has no room for.
fn notes(session: &BgpSession, now: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let peer = &session.peer;
    let ago = |drop: &BgpDrop| time(now.saturating_sub(drop.at_ns));
    let words =
        |drop: &BgpDrop| drop.text.as_ref().map(|text| format!(", saying {text:?}")).unwrap_or_default();
    if let Some(drop) = &session.last_drop {
        let by = drop.by.as_deref().map(|by| format!(" by the {}", side(by))).unwrap_or_default();
        notes.push(format!("{peer}: lost {} ago{by}: {}{}", ago(drop), drop.reason, words(drop)));
    }
    if let Some(drop) = session.last_failure.as_ref().filter(|_| session.state != "established") {
        notes.push(format!(
            "{peer}: the last attempt failed {} ago: {}{}",
            ago(drop),
            drop.reason,
            words(drop)
        ));
    }
    if session.password_suspect {
        notes.push(format!(
            "{peer}: connections are tried with the MD5 option and never answered: compare both ends' passwords"
        ));
    }
    match session.knowledge.as_str() {
        "joined" if session.state == "established" => notes.push(format!(
            "{peer}: it was up before the agent looked: prefixes and capabilities told earlier are not known"
        )),
        "gap" if session.state == "established" => {
            notes.push(format!("{peer}: octets are missing: prefixes told meanwhile are not known"));
        }
        _ => {}
    }
    let flaws = [session.egress.as_ref(), session.ingress.as_ref()].into_iter().flatten();
    let (garbage, malformed) =
        flaws.fold((0, 0), |sum, one| (sum.0 + one.garbage_bytes, sum.1 + one.malformed));
    if garbage + malformed > 0 {
        notes.push(format!(
            "{peer}: {} octets were no BGP, {} messages were malformed",
            count(garbage),
            count(malformed)
        ));
    }
    notes
}

/// What Cilium says of a session.
fn reported(one: &BgpReported) -> String {
    let state = one.state.as_deref().unwrap_or("no state");
    let routes = [(one.advertised, "told"), (one.received, "heard")];
    let routes = routes.map(|(routes, side)| routes.map(|routes| format!(", {} {side}", count(routes))));
    format!("{}: Cilium reports {state}{}", one.peer, routes.into_iter().flatten().collect::<String>())
}

fn side(by: &str) -> &str {
    if by == "local" { "node" } else { "peer" }
}

fn routes(routes: &[BgpRoute], now: u64) -> Table {
    let columns = [
        text("PEER"),
        text("DIR"),
        text("PREFIX"),
        text("NEXT HOP"),
        number("FOR"),
        text("PATH"),
        room("COMMUNITIES", 20),
    ];
    let mut table = Table::new("", columns);
    for route in routes {
        let prefix = match route.path_id {
            Some(path) => format!("{} #{path}", route.prefix),
            None => route.prefix.clone(),
        };
        table.row([
            Cell::from(route.peer.as_str()),
            if route.direction == "egress" { "told" } else { "heard" }.into(),
            prefix.into(),
            route.next_hop.as_deref().unwrap_or("-").into(),
            time(now.saturating_sub(route.since_ns)).into(),
            route.as_path.as_str().into(),
            route.communities.join(" ").into(),
        ]);
    }
    table
}
