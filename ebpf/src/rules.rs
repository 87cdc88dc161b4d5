//! The contract of enforcement: how a rule set lies in maps, what decides which set is in force, and what is counted.
//!
//! Rules are found by bit vectors: every property of a packet that rules look at (a dimension) leads to a [`Bitmap`] of the
//! rules that accept it, and the rules that match are those in all of the bitmaps. So a packet costs a few lookups, whatever
//! the number of rules. A set lies in a slot of its own, complete before [`Control`] names it.

use bytemuck::{Pod, Zeroable};

/// Slots for rule sets. Slot 0 stays empty: "no policy". Three are enough for the confirmed set, a pending one, and one
/// that is being built.
pub const SLOTS: u32 = 4;
/// Rules in a set.
pub const RULES: u32 = 1_024;
/// Words of a bitmap of rules.
pub const WORDS: usize = RULES as usize / 64;
/// Different bitmaps in a set.
pub const BITMAPS: u32 = 8_192;
/// The bitmap of all rules: the answer of a dimension that no rule looks at.
pub const EVERY: u16 = 0;
/// The bitmap of no rule: nothing else need be looked up.
pub const NONE: u16 = 1;
/// Rules that may act on one packet: those after that many are not asked.
pub const ACTS: u32 = 8;
/// Counters of rules, over all sets that were in force since the maps were pinned.
pub const COUNTERS: u32 = 4_096;
/// Octets of the names of a policy and its rule, as `policy/rule`.
pub const NAME: usize = 136;
/// Budgets by source prefix that are remembered; least recently used ones make room.
pub const BUDGETS: u32 = 65_536;
/// Pairs of workloads whose packets are counted; least recently used ones make room.
pub const PAIRS: u32 = 16_384;
/// The place of the program that answers, behind those that judge, by direction.
pub const ANSWER: u32 = 2;
/// Packets that a CPU answers in a tick.
pub const ANSWERS: u64 = 4;
/// Octets of a packet in an event.
pub const SNAP: usize = 96;

/// Words of a page of an address filter.
pub const FILTER_PAGE: usize = 512;
/// Pages of an address filter: 2^24 bits.
pub const FILTER_PAGES: u32 = 512;
/// Ports in a page of the port table.
pub const PORT_PAGE: usize = 2_048;
/// Pages of the port table: source ports, then destination ports.
pub const PORT_PAGES: u32 = 2 * 65_536 / PORT_PAGE as u32;

/// What [`Head::dimensions`] says that rules look at.
pub mod dimension {
    /// Interface and direction.
    pub const HOOK: u32 = 1;
    /// Source address.
    pub const SOURCE: u32 = 1 << 1;
    /// Destination address.
    pub const DESTINATION: u32 = 1 << 2;
    /// Source port.
    pub const SOURCE_PORT: u32 = 1 << 3;
    /// Destination port.
    pub const DESTINATION_PORT: u32 = 1 << 4;
    /// Protocol and ICMP type.
    pub const PROTOCOL: u32 = 1 << 5;
    /// VLAN identifier.
    pub const VLAN: u32 = 1 << 6;
    /// Traffic class.
    pub const CLASS: u32 = 1 << 7;
    /// TCP flags.
    pub const FLAGS: u32 = 1 << 8;
    /// Who claims a virtual address.
    pub const CLAIM: u32 = 1 << 9;
}

/// The rules that accept some property of a packet, the first rule in the lowest bit of the first word.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Bitmap {
    /// Which words are not zero.
    pub summary: u64,
    /// The rules.
    pub words: [u64; WORDS],
}

impl Bitmap {
    /// A bitmap of these words.
    pub fn new(words: [u64; WORDS]) -> Self {
        let mut summary = 0;
        for (n, word) in words.iter().enumerate() {
            summary |= u64::from(*word != 0) << n;
        }
        Self { summary, words }
    }
}

/// A link-layer address as the key of a claimant; never 0, because all zeroes is nobody's.
#[inline(always)]
pub fn claimant(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([1, 0, a, b, c, d, e, f])
}

/// How the prefixes of one family in one dimension are looked up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Family {
    /// Which of [`lookup`] there are.
    pub lookups: u32,
    /// Bits of the filter minus one.
    pub mask: u32,
    /// The bitmap of an address in no prefix.
    pub outside: u32,
    /// Always zero.
    pub reserved: u32,
}

/// What a [`Family`] has.
pub mod lookup {
    /// A filter: an address whose bit is not set is in no prefix.
    pub const FILTER: u32 = 1;
    /// A table of whole addresses.
    pub const EXACT: u32 = 2;
    /// A trie of prefixes.
    pub const TRIE: u32 = 4;
}

