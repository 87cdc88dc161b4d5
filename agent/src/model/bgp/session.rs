//! A BGP session as the wire shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capability::Capabilities;
use super::rib::Rib;
use crate::model::address::IfIndex;
use crate::model::tcp::Histogram;

/// Which session: its two ends, whoever opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// The end on the node's side.
    pub local: IpAddr,
    /// The other end.
    pub peer: IpAddr,
    /// The interface, for link-local peers, whose addresses mean nothing without it.
    pub scope: Option<IfIndex>,
    /// The port on which the session is accepted: 179, unless configured otherwise.
    pub port: u16,
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Which session.
    pub key: SessionKey,
    /// The interface on which it was last seen.
    pub interface: Option<IfIndex>,
    /// Its state.
    pub state: SessionState,
    /// Since when.
    pub since: Since,
    /// How much of it is known.
    pub knowledge: Knowledge,
    /// The speaker on the node's side.
    pub local: Speaker,
    /// The speaker at the other end.
    pub peer: Speaker,
    /// The hold time in force: the lesser of both OPENs; zero means that none is kept. `None` where no OPEN was seen.
    pub hold_time: Option<Duration>,
    /// Whether segments carry TCP's MD5 option (RFC 2385); the authentication option (RFC 5925) counts too.
    pub authenticated: bool,
    /// Whether it looks as if the two ends had different passwords: connections are tried with the MD5 option and never
    /// answered.
    pub password_suspect: bool,
    /// What the node has told its peer.
    pub advertised: Rib,
    /// What the peer has told the node.
    pub received: Rib,
    /// When messages came from the node.
    pub sending: Timing,
    /// When messages came from the peer.
    pub receiving: Timing,
    /// How often it was lost, by cause.
    pub drops: BTreeMap<Cause, u64>,
    /// How it was last lost.
    pub last_drop: Option<Drop>,
    /// How an attempt last failed before the session was up.
    pub last_failure: Option<Drop>,
    /// How often it came up while it was looked at.
    pub established: u64,
    /// How long changes took to be told.
    pub convergence: BTreeMap<Event, Convergence>,
}

/// The hold time by which a session is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "time", rename_all = "kebab-case")]
pub enum Hold {
    /// Both OPENs told.
    Negotiated(Duration),
    /// Three times the distance of KEEPALIVEs, as RFC 4271 section 10 suggests.
    Estimated(Duration),
}

impl Hold {
    /// The time, whether known or not.
    pub fn time(self) -> Duration {
        match self {
            Hold::Negotiated(time) | Hold::Estimated(time) => time,
        }
    }
}

impl Session {
    /// The hold time; `None` where none is kept, and before it can be told.
    pub fn hold(&self) -> Option<Hold> {
        match self.hold_time {
            Some(Duration::ZERO) => None,
            Some(time) => Some(Hold::Negotiated(time)),
            None => {
                let intervals = [self.sending.keepalive_interval, self.receiving.keepalive_interval];
                let longest = intervals.into_iter().flatten().max()?;
                // Hold times are whole seconds, and never below three.
                let seconds = (3.0 * longest.as_secs_f64()).round().max(3.0);
                Some(Hold::Estimated(Duration::from_secs_f64(seconds)))
            }
        }
    }

    /// What was left of the hold time at worst of late, as a share of it: 1 is all, 0 is a session lost.
    pub fn hold_margin(&self) -> Option<f64> {
        let hold = self.hold().filter(|_| self.state == SessionState::Established)?.time();
        let silence = self.sending.longest_silence.max(self.receiving.longest_silence);
        Some((1.0 - silence.as_secs_f64() / hold.as_secs_f64()).max(0.0))
    }

    /// When messages came from a side.
    pub fn timing(&self, side: Side) -> &Timing {
        match side {
            Side::Local => &self.sending,
            Side::Peer => &self.receiving,
        }
    }
}

/// An autonomous system's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a session (RFC 4271 section 8.2.2), as far as the wire tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// No connection.
    Idle,
    /// The node tries to connect.
    Connect,
    /// The peer tries to connect.
    Active,
    /// Connected; not both have sent their OPEN.
    OpenSent,
    /// Both have sent their OPEN; not both have confirmed.
    OpenConfirm,
    /// Up.
    Established,
}

impl SessionState {
    /// All of them.
    pub const ALL: [SessionState; 6] = [
        SessionState::Idle,
        SessionState::Connect,
        SessionState::Active,
        SessionState::OpenSent,
        SessionState::OpenConfirm,
        SessionState::Established,
    ];

