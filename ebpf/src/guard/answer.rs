//! Answers to what a rule rejects, so that nobody waits for them in vain: a TCP reset (RFC 9293 section 3.5.2), or "port
//! unreachable" of ICMP (RFC 792) or ICMPv6 (RFC 4443 section 3.1). The packet itself becomes the answer, and goes back to the
//! next hop that it came from.

use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_jiffies64, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use weir_ebpf::parse::{ACK, RST, SYN};
use weir_ebpf::rules::ANSWERS;

use super::TCX_DROP;
use crate::maps::ANSWERED;

/// `PACKET_HOST` of linux/if_packet.h: sent to this node alone.
const TO_US: u32 = 0;
const ETHERTYPE_IPV4: u32 = 0x0800_u16.to_be() as u32;
const ETHERTYPE_IPV6: u32 = 0x86dd_u16.to_be() as u32;
/// Where the IP header begins; a tag that the device took off is none of the frame.
const IP: u32 = 14;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const FIN: u8 = 1;
const HOPS: u8 = 64;

/// Answers, or drops the packet where there is none to give.
#[inline(always)]
pub fn answer(context: &TcContext) -> i32 {
    // SAFETY: the kernel hands over a valid context; the verifier checks every field access.
    let (interface, kind, protocol) = unsafe {
        let skb = &*context.skb.skb;
        (skb.ifindex, skb.pkt_type, skb.protocol)
    };
    if kind != TO_US || !within_budget() {
        return TCX_DROP;
    }
    let answered = match protocol {
        ETHERTYPE_IPV4 => v4(context),
        ETHERTYPE_IPV6 => v6(context),
        _ => None,
    };
    match answered {
        // SAFETY: no pointer.
        Some(()) => unsafe { bpf_redirect(interface, 0) as i32 },
        None => TCX_DROP,
    }
}

/// A flood of strangers must not make this node send one.
#[inline(always)]
fn within_budget() -> bool {
    let Some(budget) = ANSWERED.get_ptr_mut(0) else { return false };
    // SAFETY: the element is this CPU's own; the helper has no argument.
    let (budget, tick) = unsafe { (&mut *budget, bpf_jiffies64()) };
    if budget.tick != tick {
        (budget.tick, budget.packets) = (tick, 0);
    }
    budget.packets += 1;
    budget.packets <= ANSWERS
}

/// Packets with options, fragments and errors get no answer.
#[inline(never)]
fn v4(context: &TcContext) -> Option<()> {
    let ip: [u8; 20] = load(context, IP)?;
    let addresses: [u8; 8] = load(context, IP + 12)?;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    if ip[0] != 0x45 || fragment || ip[12] >= 224 || ip[9] == ICMP {
        return None;
    }
    let (protocol, length) = if ip[9] == TCP {
        let length = (u16::from_be_bytes([ip[2], ip[3]]) as u32).wrapping_sub(20);
        let segment = reset(&load(context, IP + 20)?, length, sum(&addresses) + word(TCP as u16 + 20))?;
        resize(context, IP + 40)?;
        store(context, IP + 20, &segment)?;
        (TCP, 40)
    } else {
        let begin: [u8; 8] = load(context, IP + 20)?;
        let mut error = [3, 3, 0, 0, 0, 0, 0, 0];
        [error[2], error[3]] = fold(sum(&error) + sum(&ip) + sum(&begin));
        resize(context, IP + 56)?;
        store(context, IP + 48, &begin)?;
        store(context, IP + 28, &ip)?;
        store(context, IP + 20, &error)?;
        (ICMP, 56)
    };
    let [a, b, c, d, e, f, g, h] = addresses;
    let mut back = [0x45, 0, 0, length, 0, 0, 0x40, 0, HOPS, protocol, 0, 0, e, f, g, h, a, b, c, d];
    [back[10], back[11]] = fold(sum(&back));
    store(context, IP, &back)?;
    turn(context)
}

/// Packets with extension headers, and errors, get no answer.
#[inline(never)]
fn v6(context: &TcContext) -> Option<()> {
    let head: [u8; 8] = load(context, IP)?;
    let (source, destination): ([u8; 16], [u8; 16]) = (load(context, IP + 8)?, load(context, IP + 24)?);
    let other = matches!(head[6], 0 | 43 | 44 | 50 | 51 | 60 | ICMPV6);
    if head[0] >> 4 != 6 || other || source[0] == 0xff {
        return None;
    }
    let addresses = sum(&source) + sum(&destination);
    let (protocol, size) = if head[6] == TCP {
        let length = u16::from_be_bytes([head[4], head[5]]) as u32;
        let segment = reset(&load(context, IP + 40)?, length, addresses + word(TCP as u16 + 20))?;
        resize(context, IP + 60)?;
        store(context, IP + 40, &segment)?;
        (TCP, 20)
    } else {
        unreachable_v6(context, addresses + word(ICMPV6 as u16 + 56))?;
        (ICMPV6, 56)
    };
    store(context, IP, &[0x60, 0, 0, 0, 0, size, protocol, HOPS])?;
    store(context, IP + 8, &destination)?;
    store(context, IP + 24, &source)?;
    turn(context)
}

