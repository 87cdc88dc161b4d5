//! Frames crafted byte by byte, so that a test knows exactly what it sends.

use std::net::IpAddr;

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 768.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// RFC 9293 section 3.1.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The flags byte, for example [`SYN`].
        flags: u8,
    },
    /// An echo request: RFC 792 or, between IPv6 addresses, RFC 4443 section 4.1.
    Echo {
        /// Which program asks.
        identifier: u16,
        /// Which of its requests this is.
        sequence: u16,
    },
}

/// TCP's SYN flag.
pub const SYN: u8 = 0x02;
/// TCP's RST flag.
pub const RST: u8 = 0x04;
/// TCP's ACK flag.
pub const ACK: u8 = 0x10;

/// One packet, described; [`Packet::frame`] makes the bytes.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Destination and source link-layer address.
    pub macs: ([u8; 6], [u8; 6]),
    /// VLAN tags, outermost first. Two tags make 802.1ad over 802.1Q.
    pub tags: Vec<u16>,
    /// Source address; its family must be the destination's.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol, ports, flags.
    pub transport: Transport,
    /// Bytes behind the transport header.
    pub payload: usize,
}

impl Packet {
    /// The whole Ethernet frame, with right lengths and checksums.
    pub fn frame(&self) -> Vec<u8> {
        self.around(&self.datagram(), None)
    }

    /// The same packet as IP fragments whose payload is at most `size` bytes (rounded down to a multiple of 8).
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let datagram = self.datagram();
        let size = (size / 8 * 8).max(8);
        let last = datagram.len().saturating_sub(1) / size;
        datagram
            .chunks(size)
            .enumerate()
            .map(|(index, chunk)| {
                self.around(chunk, Some(Fragment { offset: index * size, more: index < last }))
            })
            .collect()
    }

    /// Length of the frame from the IP header on.
    pub fn ip_length(&self) -> usize {
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        header + self.datagram().len()
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Udp { .. } => 17,
            Transport::Tcp { .. } => 6,
            Transport::Echo { .. } if self.source.is_ipv4() => 1,
            Transport::Echo { .. } => 58,
        }
    }

    /// Transport header and payload, checksummed.
    fn datagram(&self) -> Vec<u8> {
        let mut bytes = self.transport_header();
        bytes.extend((0..self.payload).map(|index| index as u8));
        let sum = match (self.transport, self.source) {
            (Transport::Echo { .. }, IpAddr::V4(_)) => checksum(&[&bytes]),
            _ => checksum(&[&self.pseudo_header(bytes.len()), &bytes]),
        };
        let at = match self.transport {
            Transport::Udp { .. } => 6,
            Transport::Tcp { .. } => 16,
            Transport::Echo { .. } => 2,
        };
        // RFC 768: a computed zero is sent as all ones.
        let sum = if sum == 0 && matches!(self.transport, Transport::Udp { .. }) { 0xffff } else { sum };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn transport_header(&self) -> Vec<u8> {
        match self.transport {
            Transport::Udp { source, destination } => {
                let length = (8 + self.payload) as u16;
                [source, destination, length, 0].iter().flat_map(|field| field.to_be_bytes()).collect()
            }
            Transport::Tcp { source, destination, flags } => {
                let mut bytes: Vec<u8> =
                    [source, destination].iter().flat_map(|port| port.to_be_bytes()).collect();
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes
            }
            Transport::Echo { identifier, sequence } => {
                let kind = if self.source.is_ipv4() { 8 } else { 128 };
                let mut bytes = vec![kind, 0, 0, 0];
                bytes.extend([identifier, sequence].iter().flat_map(|field| field.to_be_bytes()));
                bytes
            }
        }
    }

    /// RFC 9293 section 3.1, RFC 8200 section 8.1.
    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = [octets(self.source), octets(self.destination)].concat();
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, self.protocol()]);
        bytes
    }

    fn around(&self, payload: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
        let mut frame = [self.macs.0, self.macs.1].concat();
        for (index, tag) in self.tags.iter().enumerate() {
            let outer = index == 0 && self.tags.len() > 1;
            frame.extend(if outer { [0x88, 0xa8] } else { [0x81, 0x00] });
            frame.extend(tag.to_be_bytes());
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.ipv4(source.octets(), destination.octets(), payload.len(), fragment));
            }
            _ => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6(payload.len(), fragment));
            }
        }
        frame.extend(payload);
        frame
    }

    /// RFC 791 section 3.1.
    fn ipv4(
        &self,
        source: [u8; 4],
        destination: [u8; 4],
        payload: usize,
        fragment: Option<Fragment>,
    ) -> Vec<u8> {
        let offset = fragment.map_or(0, |it| (it.offset / 8) as u16 | if it.more { 0x2000 } else { 0 });
        let mut header = vec![0x45, 0];
        header.extend(((20 + payload) as u16).to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(offset.to_be_bytes());
        header.extend([64, self.protocol(), 0, 0]);
        header.extend(source);
        header.extend(destination);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    /// RFC 8200 section 3 and, for fragments, 4.5.
    fn ipv6(&self, payload: usize, fragment: Option<Fragment>) -> Vec<u8> {
        let extension = if fragment.is_some() { 8 } else { 0 };
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(((extension + payload) as u16).to_be_bytes());
        header.extend([if fragment.is_some() { 44 } else { self.protocol() }, 64]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        if let Some(fragment) = fragment {
            header.extend([self.protocol(), 0]);
            header.extend((fragment.offset as u16 | u16::from(fragment.more)).to_be_bytes());
            header.extend([0, 0, 0x12, 0x34]);
        }
        header
    }
}

#[derive(Clone, Copy)]
struct Fragment {
    /// Bytes before this fragment, a multiple of 8.
    offset: usize,
    more: bool,
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071 over parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source: &str, destination: &str, tags: &[u16], payload: usize) -> Packet {
        Packet {
            macs: ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
            tags: tags.to_vec(),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            transport: Transport::Udp { source: 1000, destination: 2000 },
            payload,
        }
    }

    #[test]
    fn lengths_are_those_of_the_headers() {
        assert_eq!(udp("10.0.0.1", "10.0.0.2", &[], 10).frame().len(), 14 + 20 + 8 + 10);
        assert_eq!(udp("10.0.0.1", "10.0.0.2", &[5], 10).frame().len(), 18 + 20 + 8 + 10);
        assert_eq!(udp("fd00::1", "fd00::2", &[5, 6], 10).frame().len(), 22 + 40 + 8 + 10);
        assert_eq!(udp("fd00::1", "fd00::2", &[], 10).ip_length(), 58);
    }

    #[test]
    fn fragments_join_to_the_whole() {
        let packet = udp("10.0.0.1", "10.0.0.2", &[], 1000);
        let fragments = packet.fragments(600);
        assert_eq!(fragments.len(), 2);
        let joined: Vec<u8> = fragments.iter().flat_map(|frame| frame[34..].to_vec()).collect();
        assert_eq!(joined, packet.frame()[34..]);
        assert_eq!(fragments[0][20] & 0x20, 0x20, "more fragments");
        assert_eq!(u16::from_be_bytes([fragments[1][20], fragments[1][21]]), 600 / 8);
    }

    #[test]
    fn a_known_checksum() {
        // RFC 1071 section 3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
