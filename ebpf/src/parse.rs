//! Bounds-checked packet headers: Ethernet, VLAN, IPv4, IPv6 with its extension headers, TCP, UDP, ICMP.
//!
//! The same code runs in the kernel and in host tests. It reads between two addresses and nothing else.

use crate::{Address, EGRESS, FlowFields, FlowKey, INGRESS, UNTAGGED};

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IP packet: all headers have been read.
    Ip,
    /// Not IP.
    NotIp,
    /// Headers end before they should: cut off, or not in the linear part of the packet.
    Short,
    /// Headers that contradict the standards.
    Malformed,
}

/// TCP FIN.
pub const FIN: u8 = 1;
/// TCP SYN.
pub const SYN: u8 = 2;
/// TCP RST.
pub const RST: u8 = 4;
/// TCP ACK.
pub const ACK: u8 = 16;

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// Extension headers followed in one packet; what comes behind more is counted by that header's number.
const EXTENSIONS: usize = 6;

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Everything smaller.
    pub fields: FlowFields,
    /// TCP flags.
    pub flags: u8,
    /// How much of the packet it is, of [`piece`].
    pub piece: u8,
}

/// How much of an IP packet was there to read.
pub mod piece {
    /// All of it.
    pub const WHOLE: u8 = 0;
    /// The first fragment: with ports, unless it is too short.
    pub const FIRST: u8 = 1;
    /// A later fragment: without ports, TCP flags and ICMP type.
    pub const LATER: u8 = 2;
    /// More extension headers than are followed: without ports, TCP flags and ICMP type.
    pub const DEEP: u8 = 3;
}

impl Headers {
    /// What is known before a packet is read. `vlan` is the tag that is not in the packet, or [`UNTAGGED`].
    #[inline(always)]
    pub fn new(interface: u32, direction: u8, vlan: u16) -> Self {
        let fields = FlowFields {
            source_port: 0,
            destination_port: 0,
            interface,
            hop: 0,
            vlan,
            protocol: 0,
            direction,
        };
        Self { source: Address([0, 0]), destination: Address([0, 0]), fields, flags: 0, piece: piece::WHOLE }
    }

    /// The flow to which the packet belongs.
    #[inline(always)]
    pub fn key(&self) -> FlowKey {
        FlowKey::new(self.source, self.destination, &self.fields)
    }
}

/// Reads the packet between two addresses into `into`, which must be as [`Headers::new`] made it.
///
/// # Safety
/// Everything from `start` up to `end` must be readable.
#[inline(always)]
pub unsafe fn parse(start: usize, end: usize, into: &mut Headers) -> Parsed {
    if start + ETHERNET > end {
        return Parsed::Short;
    }
    let egress = into.fields.direction == EGRESS;
    // SAFETY: the Ethernet header was checked to lie before `end`.
    let mut ethertype = unsafe {
        into.fields.hop = octets_of_hop(start + if egress { 0 } else { 6 });
        u16::from_be(load(start + 12))
    };
    let mut at = start + ETHERNET;
    // Two tags in the packet at most: a third is not IP.
    let mut tag = 0;
    while tag < 2 && (ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_SERVICE_VLAN) {
        if at + 4 > end {
            return Parsed::Short;
        }
        // SAFETY: the tag was checked to lie before `end`.
        let (control, inner): (u16, u16) = unsafe { (load(at), load(at + 2)) };
        if into.fields.vlan == UNTAGGED {
            into.fields.vlan = u16::from_be(control) & 0x0fff;
        }
        ethertype = u16::from_be(inner);
        at += 4;
        tag += 1;
    }
    match ethertype {
        // SAFETY: the caller's promise.
        ETHERTYPE_IPV4 => unsafe { ipv4(at, end, into) },
        // SAFETY: the caller's promise.
        ETHERTYPE_IPV6 => unsafe { ipv6(at, end, into) },
        _ => Parsed::NotIp,
    }
}

