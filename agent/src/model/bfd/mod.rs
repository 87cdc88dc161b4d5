//! Bidirectional Forwarding Detection (RFC 5880, 5881, 5883): packets, sessions, who may have one, and what is handed over to
//! the next agent. Asynchronous mode without authentication. Time and randomness are arguments, and what is to be done comes
//! out as commands.

mod config;
mod health;
mod margin;
mod observe;
mod packet;
mod record;
mod report;
mod session;
mod speaker;

use serde::{Serialize, Serializer};

pub use config::{AdminDown, BadPeer, Health, Hops, PeerAddress, PeerConfig, Role, Settings, Timing};
pub use health::{Carrier, Evidence, Hysteresis, Tally, evidence};
pub use margin::Margin;
pub use observe::{Observer, Sight};
pub use packet::{Diagnostic, LENGTH, Micros, Packet, Poll, State};
pub use record::{Record, SLOT};
pub use report::{Bfd, BfdMode, Counts, Reason, Rejected, RemoteView, SessionView};
pub use session::{Admin, Command, Input, Session, Setup, Timer, Transition};
pub use speaker::{Action, Datagram, Endpoint, SESSIONS_MAX, SessionId, Speaker};

/// Where control packets of single-hop sessions go (RFC 5881, 4).
pub const PORT: u16 = 3784;
/// Where echo packets go (RFC 5881, 4).
pub const ECHO_PORT: u16 = 3785;
/// Where control packets of multihop sessions go (RFC 5883, 5).
pub const MULTIHOP_PORT: u16 = 4784;
/// Source ports of sessions (RFC 5881, 4).
pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// The time to live of what is sent, and of what is believed from one hop away (RFC 5881, 5; RFC 5082).
pub const TTL: u8 = 255;

/// Why a packet was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// It came over more hops than the session allows.
    Ttl,
    /// Its sender is not among the peers.
    Stranger,
    /// It is longer or shorter than it says, or too short.
    Length,
    /// It is of another version of the protocol.
    Version,
    /// It is authenticated, which no session here is.
    Authentication,
    /// Its detection multiplier is zero.
    Multiplier,
    /// It is of a multipoint session.
    Multipoint,
    /// Its sender gave no number of its own.
    MyDiscriminator,
    /// It names no session here, in a state in which it must.
    YourDiscriminator,
    /// It asks and answers at once.
    PollAndFinal,
    /// It names a session that is not there, or not its sender's.
    UnknownSession,
    /// It came through another interface than the session's.
    Interface,
    /// There is no room for another session.
    NoRoom,
    /// The kernel had no room for it: too many came at once.
    QueueFull,
    /// An echo that nobody asked for, or too soon after the last.
    Echo,
}

impl Rejection {
    /// All of them, in order.
    pub const ALL: [Rejection; 15] = [
        Rejection::Ttl,
        Rejection::Stranger,
        Rejection::Length,
        Rejection::Version,
        Rejection::Authentication,
        Rejection::Multiplier,
        Rejection::Multipoint,
        Rejection::MyDiscriminator,
        Rejection::YourDiscriminator,
        Rejection::PollAndFinal,
        Rejection::UnknownSession,
        Rejection::Interface,
        Rejection::NoRoom,
        Rejection::QueueFull,
        Rejection::Echo,
    ];

    /// The word for people and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Rejection::Ttl => "ttl",
            Rejection::Stranger => "stranger",
            Rejection::Length => "length",
            Rejection::Version => "version",
            Rejection::Authentication => "authentication",
            Rejection::Multiplier => "multiplier",
            Rejection::Multipoint => "multipoint",
            Rejection::MyDiscriminator => "my-discriminator",
            Rejection::YourDiscriminator => "your-discriminator",
            Rejection::PollAndFinal => "poll-and-final",
            Rejection::UnknownSession => "unknown-session",
            Rejection::Interface => "interface",
            Rejection::NoRoom => "no-room",
            Rejection::QueueFull => "queue-full",
            Rejection::Echo => "echo",
        }
    }
}

impl Serialize for Rejection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
