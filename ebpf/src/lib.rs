//! The contract between Weir's datapath programs and the agent: map keys, values, bounds and names.
//!
//! It builds for the BPF target and for the host, so that the agent reads what the programs write without a
//! second description, and so that [`parse`] can be tested where tests run.
#![no_std]

mod flow;
pub mod parse;
pub mod record;
pub mod rules;
pub mod vips;
pub mod vlan;

use bytemuck::{Pod, Zeroable};

pub use flow::{FlowCount, FlowFields, FlowKey, Slot};

/// Changes whenever a key or value below changes its meaning or its layout: pinned maps of another layout are not reused.
pub const LAYOUT: u32 = 6;

/// Slots a CPU in the front cache of flows, a power of two; the loader lowers it on machines with many CPUs. The cache is
/// one array, a CPU's slots after another's: unlike a per-CPU array it has its slots on cache lines of their own, takes no
/// pointer to find one, and can be mapped.
pub const FRONT_SLOTS: u32 = 16_384;
/// A front slot is given to a new flow after this many packets of other flows in a row.
pub const FRONT_PATIENCE: u8 = 8;
/// Flows in the table behind the front cache.
pub const FLOWS: u32 = 131_072;
/// Rows of the ledger.
pub const ROWS: u32 = 4_096;
/// Virtual addresses.
pub const VIPS: u32 = 4_096;
/// Ports that get rows of their own at one virtual address; the others share port 0.
pub const VIP_PORTS: u64 = 64;
/// Traffic classes, `other` (0) included.
pub const CLASSES: u32 = 32;
/// Prefixes that decide a traffic class.
pub const CLASS_PREFIXES: u32 = 65_536;
/// Peer prefixes of local sockets, least recently used ones make room.
pub const TCP_PEERS: u32 = 1_024;
/// Kinds of drops (reason and place).
pub const DROPS: u32 = 4_096;
/// Hooks (interface and direction).
pub const HOOKS: u32 = 1_024;
/// Buckets of a histogram of powers of two microseconds; the last begins at 2^22 µs, about 4 s.
pub const BUCKETS: usize = 24;

/// `FlowKey::vlan` of an untagged packet.
pub const UNTAGGED: u16 = 0xffff;
/// `direction` of packets from the wire.
pub const INGRESS: u8 = 0;
/// `direction` of packets to the wire.
pub const EGRESS: u8 = 1;

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291, 2.5.5.2), in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Address(pub [u64; 2]);

impl Address {
    /// The mapped form of an IPv4 address given as it stands in memory.
    #[inline(always)]
    pub const fn mapped(in_memory: u32) -> Self {
        #[cfg(target_endian = "little")]
        let low = 0xffff_0000 | (in_memory as u64) << 32;
        #[cfg(target_endian = "big")]
        let low = 0x0000_ffff_0000_0000 | in_memory as u64;
        Self([0, low])
    }

    /// The octets in network order.
    pub fn octets(self) -> [u8; 16] {
        bytemuck::cast(self)
    }
}

impl From<[u8; 16]> for Address {
    fn from(octets: [u8; 16]) -> Self {
        bytemuck::cast(octets)
    }
}

/// What a ledger row is for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RowKey {
    /// The virtual address, or zero.
    pub vip: Address,
    /// Interface index.
    pub interface: u32,
    /// The port at the virtual address, or 0.
    pub port: u16,
    /// VLAN identifier or [`UNTAGGED`]; 0 in rows without a virtual address.
    pub vlan: u16,
    /// The next hop's link-layer address; zero in rows without a virtual address.
    pub hop: [u8; 6],
    /// IANA protocol number; 0 in rows without a virtual address.
    pub protocol: u8,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    /// The traffic class.
    pub class: u8,
    /// Always zero.
    pub reserved: [u8; 7],
}

/// A ledger row, one a CPU. The sum over a hook's rows is all that passed the hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Row {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
    /// Packets on the wire: a super-packet counts as its segments.
    pub segments: u64,
    /// TCP packets with SYN and without ACK.
    pub syn: u64,
    /// TCP packets with RST.
    pub rst: u64,
    /// Packets that are not IP; only in a hook's base row.
    pub not_ip: u64,
    /// Packets whose headers make no sense; only in a hook's base row.
    pub malformed: u64,
    /// Always zero.
    pub reserved: u64,
}

impl Row {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        let (a, b): ([u64; 8], [u64; 8]) = (bytemuck::cast(self), bytemuck::cast(other));
        bytemuck::cast::<[u64; 8], Self>(core::array::from_fn(|n| a[n].wrapping_add(b[n])))
    }
}

/// A virtual address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct VipState {
    /// Ports that have rows of their own, as `protocol << 16 | port` many; compared with [`VIP_PORTS`].
    pub ports: u64,
}

/// Which port of a virtual address has rows of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct VipPort {
    /// The virtual address.
    pub vip: Address,
    /// The port.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
    /// Always zero. No array: the compiler would call a function to fill it, and a call takes stack.
    pub reserved_last: u32,
}