/// The flow and TCP flags of a packet of the plainest IPv4 kind: no tag in the packet, no options, no fragment, TCP or
/// UDP, all headers in reach. `None` for every other packet, which [`parse`] reads. On the common way through the
/// datapath this has no branch that joins another, so the key stays where it was built.
///
/// # Safety
/// Everything from `start` up to `end` must be readable.
#[inline(always)]
pub unsafe fn plain_v4(start: usize, end: usize, before: &Headers) -> Option<(FlowKey, u8)> {
    const IP: usize = ETHERNET;
    const TRANSPORT: usize = IP + 20;
    if start + TRANSPORT + 14 > end {
        return None;
    }
    // SAFETY: all that is read lies before `end`, as just checked.
    unsafe {
        let version_and_type: (u16, u8) = (load(start + 12), load(start + IP));
        let fragment: u16 = load(start + IP + 6);
        let protocol: u8 = load(start + IP + 9);
        if version_and_type != (ETHERTYPE_IPV4.to_be(), 0x45) || u16::from_be(fragment) & 0x3fff != 0 {
            return None;
        }
        let flags = tcp_flags(protocol, start + TRANSPORT)?;
        let (source, destination) = (load(start + IP + 12), load(start + IP + 16));
        let key = plain_key(
            start,
            before,
            protocol,
            Address::mapped(source),
            Address::mapped(destination),
            TRANSPORT,
        );
        Some((key, flags))
    }
}

/// The same for IPv6 without extension headers.
///
/// # Safety
/// As [`plain_v4`].
#[inline(always)]
pub unsafe fn plain_v6(start: usize, end: usize, before: &Headers) -> Option<(FlowKey, u8)> {
    const IP: usize = ETHERNET;
    const TRANSPORT: usize = IP + 40;
    if start + TRANSPORT + 14 > end {
        return None;
    }
    // SAFETY: all that is read lies before `end`, as just checked.
    unsafe {
        let (ethertype, version): (u16, u8) = (load(start + 12), load(start + IP));
        if ethertype != ETHERTYPE_IPV6.to_be() || version >> 4 != 6 {
            return None;
        }
        let protocol: u8 = load(start + IP + 6);
        let flags = tcp_flags(protocol, start + TRANSPORT)?;
        let source = Address([load(start + IP + 8), load(start + IP + 16)]);
        let destination = Address([load(start + IP + 24), load(start + IP + 32)]);
        Some((plain_key(start, before, protocol, source, destination, TRANSPORT), flags))
    }
}

/// TCP flags, none for UDP, `None` for other protocols.
#[inline(always)]
unsafe fn tcp_flags(protocol: u8, transport: usize) -> Option<u8> {
    match protocol {
        // SAFETY: the caller's promise.
        TCP => Some(unsafe { load(transport + 13) }),
        UDP => Some(0),
        _ => None,
    }
}

#[inline(always)]
unsafe fn plain_key(
    start: usize,
    before: &Headers,
    protocol: u8,
    source: Address,
    destination: Address,
    transport: usize,
) -> FlowKey {
    // SAFETY: the caller's promise.
    let fields = unsafe {
        FlowFields {
            source_port: u16::from_be(load(start + transport)),
            destination_port: u16::from_be(load(start + transport + 2)),
            hop: octets_of_hop(start + if before.fields.direction == EGRESS { 0 } else { 6 }),
            protocol,
            ..before.fields
        }
    };
    FlowKey::new(source, destination, &fields)
}

/// Six octets as they stand in memory, in the order in which a [`FlowKey`] keeps them.
#[inline(always)]
unsafe fn octets_of_hop(at: usize) -> u64 {
    // SAFETY: the caller's promise.
    let (first, rest): (u32, u16) = unsafe { (load(at), load(at + 4)) };
    #[cfg(target_endian = "little")]
    return first as u64 | (rest as u64) << 32;
    #[cfg(target_endian = "big")]
    return (first as u64) << 32 | (rest as u64) << 16;
}

