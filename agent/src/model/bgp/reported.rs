//! What a speaker says of its own sessions, beside what the wire shows.
//!
//! Cilium's status comes some seconds late, and its metrics have been wrong before (cilium#39861: routes counted as advertised
//! while no session was up). So neither side is believed: both are shown, and a difference has a name.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::View;
use super::capability::Family;
use super::session::{Asn, Hold, Session, SessionState};

/// What a speaker says of its sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// Sessions, as they were told.
    pub sessions: Vec<ReportedSession>,
}

/// What a speaker says of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedSession {
    /// The peer.
    pub peer: IpAddr,
    /// The speaker's own AS.
    pub local_asn: Option<Asn>,
    /// The peer's AS.
    pub peer_asn: Option<Asn>,
    /// The session's state.
    pub state: Option<SessionState>,
    /// The hold time in force.
    pub hold_time: Option<Duration>,
    /// Routes advertised to the peer, by family.
    pub advertised: Vec<(Family, u64)>,
    /// Routes received from it.
    pub received: Vec<(Family, u64)>,
}

/// Wire and speaker do not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// With which peer.
    pub peer: IpAddr,
    /// About what.
    pub about: About,
    /// What the wire shows, in words.
    pub wire: String,
    /// What the speaker says, in words.
    pub reported: String,
}

/// What can be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The wire shows no such session.
    Session,
    /// Whether it is up.
    State,
    /// AS numbers.
    Asn,
    /// The hold time.
    HoldTime,
    /// How many routes the node has told.
    Advertised,
    /// How many routes the peer has told.
    Received,
}

impl About {
    /// All of them.
    pub const ALL: [About; 6] =
        [About::Session, About::State, About::Asn, About::HoldTime, About::Advertised, About::Received];

    /// The word used in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            About::Session => "session",
            About::State => "state",
            About::Asn => "asn",
            About::HoldTime => "hold-time",
            About::Advertised => "advertised",
            About::Received => "received",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { peer, about, wire, reported } = self;
        write!(f, "{peer}: {}: the wire shows {wire}, the speaker reports {reported}", about.as_str())
    }
}

/// The object is no status of sessions.
#[derive(Debug, Error)]
#[error("{object}: {field} is {value}; the session is left out")]
pub struct BadReport {
    object: String,
    field: &'static str,
    value: String,
}

impl Reported {
    /// The status of a CiliumBGPNodeConfig (cilium.io/v2). What it does not say is not known; a peer that makes no sense is
    /// told, and the others are kept.
    pub fn of_node_config(object: &serde_json::Value) -> (Self, Vec<BadReport>) {
        let name = object.pointer("/metadata/name").and_then(serde_json::Value::as_str).unwrap_or("unnamed");
        let instances = object.pointer("/status/bgpInstances").and_then(serde_json::Value::as_array);
        let mut bad = Vec::new();
        let mut reported = Reported::default();
        for instance in instances.into_iter().flatten() {
            let local_asn = asn(&instance["localASN"]);
            for peer in instance["peers"].as_array().into_iter().flatten() {
                let object = || {
                    let names = [instance["name"].as_str(), peer["name"].as_str()];
                    let [instance, peer] = names.map(|name| name.unwrap_or("unnamed"));
                    format!("CiliumBGPNodeConfig {name}, instance {instance}, peer {peer}")
                };
                match session(local_asn, peer) {
                    Ok(session) => reported.sessions.push(session),
                    Err((field, value)) => bad.push(BadReport { object: object(), field, value }),
                }
            }
        }
        (reported, bad)
    }

    /// Where wire and speaker do not agree.
    pub fn differences(&self, view: &View) -> Vec<Difference> {
        self.sessions.iter().flat_map(|reported| reported.differences(view)).collect()
    }
}

fn asn(value: &serde_json::Value) -> Option<Asn> {
    value.as_u64().and_then(|asn| u32::try_from(asn).ok()).map(Asn)
}

