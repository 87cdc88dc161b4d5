//! A packet read plainly, octet by octet, to compare the datapath's own reading with, and to write a packet from words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_ebpf::parse::Parsed;

use super::claim::{ADVERTISEMENT, ALL_NODES, Claim};
use crate::model::address::{Direction, IfIndex};
use crate::model::class::Class;

/// Extension headers that are followed.
const EXTENSIONS: usize = 6;

/// What rules look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which way it goes.
    pub direction: Direction,
    /// Where it is seen.
    pub interface: IfIndex,
    /// Outermost VLAN identifier.
    pub vlan: Option<u16>,
    /// Source address; IPv4-mapped IPv6 addresses are IPv4 addresses.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: u8,
    /// Source and destination port, where they can be known.
    pub ports: Option<(u16, u16)>,
    /// ICMP type and code, where they can be known.
    pub icmp: Option<(u8, u8)>,
    /// TCP flags, where they can be known.
    pub flags: Option<u8>,
    /// Whether there are more extension headers than are followed.
    pub deep: bool,
    /// The address that it claims, if it does.
    pub claim: Option<Claim>,
    /// Octets from the link-layer header on.
    pub length: u64,
    /// Packets on the wire.
    pub segments: u64,
}

/// Reads an Ethernet frame. ARP is read as a claim: its protocol is 0, and its addresses are unspecified.
///
/// # Errors
/// What it is instead.
pub fn read(frame: &[u8], direction: Direction, interface: IfIndex) -> Result<Packet, Parsed> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let mut ethertype = word(12).ok_or(Parsed::Short)?;
    let (mut at, mut vlan, mut tags) = (14, None, 0);
    while tags < 2 && (ethertype == 0x8100 || ethertype == 0x88a8) {
        let control = word(at).ok_or(Parsed::Short)?;
        ethertype = word(at + 2).ok_or(Parsed::Short)?;
        vlan = vlan.or(Some(control & 0x0fff));
        at += 4;
        tags += 1;
    }
    let empty = Packet {
        direction,
        interface,
        vlan,
        source: Ipv4Addr::UNSPECIFIED.into(),
        destination: Ipv4Addr::UNSPECIFIED.into(),
        protocol: 0,
        ports: None,
        icmp: None,
        flags: None,
        deep: false,
        claim: None,
        length: frame.len() as u64,
        segments: 1,
    };
    let rest = frame.get(at..).unwrap_or_default();
    match ethertype {
        0x0800 => ipv4(rest, empty),
        0x86dd => ipv6(rest, empty),
        // The datapath looks where the kernel found the protocol: behind no tag, which is not in the packet any more.
        0x0806 if tags == 0 => {
            let claim = Claim::arp(rest).ok_or(Parsed::NotIp)?;
            Ok(Packet { direction, length: empty.length, ..Packet::claiming(claim, interface) })
        }
        _ => Err(Parsed::NotIp),
    }
}

fn ipv4(octets: &[u8], mut packet: Packet) -> Result<Packet, Parsed> {
    let header: &[u8; 20] = octets.first_chunk().ok_or(Parsed::Short)?;
    if header[0] >> 4 != 4 || header[0] & 15 < 5 {
        return Err(Parsed::Malformed);
    }
    packet.protocol = header[9];
    packet.source = Ipv4Addr::new(header[12], header[13], header[14], header[15]).into();
    packet.destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]).into();
    if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
        return Ok(packet);
    }
    transport(octets.get(usize::from(header[0] & 15) * 4..).unwrap_or_default(), packet)
}

