//! A TCP segment of BGP, as the datapath passes it on.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::address::{Direction, IfIndex};

/// FIN (RFC 9293 section 3.1).
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// ACK.
pub const ACK: u8 = 16;

/// A piece of a TCP segment. A long segment comes in several pieces, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// When it passed, as time since boot.
    pub at: Duration,
    /// Where.
    pub interface: IfIndex,
    /// Into the node or out of it.
    pub direction: Direction,
    /// Whose it is.
    pub source: SocketAddr,
    /// For whom.
    pub destination: SocketAddr,
    /// The segment's sequence number.
    pub sequence: u32,
    /// The next sequence number that its sender expects; means something with [`ACK`].
    pub acknowledgement: u32,
    /// TCP's flags.
    pub flags: u8,
    /// Whether it carries TCP's MD5 or authentication option.
    pub authenticated: bool,
    /// Octets of payload of the whole segment.
    pub length: u32,
    /// Where this piece's payload begins in the segment's.
    pub offset: u32,
    /// The piece's payload.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// The sequence number of the piece's first octet.
    pub(super) fn start(&self) -> u32 {
        self.sequence.wrapping_add(u32::from(self.has(SYN))).wrapping_add(self.offset)
    }

    /// The sequence number behind the segment's payload: that of a FIN, where there is one.
    pub(super) fn end(&self) -> u32 {
        self.sequence.wrapping_add(u32::from(self.has(SYN))).wrapping_add(self.length)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Whether TCP's options hold MD5 (RFC 2385, kind 19) or authentication (RFC 5925, kind 29).
pub fn authenticated(mut options: &[u8]) -> bool {
    loop {
        match options {
            [19 | 29, ..] => return true,
            [] | [0, ..] => return false,
            [1, rest @ ..] => options = rest,
            [_, length, ..] => match options.get(usize::from(*length).max(2)..) {
                Some(rest) => options = rest,
                None => return false,
            },
            [_] => return false,
        }
    }
}
