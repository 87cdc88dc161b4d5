//! Flows: who talked to whom through which interface.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::address::{Direction, IfIndex, Mac, Protocol};

/// One direction of one conversation at one interface, as counted by the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Where it was seen.
    pub interface: IfIndex,
    /// Into or out of the node.
    pub direction: Direction,
    /// The outermost 802.1Q or 802.1ad VLAN identifier, if tagged.
    pub vlan: Option<u16>,
    /// The link-layer address at the other end: source on ingress, destination on egress.
    pub hop: Mac,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The last header's protocol, IPv6 extension headers skipped.
    pub protocol: Protocol,
    /// Source port; the ICMP type for ICMP; zero for later fragments and other protocols.
    pub source_port: u16,
    /// Destination port; the ICMP code for ICMP; zero for later fragments and other protocols.
    pub destination_port: u16,
    /// The traffic class.
    pub class: Arc<str>,
    /// Packets as the stack handed them over: one GSO or GRO super-packet is one.
    pub packets: u64,
    /// Octets from the link-layer header on, without an accelerated VLAN tag and frame check sequence.
    pub bytes: u64,
    /// All TCP flags seen, in header order (FIN = 1 ... CWR = 128).
    pub tcp_flags: u8,
    /// Time since boot at the first packet.
    pub first: Duration,
    /// Time since boot at the last packet.
    pub last: Duration,
}

/// TCP flags by their usual letters, such as `SA` for SYN and ACK.
pub fn tcp_flag_letters(flags: u8) -> String {
    "FSRPAUEC"
        .chars()
        .enumerate()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, letter)| letter)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn flags_in_header_order() {
        assert_eq!(super::tcp_flag_letters(0x12), "SA");
        assert_eq!(super::tcp_flag_letters(0), "");
    }
}