fn session(
    local_asn: Option<Asn>,
    peer: &serde_json::Value,
) -> Result<ReportedSession, (&'static str, String)> {
    let bad = |field: &'static str, value: &serde_json::Value| (field, value.to_string());
    let address = &peer["peerAddress"];
    let state = &peer["peeringState"];
    let mut session = ReportedSession {
        peer: address
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| bad("peerAddress", address))?,
        local_asn,
        peer_asn: asn(&peer["peerASN"]),
        state: match state.as_str() {
            None => None,
            Some(word) => Some(state_of(word).ok_or_else(|| bad("peeringState", state))?),
        },
        hold_time: peer["timers"]["appliedHoldTimeSeconds"].as_u64().map(Duration::from_secs),
        advertised: Vec::new(),
        received: Vec::new(),
    };
    for count in peer["routeCount"].as_array().into_iter().flatten() {
        let family = match (count["afi"].as_str(), count["safi"].as_str()) {
            (Some("ipv4"), Some("unicast")) => Family::Ipv4,
            (Some("ipv6"), Some("unicast")) => Family::Ipv6,
            _ => continue,
        };
        session.advertised.extend(count["advertised"].as_u64().map(|routes| (family, routes)));
        session.received.extend(count["received"].as_u64().map(|routes| (family, routes)));
    }
    Ok(session)
}

/// Cilium's words for the states of RFC 4271.
fn state_of(word: &str) -> Option<SessionState> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    SessionState::ALL.into_iter().find(|state| plain(state.as_str()) == plain(word))
}

/// A session that comes and goes is reported in a state that it no longer has: the losses say so.
fn state_and_losses(session: &Session) -> String {
    let state = session.state.as_str();
    let lost: u64 = session.drops.values().sum();
    match &session.last_drop {
        Some(last) if lost > 1 => {
            format!("{state}, lost {lost} times, the last time by {}", last.cause.as_str())
        }
        Some(last) => format!("{state}, lost by {}", last.cause.as_str()),
        None => state.to_owned(),
    }
}

impl ReportedSession {
    /// All routes of a side, where the speaker counts any.
    pub fn total(routes: &[(Family, u64)]) -> Option<u64> {
        (!routes.is_empty()).then(|| routes.iter().map(|(_, routes)| routes).sum())
    }

    fn differences(&self, view: &View) -> Vec<Difference> {
        let difference = |about: About, wire: String, reported: String| Difference {
            peer: self.peer,
            about,
            wire,
            reported,
        };
        let up = |state: SessionState| state == SessionState::Established;
        let seen = view.sessions.values().map(AsRef::as_ref).filter(|it: &&Session| it.key.peer == self.peer);
        // Of two sessions with one peer, the one that is up.
        let Some(session) = seen.max_by_key(|session| session.state) else {
            let reported = self.state.filter(|state| up(*state));
            let reported = reported.map(|state| state.as_str().to_owned());
            return reported
                .map(|state| difference(About::Session, "none".to_owned(), state))
                .into_iter()
                .collect();
        };
        let mut all = Vec::new();
        if let Some(state) = self.state.filter(|state| up(*state) != up(session.state)) {
            all.push(difference(About::State, state_and_losses(session), state.as_str().to_owned()));
        }
        let pairs = [(session.local.asn, self.local_asn), (session.peer.asn, self.peer_asn)];
        let differ = pairs.into_iter().filter_map(|(wire, told)| wire.zip(told)).filter(|(a, b)| a != b);
        all.extend(differ.map(|(wire, told)| difference(About::Asn, wire.to_string(), told.to_string())));
        if !up(session.state) {
            // Of a session that is down, numbers say nothing; but routes that nobody can have are worth a word.
            let ghosts = Self::total(&self.advertised).unwrap_or_default();
            if ghosts > 0 {
                all.push(difference(About::Advertised, "0".to_owned(), ghosts.to_string()));
            }
            return all;
        }
        if let (Some(Hold::Negotiated(wire)), Some(told)) = (session.hold(), self.hold_time)
            && wire != told
        {
            all.push(difference(About::HoldTime, format!("{wire:?}"), format!("{told:?}")));
        }
        let sides = [
            (About::Advertised, &session.advertised, &self.advertised),
            (About::Received, &session.received, &self.received),
        ];
        for (about, rib, told) in sides.into_iter().filter(|(_, rib, _)| rib.complete) {
            for (family, routes) in told.iter().filter(|(family, routes)| rib.prefixes(*family) != *routes) {
                let wire = format!("{} {family}", rib.prefixes(*family));
                all.push(difference(about, wire, format!("{routes} {family}")));
            }
        }
        all
    }
}
