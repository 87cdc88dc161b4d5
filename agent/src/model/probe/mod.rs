//! Active probes of the gateways, and of other nodes: what they have shown, and (in [`Prober`]) what to send next.

mod mtu;
mod prober;
mod vip;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::address::{IfIndex, Mac};
use super::link::Link;
use super::route::Route;
use super::tcp::Histogram;

pub use prober::{Answer, Plan, Prober, Refusal, Request, Transmit};
pub use vip::{PORTS_MAX, Question, VipPlan, VipProber};

/// How many buckets a latency histogram of a probe has: the last but one ends at half a second, the last at the time-out.
pub const BUCKETS: usize = 21;

/// How many gateways are probed at most; those of default routes come first.
pub const GATEWAYS_MAX: usize = 64;

/// What probing one gateway has shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatewayProbe {
    /// Through which interface.
    pub interface: IfIndex,
    /// Which gateway.
    pub gateway: IpAddr,
    /// The link layer: ARP (IPv4) or neighbour discovery (IPv6).
    pub link_layer: Probe,
    /// ICMP or ICMPv6 echo.
    pub echo: Probe,
    /// The largest packet in octets, IP header included, that got an answer with fragmentation forbidden; `None` until known.
    pub path_mtu: Option<u32>,
}

/// A series of probes of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Probe {
    /// Sent.
    pub sent: u64,
    /// Sent and not answered in time.
    pub lost: u64,
    /// The last answer's latency.
    pub last: Option<Duration>,
    /// The latencies of all answers.
    pub latency: Histogram,
    /// Why it cannot be sent at all, if so.
    pub unable: Option<String>,
}

/// A gateway to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Through which interface.
    pub interface: IfIndex,
    /// The interface's link-layer address, if it has one.
    pub mac: Option<Mac>,
    /// The interface's maximum transmission unit in octets.
    pub link_mtu: u32,
    /// Which gateway, or which other node.
    pub gateway: IpAddr,
    /// Whether it is asked on the link layer too: another node may be behind a router.
    pub neighbour: bool,
}

/// The gateways to probe: those of the given uplinks' routes, default routes first, at most [`GATEWAYS_MAX`].
///
/// Loopback and links that are set down have none.
pub fn targets(links: &BTreeMap<IfIndex, Link>, routes: &[Route], uplinks: &[IfIndex]) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    let defaults = routes.iter().filter(|route| route.is_default());
    let others = routes.iter().filter(|route| !route.is_default());
    for hop in defaults.chain(others).flat_map(|route| &route.hops) {
        let Some(gateway) = hop.gateway else { continue };
        let Some(link) = links.get(&hop.interface).filter(|link| link.admin_up) else { continue };
        let known = found.iter().any(|one| one.interface == link.index && one.gateway == gateway);
        if !known && uplinks.contains(&link.index) && found.len() < GATEWAYS_MAX {
            found.push(Target {
                interface: link.index,
                mac: link.mac,
                link_mtu: link.mtu,
                gateway,
                neighbour: true,
            });
        }
    }
    found
}
