//! Active probes of the gateways.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::address::IfIndex;

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
    /// The sum of the latencies of all answers.
    pub sum: Duration,
    /// Answers in buckets of powers of two microseconds, as [`super::tcp::Histogram`].
    pub buckets: Vec<u64>,
    /// Why it cannot be sent at all, if so.
    pub unable: Option<String>,
}
