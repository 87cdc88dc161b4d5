//! Routes as the kernel describes them (`RTM_NEWROUTE`, linux/rtnetlink.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::attribute::{after, attributes, u16_at, u32_at};
use crate::model::address::IfIndex;
use crate::model::route::{Hop, Route};

/// `struct rtmsg`.
const HEADER: usize = 12;
/// `struct rtnexthop`.
const HOP_HEADER: usize = 8;

/// The body of a request for all routes of all families.
pub(super) const REQUEST: [u8; HEADER] = [0; HEADER];

/// The route of a message, if it is one to somewhere in the main table.
pub(super) fn route(body: &[u8]) -> Option<Route> {
    let [family, prefix, _, _, table, protocol, _, kind] = *body.first_chunk()?;
    let family = i32::from(family);
    let cloned = u32_at(body, 8)? & libc::RTM_F_CLONED != 0;
    if kind != libc::RTN_UNICAST || cloned {
        return None;
    }
    let mut table = u32::from(table);
    let mut destination = unspecified(family)?;
    let mut metric = 0;
    let mut hops = Vec::new();
    for (number, value) in attributes(after(body, HEADER)) {
        match number {
            libc::RTA_TABLE => table = u32_at(value, 0)?,
            libc::RTA_DST => destination = address(family, value)?,
            libc::RTA_PRIORITY => metric = u32_at(value, 0)?,
            libc::RTA_MULTIPATH => hops = multipath(family, value),
            _ => {}
        }
    }
    if hops.is_empty() {
        hops.extend(single(family, after(body, HEADER)));
    }
    let destination = IpNet::new(destination, prefix).ok()?.trunc();
    (table == u32::from(libc::RT_TABLE_MAIN)).then_some(Route { destination, hops, metric, protocol })
}

/// Whether a message is about an address of this node. When one goes, the IPv4 routes that have it as their source leave
/// without a word.
pub(super) fn is_of_own_address(body: &[u8]) -> bool {
    body.get(7) == Some(&libc::RTN_LOCAL)
}

fn single(family: i32, attributes_of_route: &[u8]) -> Option<Hop> {
    let (_, value) = attributes(attributes_of_route).find(|(number, _)| *number == libc::RTA_OIF)?;
    let interface = IfIndex::try_from(u32_at(value, 0)?).ok()?;
    Some(Hop { gateway: gateway(family, attributes_of_route), interface, weight: 1 })
}

fn multipath(family: i32, mut value: &[u8]) -> Vec<Hop> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(value, 0)?);
        let hop = value.get(..length).filter(|hop| hop.len() >= HOP_HEADER)?;
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Hop {
            gateway: gateway(family, after(hop, HOP_HEADER)),
            interface: IfIndex::try_from(u32_at(hop, 4)?).ok()?,
            weight: u16::from(hop[3]) + 1,
        })
    })
    .collect()
}

fn gateway(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    attributes(bytes).find_map(|(number, value)| match number {
        libc::RTA_GATEWAY => address(family, value),
        // `struct rtvia`: an IPv4 route by an IPv6 gateway.
        RTA_VIA => address(i32::from(u16_at(value, 0)?), after(value, 2)),
        _ => None,
    })
}

/// Linux 4.1 and later (linux/rtnetlink.h).
const RTA_VIA: u16 = 18;

fn unspecified(family: i32) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        libc::AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

/// An address of this family.
pub(super) fn address(family: i32, value: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        libc::AF_INET6 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
        _ => None,
    }
}
