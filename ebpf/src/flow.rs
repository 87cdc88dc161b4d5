//! Flows: their keys, what is counted of them, and the slots of the front cache.

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// One direction of one conversation at one hook: seven words, so that it is built, hashed and compared in registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, destination port, interface index, from the lowest bit.
    ends: u64,
    /// The six octets of the next hop's address as they stand in memory, VLAN.
    link: u64,
    /// Protocol, direction.
    kind: u64,
}

/// The small fields of a [`FlowKey`].
#[derive(Clone, Copy, Debug)]
pub struct FlowFields {
    /// Source port, host order; the type for ICMP; 0 where there is none.
    pub source_port: u16,
    /// Destination port, host order; the code for ICMP; 0 where there is none.
    pub destination_port: u16,
    /// Interface index.
    pub interface: u32,
    /// Link-layer address at the other end (source on ingress, destination on egress): six octets as they stand in memory.
    pub hop: u64,
    /// Outermost VLAN identifier or [`UNTAGGED`].
    pub vlan: u16,
    /// IANA protocol number after any IPv6 extension headers.
    pub protocol: u8,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
}

impl FlowKey {
    /// A key of its parts.
    #[inline(always)]
    pub fn new(source: Address, destination: Address, fields: &FlowFields) -> Self {
        Self {
            source,
            destination,
            ends: fields.source_port as u64
                | (fields.destination_port as u64) << 16
                | (fields.interface as u64) << 32,
            link: fields.hop & 0xffff_ffff_ffff | (fields.vlan as u64) << 48,
            kind: fields.protocol as u64 | (fields.direction as u64) << 8,
        }
    }

    /// A well mixed hash for the choice of a front slot.
    #[inline(always)]
    pub fn mix(&self) -> u64 {
        let a = (self.source.0[1] ^ self.destination.0[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let b = (self.destination.0[1] ^ self.source.0[0] ^ self.ends.rotate_left(17))
            .wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        let mixed = a ^ b.rotate_left(29) ^ self.kind;
        (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32
    }

    /// Whether all is the same but the link layer and the addresses that do not matter.
    #[inline(always)]
    pub fn is_like(&self, other: &Self, source_matters: bool, destination_matters: bool) -> bool {
        self.ends == other.ends
            && self.kind == other.kind
            && (!source_matters || self.source == other.source)
            && (!destination_matters || self.destination == other.destination)
    }

    /// Source port; see [`FlowFields::source_port`].
    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        self.ends as u16
    }

    /// Destination port; see [`FlowFields::destination_port`].
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        (self.ends >> 16) as u16
    }

    /// Interface index.
    #[inline(always)]
    pub fn interface(&self) -> u32 {
        (self.ends >> 32) as u32
    }

    /// Link-layer address at the other end.
    #[inline(always)]
    pub fn hop(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.link.to_ne_bytes();
        [a, b, c, d, e, f]
    }

    /// Outermost VLAN identifier or [`UNTAGGED`].
    #[inline(always)]
    pub fn vlan(&self) -> u16 {
        (self.link >> 48) as u16
    }

    /// IANA protocol number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.kind as u8
    }

    /// [`INGRESS`] or [`EGRESS`].
    #[inline(always)]
    pub fn direction(&self) -> u8 {
        (self.kind >> 8) as u8
    }
}

impl core::hash::Hash for FlowKey {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.mix());
    }
}

/// What was counted for a flow, in the table behind the front cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowCount {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
    /// `jiffies64` at the first packet.
    pub first: u64,
    /// `jiffies64` at the last packet.
    pub last: u64,
    /// TCP flags seen.
    pub flags: u32,
    /// The ledger row to which the flow's packets belong.
    pub row: u32,
    /// The [`Settings::epoch`] in which `row` was found.
    pub epoch: u32,
    /// Always zero.
    pub reserved: u32,
}