/// The bit of an IPv4 address in a filter: addresses of one /24 share it.
#[inline(always)]
pub fn filter_bit_v4(address: u32, mask: u32) -> u32 {
    (address >> 8) & mask
}

/// The bit of an IPv6 address in a filter, by its first 32 bits in host order: those of one /32 share it.
#[inline(always)]
pub fn filter_bit_v6(first: u32, mask: u32) -> u32 {
    (first.wrapping_mul(0x9e37_79b1) >> 8) & mask
}

/// What an interface of that index leads to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HookRules {
    /// Interface index.
    pub interface: u32,
    /// Bitmaps by [`way`].
    pub bitmaps: [u16; WAYS],
}

/// How packets come to a hook, of which rules know more than the direction. The first two are the directions.
pub mod way {
    /// From the wire, and a claim of a virtual address too: a neighbour advertisement.
    pub const CLAIM_TOO: usize = 2;
    /// From the wire, and nothing but a claim: ARP.
    pub const CLAIM_ONLY: usize = 3;
}

/// How many of [`way`] there are.
pub const WAYS: usize = 4;

/// Places for interfaces that rules name.
pub const HOOK_PLACES: usize = 256;

/// The first thing read of a set, and its small tables. Elements are numbers of bitmaps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Head {
    /// What rules look at, of [`dimension`].
    pub dimensions: u32,
    /// Number of the set, as the agent counts them.
    pub generation: u32,
    /// 1 where packets that cannot be parsed are dropped, 0 where they pass.
    pub drop_unparsable: u32,
    /// Counter of packets that cannot be parsed.
    pub unparsable_counter: u32,
    /// By IPv4 and IPv6, then by source and destination.
    pub families: [[Family; 2]; 2],
    /// Source and destination port, for packets without ports.
    pub portless: [u16; 2],
    /// TCP flags, for packets without.
    pub flagless: u16,
    /// Claims of virtual addresses, by anybody who is not in the table of claimants.
    pub claims: u16,
    /// Interfaces that no rule names, by [`way`].
    pub elsewhere: [u16; WAYS],
    /// The place of an interface is its index times this, the highest 8 of 32 bits.
    pub multiplier: u32,
    /// Tells the sets apart that lie in a slot one after the other: no two within a second are the same.
    pub build: u32,
    /// Interfaces that rules name.
    pub hooks: [HookRules; HOOK_PLACES],
    /// By protocol; for ICMP where the type is not known.
    pub protocols: [u16; 256],
    /// By ICMP type.
    pub icmp: [u16; 256],
    /// By ICMPv6 type.
    pub icmpv6: [u16; 256],
    /// By TCP flags.
    pub flags: [u16; 256],
    /// By traffic class.
    pub classes: [u16; 32],
    /// By VLAN identifier; the last is for untagged packets.
    pub vlans: [u16; 4_100],
}

/// The element of [`Head::vlans`] for untagged packets.
pub const UNTAGGED_PLACE: usize = 4_096;

/// What a rule does.
pub mod action {
    /// The packet passes; no rule after this one is asked.
    pub const ALLOW: u8 = 0;
    /// The packet is dropped.
    pub const DENY: u8 = 1;
    /// The packet is dropped if it exceeds a budget; otherwise the next rules are asked.
    pub const RATE: u8 = 2;
    /// The packet gets a DSCP; the next rules are asked.
    pub const MARK: u8 = 3;
    /// The packet gets a time of departure; the next rules are asked.
    pub const PACE: u8 = 4;
}

/// What a budget counts.
pub mod unit {
    /// Packets on the wire.
    pub const PACKETS: u8 = 0;
    /// Octets.
    pub const BYTES: u8 = 1;
    /// TCP packets with SYN and without ACK; other packets cost nothing.
    pub const CONNECTIONS: u8 = 2;
}

/// Bits of [`Rule::flags`].
pub mod rule_flag {
    /// Only count what it would do.
    pub const AUDIT: u8 = 1;
    /// The budget is one for each source prefix, not one for the rule.
    pub const PER_SOURCE: u8 = 2;
    /// The budget is one for each destination address (with [`PER_SOURCE`], for each pair).
    pub const PER_DESTINATION: u8 = 4;
    /// The failsafe does not save packets from this rule: it names who may send them.
    pub const NO_FAILSAFE: u8 = 8;
    /// Packets are counted by pair of addresses too.
    pub const PAIRS: u8 = 16;
    /// What is dropped on ingress is answered: TCP by a reset, anything else by "port unreachable".
    pub const REJECT: u8 = 32;
}

