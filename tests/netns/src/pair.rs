//! The smallest lab: a node with one uplink, and a peer at its other end.

use std::net::IpAddr;

use anyhow::{Result, bail};

use crate::packet::{Packet, Transport};
use crate::topology::{UPLINK, VIP4, VIP6};
use crate::{Counters, Host, Wire};

/// A node (`eth0`, 10.0.0.2, fd00::2) and its peer (`eth0`, 10.0.0.1, fd00::1). The node has both virtual addresses.
#[derive(Debug)]
pub struct Pair {
    /// Where an agent runs.
    pub node: Host,
    /// Where traffic comes from.
    pub peer: Host,
    /// Link-layer addresses: the node's, the peer's.
    macs: ([u8; 6], [u8; 6]),
}

impl Pair {
    /// Build it.
    pub fn new() -> Result<Self> {
        let (node, peer) = (Host::new("node")?, Host::new("peer")?);
        node.veth(UPLINK, &peer, UPLINK)?;
        for (host, last) in [(&peer, 1), (&node, 2)] {
            host.address(UPLINK, &format!("10.0.0.{last}/24"))?;
            host.address(UPLINK, &format!("fd00::{last}/64"))?;
        }
        node.address("lo", &format!("{VIP4}/32"))?;
        node.address("lo", &format!("{VIP6}/128"))?;
        peer.ip_all(&format!("route add {VIP4} via 10.0.0.2\n-6 route add {VIP6} via fd00::2"))?;
        node.ip_all("route add default via 10.0.0.1\n-6 route add default via fd00::1")?;
        let macs = (node.mac(UPLINK)?, peer.mac(UPLINK)?);
        Ok(Self { node, peer, macs })
    }

    /// A packet from the peer to the virtual address of the family, to be sent on [`Pair::wire`].
    pub fn to_vip(&self, vip: &str, tags: &[u16], transport: Transport, payload: usize) -> Result<Packet> {
        let destination: IpAddr = vip.parse()?;
        let source = if destination.is_ipv4() { "10.0.0.1" } else { "fd00::1" };
        Ok(Packet {
            macs: self.macs,
            tags: tags.to_vec(),
            source: source.parse()?,
            destination,
            transport,
            payload,
        })
    }

    /// The peer's end of the link, for crafted frames.
    pub fn wire(&self) -> Result<Wire> {
        Wire::open(&self.peer, UPLINK)
    }

    /// Read something of the node at a moment in which no packet passed its uplink.
    pub fn quiet<T>(&self, read: impl Fn() -> Result<T>) -> Result<(T, Counters)> {
        for _ in 0..100 {
            let before = self.node.counters(UPLINK)?;
            let value = read()?;
            if self.node.counters(UPLINK)? == before {
                return Ok((value, before));
            }
        }
        bail!("{} never stops talking", self.node.name())
    }
}
