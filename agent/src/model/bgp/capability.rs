//! What a speaker says of itself in its OPEN (RFC 4271 section 4.2, RFC 5492).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An address family of which routes are exchanged: unicast of IPv4 and IPv6. Others are counted, and not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4,
    /// AFI 2, SAFI 1.
    Ipv6,
}

impl Family {
    /// Both, in the order in which they are shown.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family behind the numbers of RFC 4760, if it is one of these.
    pub fn from_numbers(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Family::Ipv4),
            (2, 1) => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// The word used in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The capabilities that an OPEN told, as far as they change how the session is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Capability 1 (RFC 4760). Without any, IPv4 unicast is meant.
    pub families: Vec<Family>,
    /// Other families that were told, as AFI and SAFI.
    pub other_families: Vec<(u16, u8)>,
    /// Capability 2 (RFC 2918).
    pub route_refresh: bool,
    /// Capability 5 (RFC 8950): next hops of IPv6 for routes of IPv4.
    pub extended_next_hop: bool,
    /// Capability 6 (RFC 8654): messages of up to 65535 octets.
    pub extended_message: bool,
    /// Capability 64 (RFC 4724, RFC 8538).
    pub graceful_restart: Option<GracefulRestart>,
    /// Capability 65 (RFC 6793): the AS number in four octets.
    pub four_octet_asn: Option<u32>,
    /// Capability 69 (RFC 7911), by family.
    pub add_path: Vec<(Family, AddPath)>,
    /// Capability 70 (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Capability 71 (RFC 9494).
    pub long_lived_graceful_restart: bool,
    /// Capability 73: host and domain name, cut at 64 characters.
    pub host_name: Option<String>,
    /// Codes of capabilities that mean nothing to this reader.
    pub unknown: Vec<u8>,
}

/// What a speaker wants to do with several paths of a prefix (RFC 7911 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddPath {
    /// It can receive them.
    Receive,
    /// It can send them.
    Send,
    /// Both.
    Both,
}

impl AddPath {
    /// Whether it can send them.
    pub fn sends(self) -> bool {
        self != AddPath::Receive
    }

    /// Whether it can receive them.
    pub fn receives(self) -> bool {
        self != AddPath::Send
    }
}

/// Graceful restart (RFC 4724 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// The speaker has restarted.
    pub restarted: bool,
    /// It also restarts gracefully after a NOTIFICATION (RFC 8538).
    pub notification: bool,
    /// How long it may take to be back.
    pub restart_time: Duration,
}