/// A rule's action.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// One of [`action`].
    pub action: u8,
    /// Of [`rule_flag`].
    pub flags: u8,
    /// One of [`unit`].
    pub unit: u8,
    /// The six bits of a DSCP.
    pub dscp: u8,
    /// Its counters.
    pub counter: u32,
    /// Length of source prefixes of IPv4 and IPv6, for [`rule_flag::PER_SOURCE`].
    pub prefix_bits: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 6],
    /// Time that one unit takes, in 2^-16 ns.
    pub cost: u64,
    /// Time by which units may come early, in ns: the burst. For [`action::PACE`] the longest wait.
    pub burst: u64,
}

/// What a counter counts: `policy/rule` in UTF-8, filled with zeroes, then its mode: `a`udit or `e`nforce in the last octet.
pub type RuleName = [u8; NAME];

/// What was counted for a rule, one a CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleCount {
    /// Packets that it let pass, marked or paced, or would have.
    pub passed: u64,
    /// Their octets.
    pub passed_bytes: u64,
    /// Packets that it dropped, or would have.
    pub dropped: u64,
    /// Their octets.
    pub dropped_bytes: u64,
    /// Packets that it would drop and the failsafe saved.
    pub saved: u64,
    /// `jiffies64` at the last packet.
    pub last: u64,
    /// `jiffies64` at the last event.
    pub told: u64,
    /// Events that found no room.
    pub untold: u64,
}

impl RuleCount {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed.wrapping_add(other.passed),
            passed_bytes: self.passed_bytes.wrapping_add(other.passed_bytes),
            dropped: self.dropped.wrapping_add(other.dropped),
            dropped_bytes: self.dropped_bytes.wrapping_add(other.dropped_bytes),
            saved: self.saved.wrapping_add(other.saved),
            last: self.last.max(other.last),
            told: self.told.max(other.told),
            untold: self.untold.wrapping_add(other.untold),
        }
    }
}

/// Whose budget it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BudgetKey {
    /// First address of the source prefix, or zero.
    pub source: [u64; 2],
    /// The destination, or zero.
    pub destination: [u64; 2],
    /// The rule's counter.
    pub counter: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Where a rule dropped packets: at which hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleDropKey {
    /// Interface index.
    pub interface: u32,
    /// The rule's counter; the highest bit on egress.
    pub counter: u32,
}

/// Hooks and rules between which drops are told apart.
pub const RULE_PLACES: u32 = 16_384;

/// Two workloads, by address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PairKey {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// The rule's counter.
    pub counter: u32,
    /// Always zero.
    pub reserved: u32,
}

/// What passed between two workloads against a rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PairCount {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// A packet that a rule dropped, or would have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// `jiffies64`.
    pub time: u64,
    /// The rule's counter.
    pub counter: u32,
    /// Interface index.
    pub interface: u32,
    /// The packet's length in octets.
    pub length: u32,
    /// How many of `octets` are the packet's.
    pub captured: u16,
    /// 1 on egress.
    pub direction: u8,
    /// Bits of [`event_flag`].
    pub flags: u8,
    /// The packet's first octets.
    pub octets: [u8; SNAP],
}

/// Bits of [`Event::flags`].
pub mod event_flag {
    /// Nothing was done: the rule is in audit mode.
    pub const AUDIT: u8 = 1;
    /// The failsafe saved the packet.
    pub const SAVED: u8 = 2;
    /// Seen by XDP.
    pub const XDP: u8 = 4;
}

/// Words of the one element of the control map. Each changes at once.
pub mod control {
    /// A [`super::Control`].
    pub const WORD: u32 = 0;
    /// `jiffies64` at which the agent's heartbeat is stale, or 0 for never.
    pub const HEARTBEAT: u32 = 1;
    /// The word that the kernel found expired, or 0.
    pub const EXPIRED: u32 = 2;
    /// How many there are.
    pub const COUNT: u32 = 8;
}

/// Which set is in force. A word, written by the agent and only read by the kernel:
/// bits 0-7 the active slot, 8-15 the confirmed slot, 16 on, 17 open when the heartbeat is stale, 24-63 the low 40 bits of
/// the `jiffies64` from which on the confirmed slot is in force instead of the active one, or 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(pub u64);

impl Control {
    const ON: u64 = 1 << 16;
    const OPEN: u64 = 1 << 17;
    const TIME: u64 = (1 << 40) - 1;

