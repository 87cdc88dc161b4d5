//! Claims of addresses, read plainly: to compare the datapath's own reading with, and to write one from words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::model::address::Mac;

/// Type of a neighbour advertisement (RFC 4861 section 4.4).
pub(super) const ADVERTISEMENT: u8 = 136;
/// Where it goes (RFC 4291 section 2.7.1), and at which link-layer address that is (RFC 2464 section 7).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

/// What a neighbour would believe of a packet: that an address is at this link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub mac: Mac,
}

impl Claim {
    /// Reads the octets behind the Ethernet header of ARP (RFC 826): neighbours learn from requests and from replies. `None` where
    /// it is of other kinds of addresses, or cut short.
    pub(super) fn arp(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; 28] = octets.first_chunk()?;
        let [0, 1, 8, 0, 6, 4, 0, 1 | 2, a, b, c, d, e, f, w, x, y, z, ..] = *octets else { return None };
        Some(Self { address: Ipv4Addr::new(w, x, y, z).into(), mac: Mac([a, b, c, d, e, f]) })
    }

    /// Reads an IPv6 packet: a neighbour advertisement whose first option is the target's link-layer address (RFC 4861 sections 4.4
    /// and 4.6.1). With extension headers it is none that anybody has to believe.
    pub(super) fn advertisement(octets: &[u8]) -> Option<Self> {
        let (_, rest) = octets.split_first_chunk::<40>()?;
        let (head, rest) = rest.split_first_chunk::<8>()?;
        let (target, rest) = rest.split_first_chunk::<16>()?;
        let [2, 1, a, b, c, d, e, f] = *rest.first_chunk::<8>()? else { return None };
        let mac = Mac([a, b, c, d, e, f]);
        (head[0] == ADVERTISEMENT).then(|| Self { address: Ipv6Addr::from(*target).to_canonical(), mac })
    }

    /// A frame with this claim: a request by ARP in the name of the address, or an advertisement to all nodes.
    pub(super) fn to_frame(self) -> Vec<u8> {
        let mac = self.mac.0;
        match self.address {
            IpAddr::V4(address) => {
                let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
                let asked = [0; 10];
                [&BROADCAST[..], &mac, &head, &mac, &address.octets(), &asked].concat()
            }
            IpAddr::V6(address) => {
                let head = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255];
                let to = ALL_NODES.octets();
                let message = [ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
                let target = address.octets();
                [&ALL_NODES_MAC[..], &mac, &head, &target, &to, &message, &target, &[2, 1], &mac].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::{Direction, IfIndex};
    use crate::model::policy::{Packet, read_frame};

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        for address in ["10.0.0.50", "2001:db8::50"] {
            let claim = Claim { address: address.parse().unwrap(), mac: Mac([2, 0, 0, 0, 0, 9]) };
            let frame = claim.to_frame();
            let read = if address.contains(':') { Claim::advertisement } else { Claim::arp };
            assert_eq!(read(&frame[14..]), Some(claim));
            let interface = IfIndex::try_from(1).unwrap();
            assert_eq!(
                read_frame(&frame, Direction::Ingress, interface),
                Ok(Packet::claiming(claim, interface))
            );
            for end in 14..frame.len().min(14 + 28) {
                assert_eq!(read(&frame[14..end]), None, "cut at {end}");
            }
        }
    }
}
