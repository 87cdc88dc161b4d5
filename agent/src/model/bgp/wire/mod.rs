//! BGP messages as octets.
//!
//! This is a decoder of our own, small and without a dependency. The published ones were looked at: `rustbgpd-wire` is good and
//! changes its interface from one month to the next; `bgpkit-parser` is well kept and minded to MRT files, with some sixty
//! crates behind it. Both decode for a speaker, which knows what was negotiated and may end a session that breaks a rule. A
//! reader that joins in the middle knows neither, so it must say what it took for granted, give every route that RFC 7606
//! would keep, and never refuse the rest of a stream. A test compares this decoder with `rustbgpd-wire`.

mod attribute;
mod notification;
mod octets;
mod open;
mod update;

use thiserror::Error;

use super::capability::Family;

pub use notification::{Notification, describe};
pub use octets::Short;
pub use open::Open;
pub use update::{Encoding, Reading, Update};

use octets::Octets;

/// Octets of a message's header (RFC 4271 section 4.1).
pub const HEADER: usize = 19;
/// The longest message without RFC 8654.
pub const LONGEST: usize = 4096;
/// The longest message with RFC 8654.
pub const LONGEST_EXTENDED: usize = 65535;
/// With what every message begins.
pub const MARKER: [u8; 16] = [0xff; 16];

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Type 1.
    Open,
    /// Type 2.
    Update,
    /// Type 3.
    Notification,
    /// Type 4.
    Keepalive,
    /// Type 5 (RFC 2918).
    RouteRefresh,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Octets of the whole message.
    pub length: usize,
}

/// Nineteen octets that begin no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoHeader {
    /// The marker is not all ones.
    #[error("the marker is not all ones")]
    Marker,
    /// There is no such type.
    #[error("there is no message type {0}")]
    Kind(u8),
    /// A message of this type is never as long.
    #[error("a message of type {kind} cannot have {length} octets")]
    Length {
        /// The type.
        kind: u8,
        /// The length.
        length: usize,
    },
}

impl Header {
    /// Reads a header. `longest` is [`LONGEST`] or [`LONGEST_EXTENDED`].
    ///
    /// # Errors
    /// When no message begins so.
    pub fn read(octets: &[u8; HEADER], longest: usize) -> Result<Self, NoHeader> {
        let [marker @ .., high, low, number] = octets;
        if *marker != MARKER {
            return Err(NoHeader::Marker);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (kind, fits) = match number {
            1 => (Kind::Open, (29..=LONGEST).contains(&length)),
            2 => (Kind::Update, (23..=longest).contains(&length)),
            3 => (Kind::Notification, (21..=longest).contains(&length)),
            4 => (Kind::Keepalive, length == HEADER),
            5 => (Kind::RouteRefresh, (23..=longest).contains(&length)),
            _ => return Err(NoHeader::Kind(*number)),
        };
        if fits { Ok(Self { kind, length }) } else { Err(NoHeader::Length { kind: *number, length }) }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first of a session.
    Open(Open),
    /// Routes.
    Update(Update),
    /// The last of a session.
    Notification(Notification),
    /// A sign of life.
    Keepalive,
    /// A wish to hear all routes again.
    RouteRefresh(Refresh),
}

/// ROUTE-REFRESH (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Which family; `None` for those that are not looked into.
    pub family: Option<Family>,
    /// What it is.
    pub step: RefreshStep,
}

/// A step of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshStep {
    /// Routes are wanted.
    Request,
    /// All routes begin (RFC 7313).
    Begin,
    /// All routes have been told (RFC 7313).
    End,
    /// A subtype that means nothing to this reader.
    Other(u8),
}

/// The contents of a message break the rules of its type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A length field points behind the end.
    #[error("{field} ends after {have} of {wanted} octets")]
    Short {
        /// What is cut off.
        field: &'static str,
        /// Octets that it should have.
        wanted: usize,
        /// Octets that are there.
        have: usize,
    },
    /// A field holds what it may not.
    #[error("{field} is {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
    /// Octets follow where the message should end.
    #[error("{0} octets follow the end")]
    Trailing(usize),
}

impl From<Short> for Malformed {
    fn from(Short { field, wanted, have }: Short) -> Self {
        Malformed::Short { field, wanted, have }
    }
}

/// Reads the body of a message, which is what follows its header. `reading` tells how routes are written in this direction of
/// the session.
///
/// # Errors
/// When the contents cannot be understood. Of an UPDATE with faulty attributes, RFC 7606 keeps what it can: see [`Update`].
pub fn decode(kind: Kind, body: &[u8], reading: Reading) -> Result<Message, Malformed> {
    match kind {
        Kind::Open => Open::decode(body).map(Message::Open),
        Kind::Update => Update::decode(body, reading).map(Message::Update),
        Kind::Notification => Notification::decode(body).map(Message::Notification),
        Kind::Keepalive => Ok(Message::Keepalive),
        Kind::RouteRefresh => refresh(body).map(Message::RouteRefresh),
    }
}

fn refresh(body: &[u8]) -> Result<Refresh, Malformed> {
    let mut octets = Octets::new(body);
    let (afi, subtype, safi) = (octets.u16("AFI")?, octets.u8("subtype")?, octets.u8("SAFI")?);
    let step = match subtype {
        0 => RefreshStep::Request,
        1 => RefreshStep::Begin,
        2 => RefreshStep::End,
        other => RefreshStep::Other(other),
    };
    Ok(Refresh { family: Family::from_numbers(afi, safi), step })
}
