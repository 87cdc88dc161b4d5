//! The packets of the probes as octets. Pure: building never fails, reading never panics.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::address::Mac;

/// Hop limit of neighbour discovery: lower values have crossed a router and are not to be trusted (RFC 4861 section 7.1.2).
pub(super) const ND_HOP_LIMIT: i32 = 255;

/// Octets of a small echo request's data: the token and room to make up the size of a common `ping`.
const ECHO_DATA: usize = 24;

const ICMP_HEADER: usize = 8;

/// The family of an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn request(self) -> u8 {
        match self {
            Family::V4 => 8,
            Family::V6 => 128,
        }
    }

    /// The ICMP type of an echo reply.
    pub(super) fn reply(self) -> u8 {
        match self {
            Family::V4 => 0,
            Family::V6 => 129,
        }
    }

    fn ip_header(self) -> usize {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// An ARP request for Ethernet and IPv4 (RFC 826), without the Ethernet header.
pub(super) fn arp_request(mac: Mac, source: Ipv4Addr, gateway: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &mac.0, &source.octets(), &[0; 6], &gateway.octets()].concat()
}

/// Who answers an ARP request: its address and link-layer address.
pub(super) fn arp_reply(packet: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let (address, _) = rest.split_first_chunk::<4>()?;
    (*head == [0, 1, 8, 0, 6, 4, 0, 2]).then_some((Ipv4Addr::from(*address), Mac(*mac)))
}

/// A neighbour solicitation (RFC 4861 section 4.3); the kernel fills in the checksum.
pub(super) fn solicitation(gateway: Ipv6Addr, mac: Option<Mac>) -> Vec<u8> {
    let mut packet = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &gateway.octets()].concat();
    if let Some(mac) = mac {
        packet.extend([1, 1]);
        packet.extend(mac.0);
    }
    packet
}

/// Where a neighbour solicitation goes (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(gateway: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = gateway.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// Who answers a neighbour solicitation: its address, and its link-layer address where it tells (RFC 4861 section 4.4).
pub(super) fn advertisement(packet: &[u8]) -> Option<(Ipv6Addr, Option<Mac>)> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    let (address, options) = rest.split_first_chunk::<16>()?;
    let mac = options.strip_prefix(&[2, 1]).and_then(<[u8]>::first_chunk::<6>);
    (head[..2] == [136, 0]).then_some((Ipv6Addr::from(*address), mac.copied().map(Mac)))
}

/// A small echo request (RFC 792, RFC 4443 section 4.1) that carries a token.
pub(super) fn echo_request(family: Family, id: u16, token: u64) -> Vec<u8> {
    echo(family, id, token, ECHO_DATA)
}

/// An echo request that makes an IP packet of `octets`, or the smallest that carries the token.
pub(super) fn sized_request(family: Family, id: u16, token: u64, octets: u32) -> Vec<u8> {
    let octets = usize::try_from(octets).unwrap_or(usize::MAX).min(usize::from(u16::MAX));
    echo(family, id, token, octets.saturating_sub(family.ip_header() + ICMP_HEADER))
}

fn echo(family: Family, id: u16, token: u64, data: usize) -> Vec<u8> {
    let mut packet = vec![0; ICMP_HEADER + data.max(size_of::<u64>())];
    packet[0] = family.request();
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence(token).to_be_bytes());
    packet[8..16].copy_from_slice(&token.to_be_bytes());
    if family == Family::V4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The token of an echo reply, given from its ICMP header on. The end of a long reply may be missing, so that the
/// checksum is left alone: 64 random bits that come back are proof enough.
pub(super) fn echo_reply(family: Family, packet: &[u8]) -> Option<u64> {
    let (head, rest) = packet.split_first_chunk::<ICMP_HEADER>()?;
    let token = u64::from_be_bytes(*rest.first_chunk()?);
    let ours = head[..2] == [family.reply(), 0] && head[6..8] == sequence(token).to_be_bytes();
    ours.then_some(token)
}

/// The sequence number of an echo request that an ICMP error quotes: its ICMP header is all that must come back (RFC 792).
pub(super) fn quoted_request(family: Family, packet: &[u8]) -> Option<u16> {
    let head = packet.first_chunk::<ICMP_HEADER>()?;
    (head[..2] == [family.request(), 0]).then_some(u16::from_be_bytes([head[6], head[7]]))
}

/// What follows the IPv4 header, as raw sockets give it (RFC 791 section 3.1).
pub(super) fn after_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? & 0x0f);
    packet.get(words * 4..).filter(|_| words >= 5)
}

/// The sequence number: middleboxes that follow echoes want it to change.
fn sequence(token: u64) -> u16 {
    (token & 0xffff) as u16
}

/// The Internet checksum (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let words =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn an_arp_reply_tells_who_sent_it() {
        let mut packet = arp_request(MAC, Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(packet.len(), 28);
        assert_eq!(arp_reply(&packet), None, "a request is no reply");
        packet[7] = 2;
        assert_eq!(arp_reply(&packet), Some((Ipv4Addr::new(192, 0, 2, 1), MAC)));
    }

    #[test]
    fn a_solicitation_goes_to_its_own_group() {
        let gateway = "fe80::12:3456".parse().unwrap();
        assert_eq!(solicited_node(gateway), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!(solicitation(gateway, Some(MAC)).len(), 32);
        let mut packet = solicitation(gateway, Some(MAC));
        (packet[0], packet[24]) = (136, 2);
        assert_eq!(advertisement(&packet), Some((gateway, Some(MAC))));
        assert_eq!(advertisement(&packet[..24]), Some((gateway, None)));
    }

    #[test]
    fn a_sized_request_fills_the_packet() {
        assert_eq!(sized_request(Family::V4, 1, 2, 1500).len(), 1480);
        assert_eq!(sized_request(Family::V6, 1, 2, 1280).len(), 1240);
        assert_eq!(sized_request(Family::V6, 1, 2, 0).len(), 16);
        assert_eq!(
            checksum(&sized_request(Family::V4, 7, u64::MAX, 577)),
            0,
            "sums up to zero with its checksum"
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (arp_reply(&packet), advertisement(&packet), after_ipv4_header(&packet));
            let _ = (echo_reply(Family::V4, &packet), echo_reply(Family::V6, &packet));
            let _ = (quoted_request(Family::V4, &packet), quoted_request(Family::V6, &packet));
        }

        #[test]
        fn a_reply_gives_the_token_back(token: u64, id: u16, octets in 0_u32..70_000, v6: bool, cut in 16_usize..128) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let mut packet = sized_request(family, id, token, octets);
            prop_assert_eq!(echo_reply(family, &packet), None);
            prop_assert_eq!(quoted_request(family, &packet), Some(sequence(token)));
            packet[0] = family.reply();
            packet.truncate(cut);
            prop_assert_eq!(echo_reply(family, &packet), Some(token));
            let header = [&[0x45][..], &[0; 19], &packet].concat();
            prop_assert_eq!(after_ipv4_header(&header), Some(&packet[..]));
        }
    }
}
