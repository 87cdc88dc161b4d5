//! What is watched of virtual addresses beyond counting: ports that no Service has, and who claims an address on the link.

use bytemuck::{Pod, Zeroable};

use crate::{Address, ROWS, VipPort};

/// Ports that Services have, over all virtual addresses.
pub const SERVED: u32 = 16_384;
/// Ports that no Service has and that were seen; the least recently seen make room.
pub const STRAYS: u32 = 1_024;
/// Packets to such ports that are known again when they come again.
pub const STRAY_PACKETS: u32 = 4_096;
/// Claims of virtual addresses by link-layer addresses; the least recently seen make room.
pub const CLAIMS: u32 = 1_024;
/// Packets to such ports that are looked into, a CPU and tick: the rest is only counted in the ledger.
pub const STRAY_BUDGET: u32 = 16;
/// A claim after this long without one, in ns, begins anew.
pub const TENURE: u64 = 300_000_000_000;

/// Mark of a row number: the flow goes to a port that no Service has. As with [`crate::record::TAPPED`], no row has such a number.
pub const STRAY: u32 = 1 << 30;
const _: () = assert!(ROWS < STRAY && STRAY & crate::record::TAPPED == 0);

impl VipPort {
    /// In the map of served ports: says that the ports of a virtual address are known at all.
    pub const fn known(vip: Address) -> Self {
        Self { vip, port: 0, protocol: 0, reserved: 0, reserved_last: 0 }
    }
}

/// A packet, by what stays the same when it comes again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StrayPacket {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The first eight octets after the IP header: ports, and TCP's sequence number or UDP's length and checksum.
    pub transport: u64,
    /// IPv4's identification, and the protocol above it.
    pub identification: u64,
}

/// How a packet was last seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StrayHops {
    /// Its time to live or hop limit.
    pub ttl: u32,
    /// How often it came again with a lower one.
    pub falls: u32,
}

/// What was seen of a port that no Service has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Strays {
    /// Packets that were looked into.
    pub packets: u64,
    /// Those that had been here before, with a higher time to live.
    pub looped: u64,
    /// `CLOCK_BOOTTIME` in ns at the last.
    pub last: u64,
    /// Interface index.
    pub interface: u32,
    /// The next hop's link-layer address.
    pub hop: [u8; 6],
    /// The highest time to live that a packet was first seen with, among those that came again; 0 before the first.
    pub ttl_high: u8,
    /// The lowest that one came again with.
    pub ttl_low: u8,
    /// Always zero.
    pub reserved: u32,
}

/// How many packets were looked into in a tick.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StrayBudget {
    /// The tick (`jiffies64`).
    pub tick: u64,
    /// How many.
    pub packets: u64,
}

/// A link-layer address that claims a virtual address on an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ClaimKey {
    /// The virtual address.
    pub vip: Address,
    /// Interface index.
    pub interface: u32,
    /// The link-layer address.
    pub mac: [u8; 6],
    /// [`crate::INGRESS`] for others' claims, [`crate::EGRESS`] for those that leave this node.
    pub direction: u8,
    /// Always zero.
    pub reserved: u8,
    /// Always zero. No array: the compiler would call a function to fill it, and a call takes stack.
    pub reserved_last: u32,
}

/// When an address was claimed, in ns of `CLOCK_BOOTTIME`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Claims {
    /// First, since the last pause of [`TENURE`].
    pub first: u64,
    /// Last.
    pub last: u64,
    /// How often.
    pub count: u64,
}
