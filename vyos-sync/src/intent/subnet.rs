//! A subnet and the router's address in it.

use ipnet::IpNet;
use std::net::IpAddr;

/// A subnet and the router's address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    /// The prefix.
    pub prefix: IpNet,
    /// The router's address.
    pub gateway: IpAddr,
}

/// The address that a router has in a subnet unless somebody gave another.
pub(super) fn first_host(prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => net.hosts().next().unwrap_or_else(|| net.network()).into(),
        // The all-zeros address is the subnet-router anycast address (RFC 4291 section 2.6.1).
        IpNet::V6(net) => net.hosts().nth(1).unwrap_or_else(|| net.network()).into(),
    }
}

pub(super) fn overlap(one: &IpNet, two: &IpNet) -> bool {
    one.contains(two) || two.contains(one)
}