    /// `deadline` in jiffies.
    pub fn new(active: u32, confirmed: u32, deadline: Option<u64>, open_when_stale: bool) -> Self {
        let on = active != 0 || confirmed != 0;
        let deadline = deadline.map_or(0, |deadline| (deadline & Self::TIME).max(1));
        Self(
            u64::from(active & 0xff)
                | u64::from(confirmed & 0xff) << 8
                | if on { Self::ON } else { 0 }
                | if open_when_stale { Self::OPEN } else { 0 }
                | deadline << 24,
        )
    }

    /// Whether there is any set to ask.
    #[inline(always)]
    pub fn is_on(self) -> bool {
        self.0 & Self::ON != 0
    }

    /// Whether everything passes once the heartbeat is stale.
    pub fn opens(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    /// The slot that was made active last.
    #[inline(always)]
    pub fn active(self) -> u32 {
        (self.0 & 0xff) as u32
    }

    /// The slot that was confirmed last.
    #[inline(always)]
    pub fn confirmed(self) -> u32 {
        (self.0 >> 8 & 0xff) as u32
    }

    /// Low 40 bits of the jiffies of the deadline, 0 where there is none.
    #[inline(always)]
    pub fn deadline(self) -> u64 {
        self.0 >> 24
    }

    /// Whether the active set was to be confirmed until now and was not.
    #[inline(always)]
    pub fn is_expired(self, jiffies: u64) -> bool {
        self.deadline() != 0 && jiffies & Self::TIME >= self.deadline()
    }

    /// The slot in force. `heartbeat` as in [`control::HEARTBEAT`].
    #[inline(always)]
    pub fn slot(self, jiffies: u64, heartbeat: u64) -> u32 {
        if self.0 & Self::OPEN != 0 && heartbeat != 0 && jiffies >= heartbeat {
            return 0;
        }
        if self.is_expired(jiffies) { self.confirmed() } else { self.active() }
    }
}

/// Words of the failsafe's port table: four bits a port, TCP, then UDP.
pub const FAILSAFE_WORDS: u32 = 2 * 65_536 / 16;

/// What the failsafe saves, as bits of a port.
pub mod failsafe {
    /// Packets to this port of the node.
    pub const IN: u64 = 1;
    /// Packets from the node to this port.
    pub const OUT: u64 = 2;
    /// Answers from this port to the node, from anybody: TCP that does not open a connection, or UDP.
    pub const IN_ANSWER: u64 = 4;
    /// Answers of the node from this port.
    pub const OUT_ANSWER: u64 = 8;

    /// Word and shift of a port in the table; `None` where the protocol has no ports there.
    #[inline(always)]
    pub fn place(protocol: u8, port: u16) -> Option<(u32, u32)> {
        let base = match protocol {
            6 => 0,
            17 => 65_536,
            _ => return None,
        };
        let place = base + port as u32;
        Some((place >> 4, (place & 15) * 4))
    }
}

/// Words of the failsafe's table of ICMP types: a bit a type, ICMP, then ICMPv6; the ninth is not zero once the table was
/// filled.
pub const FAILSAFE_ICMP_WORDS: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_goes_back_by_itself_at_the_deadline() {
        let control = Control::new(2, 1, Some(1000), false);
        assert!(control.is_on());
        assert_eq!((control.slot(999, 0), control.slot(1000, 0), control.slot(1 << 39, 0)), (2, 1, 1));
        assert_eq!(Control::new(2, 2, None, false).slot(u64::MAX, 0), 2);
        assert!(!Control::new(0, 0, None, true).is_on());
        let wrapped = Control::new(3, 1, Some((5 << 40) + 7), false);
        assert_eq!((wrapped.slot((5 << 40) + 6, 0), wrapped.slot((5 << 40) + 7, 0)), (3, 1));
    }

    #[test]
    fn a_stale_heartbeat_opens_only_where_it_is_to() {
        let (open, keep) = (Control::new(2, 2, None, true), Control::new(2, 2, None, false));
        assert_eq!((open.slot(50, 100), open.slot(100, 100), keep.slot(100, 100)), (2, 0, 2));
        assert_eq!(open.slot(100, 0), 2, "no heartbeat is asked for");
    }

    #[test]
    fn failsafe_ports_have_places_of_their_own() {
        assert_eq!(failsafe::place(6, 50000), Some((3125, 0)));
        assert_eq!(failsafe::place(17, 65535), Some((FAILSAFE_WORDS - 1, 60)));
        assert_eq!(failsafe::place(1, 8), None);
    }

    #[test]
    fn the_summary_tells_which_words_to_read() {
        let mut words = [0; WORDS];
        (words[0], words[15]) = (1, 1 << 63);
        assert_eq!(Bitmap::new(words).summary, 1 | 1 << 15);
    }
}