/// A slot of the front cache: the flow that uses it now, and what it adds to the table behind. All that a packet of an
/// IPv4 flow reads and writes lies in the first of two cache lines; IPv6 addresses go on in the second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Slot {
    source_low: u64,
    destination_low: u64,
    ends: u64,
    link: u64,
    /// That of the key, and [`WIDE`].
    kind: u16,
    /// TCP flags seen.
    pub flags: u8,
    /// Packets of other flows since the last of this flow.
    pub misses: u8,
    /// Packets that are not in the table behind yet.
    pub packets: u32,
    /// Octets that are not in the table behind yet.
    pub bytes: u64,
    /// `jiffies64` at the last packet.
    pub last: u64,
    /// The ledger row to which the flow's packets belong.
    pub row: u32,
    /// The [`Settings::epoch`] in which `row` was found.
    pub epoch: u32,
    source_high: u64,
    destination_high: u64,
    /// `jiffies64` at the first packet that is not in the table behind.
    pub first: u64,
    reserved: [u64; 5],
}

/// In [`Slot::kind`]: the addresses go on in the second line. Without it they are zero there.
const WIDE: u16 = 1 << 15;

const _: () = assert!(size_of::<Slot>() == 128 && core::mem::offset_of!(Slot, source_high) == 64);

impl Slot {
    /// Gives the slot to a flow, with nothing counted yet.
    #[inline(always)]
    pub fn give(&mut self, key: &FlowKey, now: u64, row: u32, epoch: u32) {
        self.source_low = key.source.0[1];
        self.destination_low = key.destination.0[1];
        self.ends = key.ends;
        self.link = key.link;
        self.kind = slot_kind(key);
        self.source_high = key.source.0[0];
        self.destination_high = key.destination.0[0];
        (self.first, self.row, self.epoch) = (now, row, epoch);
        (self.flags, self.misses, self.packets, self.bytes) = (0, 0, 0, 0);
    }

    /// Counts a packet of its flow.
    #[inline(always)]
    pub fn add(&mut self, bytes: u64, flags: u8, now: u64) {
        self.misses = 0;
        self.packets += 1;
        self.bytes += bytes;
        self.last = now;
        self.flags |= flags;
    }

    /// Whether it belongs to this flow.
    #[inline(always)]
    pub fn holds(&self, key: &FlowKey) -> bool {
        let kind = slot_kind(key);
        self.source_low == key.source.0[1]
            && self.destination_low == key.destination.0[1]
            && self.ends == key.ends
            && self.link == key.link
            && self.kind == kind
            && (kind & WIDE == 0
                || self.source_high == key.source.0[0] && self.destination_high == key.destination.0[0])
    }

    /// Whose slot it is.
    #[inline(always)]
    pub fn key(&self) -> FlowKey {
        FlowKey {
            source: Address([self.source_high, self.source_low]),
            destination: Address([self.destination_high, self.destination_low]),
            ends: self.ends,
            link: self.link,
            kind: (self.kind & !WIDE) as u64,
        }
    }

    /// What is not in the table behind yet.
    #[inline(always)]
    pub fn count(&self) -> FlowCount {
        FlowCount {
            packets: self.packets as u64,
            bytes: self.bytes,
            first: self.first,
            last: self.last,
            flags: self.flags as u32,
            row: self.row,
            epoch: self.epoch,
            reserved: 0,
        }
    }
}

#[inline(always)]
fn slot_kind(key: &FlowKey) -> u16 {
    let wide = key.source.0[0] | key.destination.0[0] != 0;
    key.kind as u16 | if wide { WIDE } else { 0 }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn sizes_are_the_layout() {
        assert_eq!(size_of::<FlowKey>(), 56);
    }

    proptest::proptest! {
        #[test]
        fn a_slot_holds_its_own_flow_and_no_other(
            high in 0u64..2, low in 0u64..2, ends in 0u64..2, link in 0u64..2, kind in 0u64..2,
            other in proptest::array::uniform7(0u64..2),
        ) {
            let key = |source: [u64; 2], destination, ends, link, kind| FlowKey {
                source: Address(source), destination: Address(destination), ends, link, kind
            };
            let mine = key([high, low], [0, 1], ends, link, kind);
            let [a, b, c, d, e, f, g] = other;
            let theirs = key([a, b], [c, d], e, f, g);
            let mut slot = Slot::zeroed();
            slot.give(&mine, 7, 3, 1);
            slot.add(100, 2, 8);
            proptest::prop_assert_eq!(slot.key(), mine);
            proptest::prop_assert!(slot.holds(&mine));
            proptest::prop_assert_eq!(slot.holds(&theirs), mine == theirs);
            let count = slot.count();
            proptest::prop_assert_eq!((count.packets, count.bytes, count.first, count.last), (1, 100, 7, 8));
        }
    }
}
