//! Which rules match: a bitmap for every property of the packet, and what is in all of them.

use aya_ebpf::btf_maps::lpm_trie::Key;
use weir_ebpf::parse::piece;
use weir_ebpf::rules::*;
use weir_ebpf::{Address, EGRESS, UNTAGGED};

use super::act::{Frame, act};
use super::{Subject, Verdict};
use crate::count;
use crate::maps::*;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// The low half of an IPv4-mapped address begins with this, as it stands in memory.
#[cfg(target_endian = "little")]
const MAPPED: u64 = 0xffff_0000;

/// Source or destination.
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;

/// How far the search for rules has come. It lies in a map, as the packet does, so that the verifier sees one state where there
/// are many ways to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Search {
    /// Numbers of the bitmaps of each dimension.
    bitmaps: [u32; DIMENSIONS],
    /// The word that is looked at.
    at: u32,
    /// Words that are still to be looked at.
    summary: u64,
    /// Rules of the word that are still to be asked.
    word: u64,
}

const DIMENSIONS: usize = 9;

/// Lets the rules that match act, in order, until one decides. `None` where none does.
#[inline(always)]
pub(super) fn rules<F: Frame>(frame: &F, slot: u32, head: &Head, subject: &mut Subject) -> Option<Verdict> {
    if !bitmaps(slot, head, subject) {
        return None;
    }
    let subject = forget(subject);
    let bitmaps = GUARD_BITMAPS.get(slot)?;
    let [hook, source, destination, from, to, protocol, vlan, class, flags] = subject.search.bitmaps;
    let hook = bitmaps.get(hook)?;
    // All rules and those of the hook are those of the hook: a dimension that no rule looks at costs no lookup.
    let of = |number: u32| if number == EVERY as u32 { Some(hook) } else { bitmaps.get(number) };
    let source = of(source)?;
    let destination = of(destination)?;
    let from = of(from)?;
    let to = of(to)?;
    let protocol = of(protocol)?;
    let vlan = of(vlan)?;
    let class = of(class)?;
    let flags = of(flags)?;
    subject.search.summary = hook.summary
        & source.summary
        & destination.summary
        & from.summary
        & to.summary
        & protocol.summary
        & vlan.summary
        & class.summary
        & flags.summary;
    (subject.search.word, subject.search.at) = (0, 0);
    for _ in 0..ACTS {
        let subject = forget(subject);
        let Search { mut summary, mut word, mut at, .. } = subject.search;
        let mut looked = 0;
        while word == 0 && looked < WORDS {
            if summary == 0 {
                return None;
            }
            at = lowest(summary) & (WORDS as u32 - 1);
            summary &= summary - 1;
            let n = at as usize;
            word = hook.words[n]
                & source.words[n]
                & destination.words[n]
                & from.words[n]
                & to.words[n]
                & protocol.words[n]
                & vlan.words[n]
                & class.words[n]
                & flags.words[n];
            looked += 1;
        }
        if word == 0 {
            return None;
        }
        subject.search.summary = summary;
        subject.search.word = word & (word - 1);
        subject.search.at = at;
        let rule = at * 64 + lowest(word);
        if let Some(verdict) = act(frame, subject, slot, rule) {
            return Some(verdict);
        }
    }
    None
}

/// What was stored behind the pointer must be loaded again. The instruction does nothing.
#[inline(always)]
pub(super) fn forget(subject: &mut Subject) -> &mut Subject {
    let mut pointer: *mut Subject = subject;
    // SAFETY: the pointer comes out as it went in.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) pointer);
        &mut *pointer
    }
}

/// Finds the bitmap of each dimension that rules look at; the bitmap of all rules stands for the others. `false` once no rule can
/// match: of most packets their addresses say so.
#[inline(always)]
fn bitmaps(slot: u32, head: &Head, subject: &mut Subject) -> bool {
    let looks = |dimension: u32| head.dimensions & dimension != 0;
    let Subject { key, packet, piece, claimant, search, .. } = subject;
    let known = *piece < piece::LATER;
    let numbers = &mut search.bitmaps;
    let (from, to) = (key.source_port(), key.destination_port());
    let mut claims = false;
    let mut way = key.direction() as usize;
    if *claimant != 0 {
        claims = looks(dimension::CLAIM) && key.direction() != EGRESS;
        way = match (claims, key.protocol()) {
            (false, ICMPV6) => way,
            // ARP is for rules about claims alone.
            (false, _) => return false,
            (true, ICMPV6) => way::CLAIM_TOO,
            (true, _) => way::CLAIM_ONLY,
        };
    }
    numbers[0] = hook(head, key.interface(), way);
    if numbers[0] == NONE as u32 {
        return false;
    }
    numbers[1] = if looks(dimension::SOURCE) { address(head, slot, SOURCE, key.source) } else { 0 };
    if numbers[1] == NONE as u32 {
        return false;
    }
    numbers[2] =
        if looks(dimension::DESTINATION) { address(head, slot, DESTINATION, key.destination) } else { 0 };
    if numbers[2] == NONE as u32 {
        return false;
    }
    numbers[3] =
        if looks(dimension::SOURCE_PORT) { port(head, slot, SOURCE, known, key.protocol(), from) } else { 0 };
    numbers[4] = if looks(dimension::DESTINATION_PORT) {
        port(head, slot, DESTINATION, known, key.protocol(), to)
    } else {
        0
    };
    numbers[5] = if looks(dimension::PROTOCOL) { protocol(head, known, key.protocol(), from) } else { 0 };
    numbers[6] = if looks(dimension::VLAN) {
        let vlan = key.vlan();
        head.vlans[if vlan == UNTAGGED { UNTAGGED_PLACE } else { vlan as usize & 0x0fff }] as u32
    } else {
        0
    };
    numbers[7] = if looks(dimension::CLASS) {
        let class = count::class_of(key.source, key.destination, key.protocol(), from, to);
        head.classes[class as usize & 31] as u32
    } else {
        0
    };
    numbers[8] = if claims {
        claim(head, slot, *claimant)
    } else if looks(dimension::FLAGS) {
        let known = known && key.protocol() == TCP;
        (if known { head.flags[packet.flags as usize] } else { head.flagless }) as u32
    } else {
        0
    };
    true
}