fn ipv6(octets: &[u8], mut packet: Packet) -> Result<Packet, Parsed> {
    let header: &[u8; 40] = octets.first_chunk().ok_or(Parsed::Short)?;
    if header[0] >> 4 != 6 {
        return Err(Parsed::Malformed);
    }
    let address = |from: usize| {
        let mut address = [0; 16];
        address.copy_from_slice(&header[from..from + 16]);
        Ipv6Addr::from(address).to_canonical()
    };
    (packet.source, packet.destination) = (address(8), address(24));
    packet.protocol = header[6];
    let mut rest = &octets[40..];
    for _ in 0..EXTENSIONS {
        let fixed = match packet.protocol {
            0 | 43 | 44 | 51 | 60 | 135 | 139 | 140 => rest.first_chunk::<8>().ok_or(Parsed::Short)?,
            _ => return transport(rest, packet).map(|packet| packet.with_advertisement(octets)),
        };
        let length = match packet.protocol {
            44 => 8,
            51 => usize::from(fixed[1]) * 4 + 8,
            _ => usize::from(fixed[1]) * 8 + 8,
        };
        let later = packet.protocol == 44 && u16::from_be_bytes([fixed[2], fixed[3]]) & 0xfff8 != 0;
        packet.protocol = fixed[0];
        if later {
            return Ok(packet);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    packet.deep = true;
    Ok(packet)
}

fn transport(octets: &[u8], mut packet: Packet) -> Result<Packet, Parsed> {
    let needed = match packet.protocol {
        6 => 14,
        17 | 132 => 4,
        1 | 58 => 2,
        _ => return Ok(packet),
    };
    let octets = octets.get(..needed).ok_or(Parsed::Short)?;
    if matches!(packet.protocol, 1 | 58) {
        packet.icmp = Some((octets[0], octets[1]));
        return Ok(packet);
    }
    packet.ports =
        Some((u16::from_be_bytes([octets[0], octets[1]]), u16::from_be_bytes([octets[2], octets[3]])));
    packet.flags = (packet.protocol == 6).then(|| octets[13]);
    Ok(packet)
}

impl Packet {
    /// The traffic class by name, as the datapath finds it: by the longest prefix of the destination, then of the source, then by
    /// the destination port, the source port, and the protocol. Of classes that claim the same, the last one has it.
    pub fn class<'a>(&self, classes: &'a [Class]) -> Option<&'a str> {
        let by_address = |address: IpAddr| {
            let nets = classes.iter().flat_map(|class| class.addresses.iter().map(move |net| (net, class)));
            let around = nets.filter(|(net, _)| net.contains(&address));
            around.max_by_key(|(net, _)| net.prefix_len()).map(|(_, class)| class)
        };
        let by_port = |port: u16| {
            let ports = |class: &&Class| match self.protocol {
                6 => class.tcp.iter().any(|ports| ports.0.contains(&port)),
                17 => class.udp.iter().any(|ports| ports.0.contains(&port)),
                _ => false,
            };
            classes.iter().rev().find(ports)
        };
        let by_ports = || self.ports.and_then(|(from, to)| by_port(to).or_else(|| by_port(from)));
        let by_protocol = || classes.iter().rev().find(|class| class.protocols.contains(&self.protocol));
        let found = by_address(self.destination).or_else(|| by_address(self.source));
        found.or_else(by_ports).or_else(by_protocol).map(|class| class.name.as_str())
    }

    /// A packet from the wire with which a neighbour claims an address: ARP or a neighbour advertisement.
    pub fn claiming(claim: Claim, interface: IfIndex) -> Self {
        let (source, destination, protocol) = match claim.address {
            IpAddr::V4(_) => (Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, 0),
            IpAddr::V6(address) => (address, ALL_NODES, 58),
        };
        Self {
            direction: Direction::Ingress,
            interface,
            vlan: None,
            source: source.into(),
            destination: destination.into(),
            protocol,
            ports: None,
            icmp: claim.address.is_ipv6().then_some((ADVERTISEMENT, 0)),
            flags: None,
            deep: false,
            claim: Some(claim),
            length: claim.to_frame().len() as u64,
            segments: 1,
        }
    }

    /// Looks for the claim in the octets of an IPv6 packet.
    fn with_advertisement(self, octets: &[u8]) -> Self {
        let advertises = self.icmp.is_some_and(|(kind, _)| kind == ADVERTISEMENT) && self.protocol == 58;
        Self { claim: if advertises { Claim::advertisement(octets) } else { None }, ..self }
    }

    /// Whether it is ARP, of which only rules about claims know.
    pub fn is_arp(&self) -> bool {
        self.claim.is_some_and(|claim| claim.address.is_ipv4())
    }

    /// A frame that reads as this packet, without IP options, extension headers and fragments.
    pub fn to_frame(&self) -> Vec<u8> {
        if let Some(claim) = self.claim {
            return claim.to_frame();
        }
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if let Some(vlan) = self.vlan {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        let rest = self.transport_octets();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0, 0x45, 0, 0, 20 + rest.len() as u8, 0, 1, 0, 0, 64, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (source, destination) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, rest.len() as u8, self.protocol, 64]);
                frame.extend(crate::model::address::octets(source));
                frame.extend(crate::model::address::octets(destination));
            }
        }
        frame.extend(rest);
        frame
    }

    fn transport_octets(&self) -> Vec<u8> {
        let (from, to) = self.ports.unwrap_or_default();
        let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
        match self.protocol {
            6 => {
                let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, self.flags.unwrap_or(0x10), 255, 255, 0, 0, 0, 0];
                [&ports[..], &rest].concat()
            }
            17 => [&ports[..], &[0, 8, 0, 0]].concat(),
            132 => [&ports[..], &[0; 8]].concat(),
            1 | 58 => {
                let (kind, code) = self.icmp.unwrap_or_default();
                vec![kind, code, 0, 0, 0, 1, 0, 1]
            }
            _ => vec![0; 8],
        }
    }
}