/// The error behind the IP header that is still to be written.
#[inline(never)]
fn unreachable_v6(context: &TcContext, pseudo: u64) -> Option<()> {
    let (ip, begin): ([u8; 40], [u8; 8]) = (load(context, IP)?, load(context, IP + 40)?);
    let mut error = [1, 4, 0, 0, 0, 0, 0, 0];
    [error[2], error[3]] = fold(pseudo + sum(&error) + sum(&ip) + sum(&begin));
    resize(context, IP + 96)?;
    store(context, IP + 88, &begin)?;
    store(context, IP + 48, &ip)?;
    store(context, IP + 40, &error)
}

/// The segment that ends what `tcp` wants to begin or go on with; `length` is that of header and payload. None for a reset.
#[inline(always)]
fn reset(tcp: &[u8; 20], length: u32, pseudo: u64) -> Option<[u8; 20]> {
    let (flags, header) = (tcp[13], (tcp[12] >> 4) as u32 * 4);
    if flags & RST != 0 || header < 20 || length < header || length > 0xffff {
        return None;
    }
    let acknowledged = [tcp[8], tcp[9], tcp[10], tcp[11]];
    let (sequence, acknowledgement, flags) = if flags & ACK != 0 {
        (acknowledged, [0; 4], RST)
    } else {
        let syn_and_fin = (flags & SYN != 0) as u32 + (flags & FIN != 0) as u32;
        let next = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
            .wrapping_add(length - header)
            .wrapping_add(syn_and_fin);
        ([0; 4], next.to_be_bytes(), RST | ACK)
    };
    let ([a, b, c, d], [e, f, g, h]) = (sequence, acknowledgement);
    let mut segment = [tcp[2], tcp[3], tcp[0], tcp[1], a, b, c, d, e, f, g, h, 0x50, flags, 0, 0, 0, 0, 0, 0];
    [segment[16], segment[17]] = fold(pseudo + sum(&segment));
    Some(segment)
}

/// Sum of 16-bit words as they stand in memory (RFC 1071); the helper keeps octets in memory, where there is room for them.
#[inline(always)]
fn sum<const N: usize>(octets: &[u8; N]) -> u64 {
    // SAFETY: the buffer is as long as told, a multiple of four, and only read.
    let sum =
        unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, octets.as_ptr().cast_mut().cast(), N as u32, 0) };
    sum as u64 & 0xffff_ffff
}

/// A word of a pseudo header.
#[inline(always)]
fn word(value: u16) -> u64 {
    value.to_be() as u64
}

#[inline(always)]
fn fold(sum: u64) -> [u8; 2] {
    let mut sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_ne_bytes()
}

/// Makes the frame so long.
#[inline(always)]
fn resize(context: &TcContext, length: u32) -> Option<()> {
    // SAFETY: the context is valid.
    (unsafe { bpf_skb_change_tail(context.skb.skb, length, 0) } == 0).then_some(())
}

/// Turns the link-layer header round.
#[inline(always)]
fn turn(context: &TcContext) -> Option<()> {
    let [a, b, c, d, e, f, g, h, i, j, k, l]: [u8; 12] = load(context, 0)?;
    store(context, 0, &[g, h, i, j, k, l, a, b, c, d, e, f])
}

#[inline(always)]
fn load<const N: usize>(context: &TcContext, at: u32) -> Option<[u8; N]> {
    let mut octets = [0u8; N];
    // SAFETY: the buffer is as long as told; the kernel checks the packet's bounds.
    let failed =
        unsafe { bpf_skb_load_bytes(context.skb.skb.cast(), at, octets.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(octets)
}

#[inline(always)]
fn store<const N: usize>(context: &TcContext, at: u32, octets: &[u8; N]) -> Option<()> {
    // SAFETY: as in `load`.
    let failed = unsafe { bpf_skb_store_bytes(context.skb.skb, at, octets.as_ptr().cast(), N as u32, 0) };
    (failed == 0).then_some(())
}