/// The number of the lowest set bit, without a branch: the target has no such instruction.
#[inline(always)]
fn lowest(word: u64) -> u32 {
    let below = (word & word.wrapping_neg()).wrapping_sub(1);
    let pairs = below - (below >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let eights = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (eights.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32 & 63
}

#[inline(always)]
fn hook(head: &Head, interface: u32, way: usize) -> u32 {
    let place = &head.hooks[(interface.wrapping_mul(head.multiplier) >> 24) as usize & (HOOK_PLACES - 1)];
    let bitmaps = if place.interface == interface { &place.bitmaps } else { &head.elsewhere };
    bitmaps[way & (WAYS - 1)] as u32
}

/// A claim has no TCP flags: its bitmaps say that too.
#[inline(always)]
fn claim(head: &Head, slot: u32, claimant: u64) -> u32 {
    if let Some(entries) = GUARD_CLAIMANTS.get(slot)
        // SAFETY: the value is copied at once.
        && let Some(bitmap) = unsafe { entries.get(&claimant) }
    {
        return *bitmap;
    }
    head.claims as u32
}

#[inline(always)]
fn protocol(head: &Head, known: bool, protocol: u8, kind: u16) -> u32 {
    let table = match protocol {
        ICMP if known => &head.icmp,
        ICMPV6 if known => &head.icmpv6,
        _ => return head.protocols[protocol as usize] as u32,
    };
    table[kind as usize & 0xff] as u32
}

#[inline(always)]
fn port(head: &Head, slot: u32, side: u32, known: bool, protocol: u8, port: u16) -> u32 {
    let portless = head.portless[side as usize] as u32;
    if !known || !matches!(protocol, TCP | UDP | SCTP) {
        return portless;
    }
    let place = side << 16 | port as u32;
    let page = GUARD_PORTS.get_value(slot, &(place / PORT_PAGE as u32));
    page.map_or(portless, |page| page[place as usize & (PORT_PAGE - 1)] as u32)
}

#[inline(always)]
fn address(head: &Head, slot: u32, side: u32, address: Address) -> u32 {
    let [high, low] = address.0;
    if high == 0 && low & 0xffff_ffff == MAPPED {
        return address_v4(&head.families[0][side as usize], slot * 2 + side, (low >> 32) as u32);
    }
    address_v6(&head.families[1][side as usize], slot * 2 + side, address)
}

/// `in_memory` as it stands in the packet.
#[inline(always)]
fn address_v4(family: &Family, table: u32, in_memory: u32) -> u32 {
    let lookups = family.lookups;
    if lookups & lookup::FILTER != 0 {
        let bit = filter_bit_v4(u32::from_be(in_memory), family.mask);
        if GUARD_FILTERS_V4.get_value(table, &page(bit)).is_none_or(|words| !is_set(words, bit)) {
            return family.outside;
        }
    }
    if lookups & lookup::EXACT != 0
        && let Some(entries) = GUARD_EXACT_V4.get(table)
        // SAFETY: the value is copied at once.
        && let Some(bitmap) = unsafe { entries.get(&in_memory) }
    {
        return *bitmap;
    }
    if lookups & lookup::TRIE != 0
        && let Some(entries) = GUARD_TRIES_V4.get(table)
        && let Some(bitmap) = entries.get(&Key::new(32, in_memory.to_ne_bytes()))
    {
        return *bitmap;
    }
    family.outside
}

#[inline(always)]
fn address_v6(family: &Family, table: u32, address: Address) -> u32 {
    let lookups = family.lookups;
    if lookups & lookup::FILTER != 0 {
        let bit = filter_bit_v6(u32::from_be(address.0[0] as u32), family.mask);
        if GUARD_FILTERS_V6.get_value(table, &page(bit)).is_none_or(|words| !is_set(words, bit)) {
            return family.outside;
        }
    }
    if lookups & lookup::EXACT != 0
        && let Some(entries) = GUARD_EXACT_V6.get(table)
        // SAFETY: the value is copied at once.
        && let Some(bitmap) = unsafe { entries.get(&address) }
    {
        return *bitmap;
    }
    if lookups & lookup::TRIE != 0
        && let Some(entries) = GUARD_TRIES_V6.get(table)
        // SAFETY: two words are sixteen octets, and every bit pattern is valid.
        && let Some(bitmap) = entries.get(&Key::new(128, unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(address.0) }))
    {
        return *bitmap;
    }
    family.outside
}

/// The page of a filter's bit.
#[inline(always)]
fn page(bit: u32) -> u32 {
    bit / (64 * FILTER_PAGE as u32)
}

#[inline(always)]
fn is_set(words: &[u64; FILTER_PAGE], bit: u32) -> bool {
    words[(bit >> 6) as usize & (FILTER_PAGE - 1)] >> (bit & 63) & 1 != 0
}
