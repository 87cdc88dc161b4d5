//! Addresses as the datapath and people write them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The kernel's number of a network interface in its namespace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct IfIndex(u32);

/// Zero is not an interface.
#[derive(Debug, Error)]
#[error("interface index 0 names no interface")]
pub struct ZeroIfIndex;

impl TryFrom<u32> for IfIndex {
    type Error = ZeroIfIndex;

    fn try_from(index: u32) -> Result<Self, ZeroIfIndex> {
        if index == 0 { Err(ZeroIfIndex) } else { Ok(Self(index)) }
    }
}

impl From<IfIndex> for u32 {
    fn from(index: IfIndex) -> u32 {
        index.0
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IEEE 802 48-bit address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// The text is not six hexadecimal octets.
#[derive(Debug, Error)]
#[error("{0:?} is not a MAC address; write it as 02:00:5e:10:00:01")]
pub struct BadMac(String);

impl Mac {
    /// Whether the address is all zeroes, as on links without a link layer.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        // The number parser would take a sign, and any number of zeroes.
        let octet = |octet: &str| {
            let plain = octet.len() <= 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(octet, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = text.split([':', '-']).map(octet).collect();
        octets.and_then(|octets| octets.try_into().ok()).map(Mac).ok_or_else(|| BadMac(text.to_owned()))
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// The direction of a packet through a hook, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the wire into the node.
    Ingress,
    /// From the node to the wire.
    Egress,
}

impl Direction {
    /// Both, in the order in which they are shown.
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// The word used in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A transport protocol by its IANA number, shown by name where it has a common one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol(pub u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "icmp",
            2 => "igmp",
            6 => "tcp",
            17 => "udp",
            47 => "gre",
            50 => "esp",
            58 => "icmpv6",
            89 => "ospf",
            112 => "vrrp",
            132 => "sctp",
            number => return write!(f, "{number}"),
        };
        f.write_str(name)
    }
}

/// The 16 octets by which the datapath keys an address: IPv4 as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address behind the datapath's 16 octets.
pub fn from_octets(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_round_trip_both_families() {
        for text in ["10.10.50.10", "fd10:10:50::10", "0.0.0.0", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(from_octets(octets(address)), address, "{text}");
        }
    }

    #[test]
    fn mac_prints_what_it_reads() {
        assert_eq!("02:00:5e:10:00:Ab".parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:ab");
        for bad in ["02:00:5e:10:00", "+2:00:5e:10:00:ab", "002:0:5e:10:0:ab", "02::5e:10:00:ab", ""] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