    /// The word used in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionState::Idle => "idle",
            SessionState::Connect => "connect",
            SessionState::Active => "active",
            SessionState::OpenSent => "open-sent",
            SessionState::OpenConfirm => "open-confirm",
            SessionState::Established => "established",
        }
    }
}

/// Since when something has been so, as time since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "at", rename_all = "kebab-case")]
pub enum Since {
    /// The change was seen.
    Exactly(Duration),
    /// It was so when it was first looked at.
    Before(Duration),
}

impl Since {
    /// The time, whether exact or not.
    pub fn at(self) -> Duration {
        match self {
            Since::Exactly(at) | Since::Before(at) => at,
        }
    }
}

/// How much of a session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Knowledge {
    /// It was seen from its beginning.
    Whole,
    /// It was up already when the agent came: what was exchanged before is not known.
    Joined {
        /// When, as time since boot.
        at: Duration,
    },
    /// Octets are missing in the middle.
    Gap {
        /// When that was last so, as time since boot.
        at: Duration,
    },
}

/// What a speaker told of itself in its OPEN; unknown where that was not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Its AS number. Where no OPEN was seen, it is taken from the paths of routes that it told a peer in another AS.
    pub asn: Option<Asn>,
    /// Its BGP identifier.
    pub identifier: Option<Ipv4Addr>,
    /// The hold time that it proposed.
    pub hold_time: Option<Duration>,
    /// Its capabilities.
    pub capabilities: Option<Capabilities>,
}

/// When messages came from one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// When the last message came, as time since boot.
    pub last_message: Option<Duration>,
    /// When the last KEEPALIVE came.
    pub last_keepalive: Option<Duration>,
    /// The longest time without a message, of the last few and the one that lasts.
    pub longest_silence: Duration,
    /// The usual distance of KEEPALIVEs (median of the last few).
    pub keepalive_interval: Option<Duration>,
    /// By how much KEEPALIVEs are off that (mean of the last few).
    pub jitter: Option<Duration>,
    /// Messages so far, all sessions with this peer together.
    pub messages: Messages,
    /// Octets of TCP payload that came twice, and so were not read again.
    pub repeated_bytes: u64,
    /// Octets that never came.
    pub missing_bytes: u64,
    /// How often the reader had to find the next message after something went missing.
    pub resyncs: u64,
    /// Octets that were not BGP.
    pub garbage_bytes: u64,
    /// Messages whose contents broke the rules of their type.
    pub malformed: u64,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

/// Which side did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The node.
    Local,
    /// Its peer.
    Peer,
}

/// How a session was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The node sent a NOTIFICATION.
    NotificationSent,
    /// The peer sent a NOTIFICATION.
    NotificationReceived,
    /// A connection was closed without a NOTIFICATION.
    Fin,
    /// A connection was reset.
    Rst,
    /// A side heard nothing for the hold time: it said so, or the time is over.
    HoldTimer,
    /// The interface lost its link before that.
    Link,
    /// A new connection took its place, and how the old one ended was not seen.
    Replaced,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 7] = [
        Cause::NotificationSent,
        Cause::NotificationReceived,
        Cause::Fin,
        Cause::Rst,
        Cause::HoldTimer,
        Cause::Link,
        Cause::Replaced,
    ];

    /// The word used in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::NotificationSent => "notification-sent",
            Cause::NotificationReceived => "notification-received",
            Cause::Fin => "fin",
            Cause::Rst => "rst",
            Cause::HoldTimer => "hold-timer",
            Cause::Link => "link",
            Cause::Replaced => "replaced",
        }
    }
}

/// How a session was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// When, as time since boot.
    pub at: Duration,
    /// Why.
    pub cause: Cause,
    /// Who ended it, where that is known.
    pub by: Option<Side>,
    /// Code and subcode of the NOTIFICATION, a hard reset (RFC 8538) unwrapped.
    pub code: Option<(u8, u8)>,
    /// Whether it was a hard reset.
    pub hard_reset: bool,
    /// What happened, in words.
    pub reason: String,
    /// The operator's own words (RFC 9003), with control characters left out.
    pub text: Option<String>,
}

/// What a change of routes follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The session came up.
    Established,
    /// Another session of the node came up or was lost.
    OtherSession,
    /// A link of the node changed its state.
    Link,
    /// A refresh was asked for.
    Refresh,
}

impl Event {
    /// The word used in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Established => "established",
            Event::OtherSession => "other-session",
            Event::Link => "link",
            Event::Refresh => "refresh",
        }
    }
}

/// How long it took from an event to the last UPDATE of those that it caused, both directions together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// The last one.
    pub last: Duration,
    /// All of them.
    pub times: Histogram,
}
