//! The kernel's routes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::address::IfIndex;

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Route {
    /// Where to; a prefix of length zero is the default route.
    pub destination: IpNet,
    /// The ways there; several are equal-cost paths.
    pub hops: Vec<Hop>,
    /// Preference: the lowest wins.
    pub metric: u32,
    /// Who made it, by the kernel's number (`RTPROT_*`; 186 is BGP).
    pub protocol: u8,
}

/// One way of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hop {
    /// The gateway; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub interface: IfIndex,
    /// Its share among equal-cost paths, from 1.
    pub weight: u16,
}

impl Route {
    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}
