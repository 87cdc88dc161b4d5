//! Records of tapped TCP segments: what the programs put into the ring for the agent.

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Payload octets in one record; a longer segment makes several.
pub const TAP_CHUNK: usize = 16384;
/// Records of one segment at most: enough for 64 KiB, which is the largest super-packet without BIG TCP.
pub const TAP_CHUNKS: u32 = 4;
/// Octets of the ring.
pub const TAP_RING: u32 = 1 << 20;
/// Segments with payload that one CPU passes on in about a second (2^30 ns); what is more counts as lost.
pub const TAP_SEGMENTS: u32 = 20_000;
/// The same for segments without payload, so that a flood of SYNs takes nothing from real sessions.
pub const TAP_BARE_SEGMENTS: u32 = 5_000;
/// Mark of a row number: the flow's segments go to the agent as well. No ledger row has such a number, so that a packet which
/// is not tapped is never asked.
pub const TAPPED: u32 = 1 << 31;
/// Words of the bitmap of tapped ports.
pub const PORT_WORDS: u32 = 1024;

/// What is told of a segment, or of a piece of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TapHeader {
    /// `CLOCK_BOOTTIME` in ns.
    pub at: u64,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Interface index.
    pub interface: u32,
    /// The segment's sequence number.
    pub sequence: u32,
    /// The segment's acknowledgement number.
    pub acknowledgement: u32,
    /// Payload octets of the whole segment.
    pub length: u32,
    /// Where this record's payload begins in it.
    pub offset: u32,
    /// Payload octets in this record.
    pub captured: u32,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
    /// TCP flags.
    pub flags: u8,
    /// [`crate::INGRESS`] or [`crate::EGRESS`].
    pub direction: u8,
    /// Octets of TCP options.
    pub options_length: u8,
    /// Always zero.
    pub reserved: u8,
    /// TCP options.
    pub options: [u8; 40],
}

/// A record as it is put together, one place a CPU; the ring gets its used part.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TapScratch {
    /// The second of the counts below, in 2^30 ns.
    pub window: u64,
    /// Segments without and with payload passed on in it.
    pub passed: [u32; 2],
    /// What goes to the ring.
    pub header: TapHeader,
    /// Payload.
    pub payload: [u8; TAP_CHUNK],
}

const _: () = assert!(size_of::<TapHeader>() == 112);