/// What the programs are told: one word, at an address that they know without looking it up.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Changes with every change of virtual addresses or classes: rows found in another epoch are looked up again.
    pub epoch: u32,
    /// Length of IPv4 peer prefixes of local sockets, 0 to 32.
    pub peer_bits_v4: u8,
    /// Length of IPv6 peer prefixes of local sockets, 0 to 128.
    pub peer_bits_v6: u8,
    /// Not 0 while there is a policy: packets are judged.
    pub guarded: u16,
}

/// A class's name in UTF-8, filled with zeroes.
pub type ClassName = [u8; 32];

/// A hook by interface and direction; its value is the row that takes what no other row does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HookKey {
    /// Interface index.
    pub interface: u32,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u32,
}

/// Indexes of the per-CPU array of things that went less than well.
pub mod shortfall {
    /// A new entry in the flow table was made. Not a shortfall itself: with the entries present it tells the evictions.
    pub const FLOWS_MADE: u32 = 0;
    /// A flow entry could not be made.
    pub const FLOW_FAILED: u32 = 1;
    /// A packet went to the base row, because no row was free.
    pub const LEDGER_FULL: u32 = 2;
    /// A packet came through a hook without a base row.
    pub const NO_HOOK: u32 = 3;
    /// A drop could not be recorded by kind.
    pub const DROP_KINDS_FULL: u32 = 4;
    /// Socket storage could not be made.
    pub const SOCKETS_FULL: u32 = 5;
    /// A tapped segment did not reach the agent, or not whole.
    pub const TAP_SEGMENTS_LOST: u32 = 6;
    /// Payload octets of such segments.
    pub const TAP_BYTES_LOST: u32 = 7;
    /// How many there are.
    pub const COUNT: u32 = 8;
}

/// Counters of all sockets of one class, one set a CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TcpRow {
    /// Connections opened.
    pub connects: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Connections that were refused or never answered.
    pub failed_connects: u64,
    /// Connections that ended without FIN.
    pub resets: u64,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// Sum of all round-trip samples in µs.
    pub rtt_sum: u64,
    /// Sum of all connect times in µs.
    pub connect_sum: u64,
    /// Round-trip samples by power of two of µs.
    pub rtt: [u64; BUCKETS],
    /// Connect times by power of two of µs.
    pub connect: [u64; BUCKETS],
}

/// A prefix of peers of local sockets: the address with all bits behind the prefix zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PeerKey {
    /// The prefix's first address.
    pub prefix: Address,
    /// Its length in the family of the address.
    pub bits: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Counters of all sockets to one prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PeerRow {
    /// The last smoothed round-trip time in µs.
    pub rtt: u64,
    /// The smallest smoothed round-trip time in µs, or 0 before the first.
    pub rtt_min: u64,
    /// Connections opened or accepted.
    pub connections: u64,
    /// Connections that were refused or never answered.
    pub failed_connects: u64,
    /// Connections that ended without FIN.
    pub resets: u64,
    /// Retransmitted segments.
    pub retransmits: u64,
}

/// What is kept with a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Socket {
    /// `ktime` in ns at which the connection was begun, 0 for accepted ones.
    pub begun: u64,
    /// `jiffies64` when its peer prefix was last told the round-trip time.
    pub told: u64,
    /// Its traffic class.
    pub class: u32,
    /// The [`Settings::epoch`] in which `class` was found.
    pub epoch: u32,
}

/// A kind of drop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DropKey {
    /// The running kernel's number of the reason.
    pub reason: u32,
    /// Interface index of the device, or 0.
    pub interface: u32,
    /// Inode number of the device's network namespace, or 0.
    pub namespace: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Two clocks read together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Clock {
    /// `jiffies64`.
    pub jiffies: u64,
    /// `CLOCK_BOOTTIME` in ns.
    pub boottime: u64,
}

/// The bucket of a duration in µs: `n` such that it is below 2^n, the last bucket for all longer ones.
#[inline(always)]
pub fn bucket(micros: u64) -> usize {
    let mut bucket = 0;
    let mut rest = if micros > u32::MAX as u64 { u32::MAX } else { micros as u32 };
    // Five halvings instead of a count of leading zeroes, which the BPF target does not have.
    if rest >= 1 << 16 {
        bucket += 16;
        rest >>= 16;
    }
    if rest >= 1 << 8 {
        bucket += 8;
        rest >>= 8;
    }
    if rest >= 1 << 4 {
        bucket += 4;
        rest >>= 4;
    }
    if rest >= 1 << 2 {
        bucket += 2;
        rest >>= 2;
    }
    if rest >= 1 << 1 {
        bucket += 1;
        rest >>= 1;
    }
    bucket += rest as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn mapped_addresses_are_rfc_4291() {
        let address = Address::mapped(u32::from_ne_bytes([10, 10, 50, 10]));
        assert_eq!(address.octets(), Ipv4Addr::new(10, 10, 50, 10).to_ipv6_mapped().octets());
    }

    #[test]
    fn buckets_are_powers_of_two() {
        for micros in [0u64, 1, 2, 3, 4, 1000, 4_194_303] {
            let n = bucket(micros);
            assert!(micros < 1 << n, "{micros} in {n}");
            assert!(n == 0 || micros >= 1 << (n - 1), "{micros} in {n}");
        }
        assert_eq!(bucket(1 << 23), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn sizes_are_the_layout() {
        assert_eq!(size_of::<RowKey>(), 40);
        assert_eq!(size_of::<Row>(), 64);
    }
}