/// RFC 791.
#[inline(always)]
unsafe fn ipv4(at: usize, end: usize, into: &mut Headers) -> Parsed {
    if at + 20 > end {
        return Parsed::Short;
    }
    // SAFETY: the fixed header was checked to lie before `end`.
    let (version, fragment) = unsafe {
        into.fields.protocol = load(at + 9);
        into.source = Address::mapped(load(at + 12));
        into.destination = Address::mapped(load(at + 16));
        (load::<u8>(at), u16::from_be(load(at + 6)))
    };
    let words = version & 0x0f;
    if version >> 4 != 4 || words < 5 {
        return Parsed::Malformed;
    }
    if fragment & 0x1fff != 0 {
        into.piece = piece::LATER;
        return Parsed::Ip;
    }
    if fragment & 0x2000 != 0 {
        into.piece = piece::FIRST;
    }
    // SAFETY: the caller's promise.
    unsafe { transport(at + (words as usize) * 4, end, into) }
}

/// RFC 8200.
#[inline(always)]
unsafe fn ipv6(at: usize, end: usize, into: &mut Headers) -> Parsed {
    if at + 40 > end {
        return Parsed::Short;
    }
    // SAFETY: the fixed header was checked to lie before `end`.
    let version: u8 = unsafe {
        into.fields.protocol = load(at + 6);
        into.source = Address([load(at + 8), load(at + 16)]);
        into.destination = Address([load(at + 24), load(at + 32)]);
        load(at)
    };
    if version >> 4 != 6 {
        return Parsed::Malformed;
    }
    let mut header = at + 40;
    let mut followed = 0;
    while followed < EXTENSIONS {
        let length = match into.fields.protocol {
            0 | 43 | 60 | 135 | 139 | 140 => Extension::Eights,
            51 => Extension::Fours,
            44 => Extension::Fragment,
            // SAFETY: the caller's promise.
            _ => return unsafe { transport(header, end, into) },
        };
        if header + 8 > end {
            return Parsed::Short;
        }
        // SAFETY: the first eight octets were checked to lie before `end`.
        let (next, size, offset): (u8, u8, u16) =
            unsafe { (load(header), load(header + 1), load(header + 2)) };
        into.fields.protocol = next;
        header += match length {
            Extension::Eights => (size as usize) * 8 + 8,
            Extension::Fours => (size as usize) * 4 + 8,
            Extension::Fragment => match u16::from_be(offset) {
                offset if offset & 0xfff8 != 0 => {
                    into.piece = piece::LATER;
                    return Parsed::Ip;
                }
                offset => {
                    if offset & 1 != 0 {
                        into.piece = piece::FIRST;
                    }
                    8
                }
            },
        };
        followed += 1;
    }
    into.piece = piece::DEEP;
    Parsed::Ip
}

/// How the length of an extension header is told.
enum Extension {
    /// In units of eight octets, the first not counted.
    Eights,
    /// In units of four octets, the first two not counted (RFC 4302).
    Fours,
    /// Always eight octets.
    Fragment,
}

/// Ports of TCP, UDP and SCTP, flags of TCP, type and code of ICMP.
#[inline(always)]
unsafe fn transport(at: usize, end: usize, into: &mut Headers) -> Parsed {
    match into.fields.protocol {
        TCP => {
            if at + 14 > end {
                return Parsed::Short;
            }
            // SAFETY: all that is read was checked to lie before `end`.
            into.flags = unsafe { load(at + 13) };
        }
        UDP | SCTP => {
            if at + 4 > end {
                return Parsed::Short;
            }
        }
        ICMP | ICMPV6 => {
            if at + 2 > end {
                return Parsed::Short;
            }
            // SAFETY: type and code were checked to lie before `end`.
            let (kind, code): (u8, u8) = unsafe { (load(at), load(at + 1)) };
            into.fields.source_port = kind as u16;
            into.fields.destination_port = code as u16;
            return Parsed::Ip;
        }
        _ => return Parsed::Ip,
    }
    // SAFETY: four octets were checked to lie before `end`.
    unsafe {
        into.fields.source_port = u16::from_be(load(at));
        into.fields.destination_port = u16::from_be(load(at + 2));
    }
    Parsed::Ip
}

/// Reads a value that need not be aligned.
#[inline(always)]
unsafe fn load<T: Copy>(address: usize) -> T {
    // The BPF target would split an unaligned read into octets; the kernel accepts a whole one where the
    // machine does. SAFETY: the caller has checked that the value lies inside the packet.
    #[cfg(target_arch = "bpf")]
    unsafe {
        (address as *const T).read()
    }
    // SAFETY: as above.
    #[cfg(not(target_arch = "bpf"))]
    unsafe {
        (address as *const T).read_unaligned()
    }
}

/// [`parse`] on a slice, for tests and tools on the host. `vlan` is the accelerated tag, if any.
pub fn parse_slice(packet: &[u8], egress: bool, vlan: Option<u16>) -> (Parsed, FlowKey, u8) {
    let mut headers = Headers::new(0, if egress { EGRESS } else { INGRESS }, vlan.unwrap_or(UNTAGGED));
    let start = packet.as_ptr() as usize;
    // SAFETY: the slice is readable from its first to its last octet.
    let parsed = unsafe { parse(start, start + packet.len(), &mut headers) };
    (parsed, headers.key(), headers.flags)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn ethernet(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (kind, control) in tags {
            packet.extend(kind.to_be_bytes());
            packet.extend(control.to_be_bytes());
        }
        packet.extend(ethertype.to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn ipv4_header(protocol: u8, fragment: u16, options: usize) -> Vec<u8> {
        let mut header = std::vec![0x45 + (options / 4) as u8, 0, 0, 40, 0, 1];
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        header.resize(20 + options, 1);
        header
    }

    fn ipv6_header(next: u8) -> Vec<u8> {
        let mut header = std::vec![0x60, 0, 0, 0, 0, 20, next, 64];
        header.extend([0xfd, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        header.extend([0xfd, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        header
    }

    const SYN_SEGMENT: [u8; 20] =
        [0x30, 0x39, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0];

    #[test]
    fn tcp_over_ipv4_with_options_and_two_tags() {
        let mut ip = ipv4_header(TCP, 0, 12);
        ip.extend(SYN_SEGMENT);
        let packet = ethernet(&[(0x88a8, 0x2064), (0x8100, 0x0028)], 0x0800, &ip);
        let (parsed, key, flags) = parse_slice(&packet, false, None);
        assert_eq!(parsed, Parsed::Ip);
        assert_eq!(
            (key.source_port(), key.destination_port(), key.protocol(), flags),
            (12345, 443, TCP, SYN)
        );
        assert_eq!(key.vlan(), 0x64, "the outer tag");
        assert_eq!(key.hop(), [2, 0, 0, 0, 0, 2], "ingress: who sent it");
        assert_eq!(parse_slice(&packet, true, Some(7)).1.vlan(), 7, "metadata is outside all tags");
        assert_eq!(parse_slice(&packet, true, None).1.hop(), [2, 0, 0, 0, 0, 1], "egress: who gets it");
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut ip = ipv4_header(UDP, 0x2000, 0);
        ip.extend([0x30, 0x39, 0, 53]);
        assert_eq!(parse_slice(&ethernet(&[], 0x0800, &ip), false, None).1.destination_port(), 53);
        let mut ip = ipv4_header(UDP, 0x0010, 0);
        ip.extend([0x30, 0x39, 0, 53]);
        let (parsed, key, _) = parse_slice(&ethernet(&[], 0x0800, &ip), false, None);
        assert_eq!((parsed, key.destination_port(), key.protocol()), (Parsed::Ip, 0, UDP));
    }

    #[test]
    fn ipv6_extension_headers_are_skipped() {
        let mut ip = ipv6_header(0);
        ip.extend([60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ip.extend([51, 0, 0, 0, 0, 0, 0, 0]);
        ip.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ip.extend([TCP, 0, 0, 1, 0, 0, 0, 9]);
        ip.extend(SYN_SEGMENT);
        let (parsed, key, flags) = parse_slice(&ethernet(&[], 0x86dd, &ip), false, None);
        assert_eq!((parsed, key.protocol(), key.destination_port(), flags), (Parsed::Ip, TCP, 443, SYN));
    }

    #[test]
    fn later_ipv6_fragments_have_no_ports() {
        let mut ip = ipv6_header(44);
        ip.extend([UDP, 0, 0, 9, 0, 0, 0, 9, 1, 2, 3, 4]);
        let (parsed, key, _) = parse_slice(&ethernet(&[], 0x86dd, &ip), false, None);
        assert_eq!((parsed, key.protocol(), key.source_port()), (Parsed::Ip, UDP, 0));
    }

    #[test]
    fn icmp_keeps_type_and_code() {
        let mut ip = ipv4_header(ICMP, 0, 0);
        ip.extend([3, 4]);
        let key = parse_slice(&ethernet(&[], 0x0800, &ip), false, None).1;
        assert_eq!((key.source_port(), key.destination_port()), (3, 4));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(parse_slice(&ethernet(&[], 0x0806, &[0; 28]), false, None).0, Parsed::NotIp);
        assert_eq!(parse_slice(&ethernet(&[], 0x0800, &[0x65; 20]), false, None).0, Parsed::Malformed);
        assert_eq!(parse_slice(&ethernet(&[], 0x0800, &[0x44; 20]), false, None).0, Parsed::Malformed);
        assert_eq!(parse_slice(&ethernet(&[], 0x86dd, &[0x45; 40]), false, None).0, Parsed::Malformed);
    }

    fn plain_slice(packet: &[u8], egress: bool) -> Option<(FlowKey, u8)> {
        let before = Headers::new(0, if egress { EGRESS } else { INGRESS }, UNTAGGED);
        let (start, end) = (packet.as_ptr() as usize, packet.as_ptr() as usize + packet.len());
        // SAFETY: the slice is readable from its first to its last octet.
        unsafe { plain_v4(start, end, &before).or_else(|| plain_v6(start, end, &before)) }
    }

    #[test]
    fn plain_packets_take_the_short_way() {
        for (ethertype, mut ip) in [(0x0800, ipv4_header(TCP, 0x4000, 0)), (0x86dd, ipv6_header(TCP))] {
            ip.extend(SYN_SEGMENT);
            let packet = ethernet(&[], ethertype, &ip);
            let (parsed, key, flags) = parse_slice(&packet, false, None);
            assert_eq!((parsed, plain_slice(&packet, false)), (Parsed::Ip, Some((key, flags))));
        }
    }

    proptest! {
        #[test]
        fn the_short_way_says_what_the_long_way_says(
            v6: bool, egress: bool, tagged: bool, at in 0usize..60, octet: u8, protocol in prop_oneof![Just(TCP), Just(UDP), any::<u8>()],
        ) {
            let mut ip = if v6 { ipv6_header(protocol) } else { ipv4_header(protocol, 0, 0) };
            ip.extend(SYN_SEGMENT);
            let mut packet = ethernet(if tagged { &[(0x8100, 7)] } else { &[] }, if v6 { 0x86dd } else { 0x0800 }, &ip);
            let at = 12 + at % (packet.len() - 12);
            packet[at] = octet;
            if let Some((key, flags)) = plain_slice(&packet, egress) {
                prop_assert_eq!((Parsed::Ip, key, flags), parse_slice(&packet, egress, None));
            }
        }

        #[test]
        fn every_cut_is_short_or_the_whole_truth(options in (0usize..=10).prop_map(|n| n * 4), cut in 0usize..100) {
            let mut ip = ipv4_header(TCP, 0, options);
            ip.extend(SYN_SEGMENT);
            let packet = ethernet(&[(0x8100, 40)], 0x0800, &ip);
            let cut = cut.min(packet.len());
            let (parsed, key, flags) = parse_slice(&packet[..cut], false, None);
            if parsed == Parsed::Ip {
                prop_assert_eq!((key, flags), { let (_, key, flags) = parse_slice(&packet, false, None); (key, flags) });
            } else {
                prop_assert_eq!(parsed, Parsed::Short);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), egress: bool) {
            parse_slice(&bytes, egress, None);
        }
    }
}
