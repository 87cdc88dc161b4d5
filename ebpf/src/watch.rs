//! Looks into what is odd about virtual addresses: packets to ports that no Service has, and claims on the link.
//!
//! None of this is on the common way: a flow is marked as a stray when its row is found, ARP and neighbour discovery are rare.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_skb_load_bytes_relative};
use aya_ebpf::programs::TcContext;
use weir_ebpf::rules::claimant;
use weir_ebpf::vips::*;
use weir_ebpf::{Address, FlowKey, INGRESS, VipPort};

use crate::maps::*;

/// `BPF_HDR_START_NET` (linux/bpf.h): offsets count from the network header, behind any tag.
const FROM_NETWORK_HEADER: u32 = 1;
/// `BPF_HDR_START_MAC`.
const FROM_LINK_HEADER: u32 = 0;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// ICMPv6 type of a neighbour advertisement (RFC 4861 section 4.4).
const ADVERTISEMENT: u16 = 136;

/// The mark for flows into the node whose port no Service has; 0 for all others.
#[inline(never)]
pub fn stray_mark(key: &FlowKey) -> u32 {
    let (protocol, port) = (key.protocol(), key.destination_port());
    let has_ports = protocol == 6 || protocol == 17 || protocol == 132;
    if key.direction() != INGRESS || !has_ports || port == 0 {
        return 0;
    }
    // One key for both questions: the stack is short on this way.
    let mut asked = VipPort { vip: key.destination, port, protocol, reserved: 0, reserved_last: 0 };
    if VIP_SERVED.get_ptr(&asked).is_some() {
        return 0;
    }
    (asked.port, asked.protocol) = (0, 0);
    if VIP_SERVED.get_ptr(&asked).is_some() { STRAY } else { 0 }
}

/// Looks into a packet to a port that no Service has: counts it, and tells whether it has been here before.
#[inline(never)]
pub fn stray(context: &TcContext) {
    // SAFETY: no argument.
    if !within_budget(unsafe { bpf_jiffies64() }) {
        return;
    }
    let mut packet = StrayPacket::default();
    let Some((ttl, protocol)) = identity(context, &mut packet) else { return };
    let [_, _, high, low, ..] = packet.transport.to_ne_bytes();
    let port = VipPort {
        vip: packet.destination,
        port: u16::from_be_bytes([high, low]),
        protocol,
        reserved: 0,
        reserved_last: 0,
    };
    let fell_from = fall(&packet, ttl);
    count(context, &port, ttl, fell_from);
}

/// A few packets a tick are enough to find a loop; a flood must not cost more than that.
#[inline(always)]
fn within_budget(tick: u64) -> bool {
    let Some(budget) = STRAYS_NOW.get_ptr_mut(0) else { return false };
    // SAFETY: the element is this CPU's own.
    let budget = unsafe { &mut *budget };
    if budget.tick != tick {
        (budget.tick, budget.packets) = (tick, 0);
    }
    budget.packets += 1;
    budget.packets <= STRAY_BUDGET as u64
}

/// The time to live and protocol of a packet; `into` gets what it is known by when it comes again. Extension headers are not
/// followed: what lies behind the first header is as good to know it by, and its port is then that of no Service either.
#[inline(always)]
fn identity(context: &TcContext, into: &mut StrayPacket) -> Option<(u8, u8)> {
    let [version]: [u8; 1] = load(context, 0)?;
    let (ttl, protocol, behind) = if version >> 4 == 4 {
        let head: [u8; 20] = load(context, 0)?;
        into.source = Address::mapped(u32::from_ne_bytes([head[12], head[13], head[14], head[15]]));
        into.destination = Address::mapped(u32::from_ne_bytes([head[16], head[17], head[18], head[19]]));
        into.identification = head[4] as u64 | (head[5] as u64) << 8;
        (head[8], head[9], ((version & 0x0f) as u32) * 4)
    } else {
        let head: [u8; 8] = load(context, 0)?;
        into.source = Address(load_words(context, 8)?);
        into.destination = Address(load_words(context, 24)?);
        (head[7], head[6], 40)
    };
    into.identification |= (protocol as u64) << 16;
    // A header has at most 60 octets; the mask tells the verifier so.
    into.transport = u64::from_ne_bytes(load(context, behind & 0x3f)?);
    Some((ttl, protocol))
}

/// Remembers a packet; when it was here before with a higher time to live, tells that one, else 0.
#[inline(always)]
fn fall(packet: &StrayPacket, ttl: u8) -> u8 {
    let Some(hops) = STRAY_SEEN.get_ptr_mut(packet) else {
        let _ = STRAY_SEEN.insert(packet, &StrayHops { ttl: ttl as u32, falls: 0 }, 0);
        return 0;
    };
    // SAFETY: a map value; a race of two CPUs loses a step of one packet.
    let hops = unsafe { &mut *hops };
    let before = hops.ttl;
    hops.ttl = ttl as u32;
    if (ttl as u32) < before {
        hops.falls += 1;
        return before as u8;
    }
    0
}

/// What an entry begins with; a constant, so that it takes no stack.
const NOTHING: Strays = Strays {
    packets: 0,
    looped: 0,
    last: 0,
    interface: 0,
    hop: [0; 6],
    ttl_high: 0,
    ttl_low: 0,
    reserved: 0,
};

#[inline(never)]
fn count(context: &TcContext, port: &VipPort, ttl: u8, fell_from: u8) {
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if VIP_STRAYS.get_ptr(port).is_none() {
        // BPF_NOEXIST: another CPU may have made the entry since we looked.
        let _ = VIP_STRAYS.insert(port, &NOTHING, 1);
    }
    let Some(strays) = VIP_STRAYS.get_ptr_mut(port) else { return };
    let hop = load_from(context, 6, FROM_LINK_HEADER).unwrap_or_default();
    // SAFETY: a map value; other CPUs write it too, so counters are added to atomically. The context is valid.
    unsafe {
        add(&raw mut (*strays).packets, 1);
        (*strays).last = now;
        (*strays).interface = (*context.skb.skb).ifindex;
        (*strays).hop = hop;
        if fell_from != 0 {
            add(&raw mut (*strays).looped, 1);
            if fell_from > (*strays).ttl_high {
                (*strays).ttl_high = fell_from;
            }
            if (*strays).ttl_low == 0 || ttl < (*strays).ttl_low {
                (*strays).ttl_low = ttl;
            }
        }
    }
}

/// A packet that is not IP: notes who claims a virtual address by ARP (RFC 826): a reply, or an announcement of oneself
/// (RFC 5227 section 3). Plain requests are not noted: a node may ask in the name of any address that it has. Returns whom a
/// neighbour would believe to have it, as [`claimant`] makes it, or 0: by requests too, from which neighbours learn (RFC 826).
#[inline(never)]
pub fn arp(context: &TcContext, direction: u8) -> u64 {
    // SAFETY: as in `stray`.
    let (protocol, interface) = unsafe { ((*context.skb.skb).protocol, (*context.skb.skb).ifindex) };
    if protocol != ETHERTYPE_ARP.to_be() as u32 {
        return 0;
    }
    let Some(packet) = load::<28>(context, 0) else { return 0 };
    let head = u64::from_be_bytes([
        packet[0], packet[1], packet[2], packet[3], packet[4], packet[5], packet[6], packet[7],
    ]);
    let sender = u32::from_ne_bytes([packet[14], packet[15], packet[16], packet[17]]);
    let target = u32::from_ne_bytes([packet[24], packet[25], packet[26], packet[27]]);
    let reply = head == 0x0001_0800_0604_0002;
    let request = head == 0x0001_0800_0604_0001;
    let (vip, mac) =
        (Address::mapped(sender), [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]]);
    if reply || request && sender == target {
        return claim(vip, interface, mac, direction);
    }
    if request && VIP_STATES.get_ptr(&vip).is_some() { claimant(mac) } else { 0 }
}

/// Whether a packet of that protocol and with that "source port" is a neighbour advertisement (RFC 4861 section 4.4).
#[inline(always)]
pub fn is_advertisement(protocol: u8, kind: u16) -> bool {
    protocol == ICMPV6 && kind == ADVERTISEMENT
}

/// The same of a neighbour advertisement.
#[inline(never)]
pub fn advertisement(context: &TcContext, direction: u8) -> u64 {
    // SAFETY: the kernel hands over a valid context; the verifier checks every field access.
    let (protocol, interface) = unsafe { ((*context.skb.skb).protocol, (*context.skb.skb).ifindex) };
    if protocol != ETHERTYPE_IPV6.to_be() as u32 {
        return 0;
    }
    // With extension headers it is none that anybody has to believe.
    let Some(head) = load::<8>(context, 40) else { return 0 };
    let Some(target) = load_words(context, 48) else { return 0 };
    // The target's link-layer address (section 4.6.1) is the first option, or the answer is to one who knows it.
    let Some(option) = load::<8>(context, 64) else { return 0 };
    if head[0] as u16 != ADVERTISEMENT || option[0] != 2 || option[1] != 1 {
        return 0;
    }
    let mac = [option[2], option[3], option[4], option[5], option[6], option[7]];
    claim(Address(target), interface, mac, direction)
}

#[inline(never)]
fn claim(vip: Address, interface: u32, mac: [u8; 6], direction: u8) -> u64 {
    if VIP_STATES.get_ptr(&vip).is_none() {
        return 0;
    }
    let claimant = claimant(mac);
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let key = ClaimKey { vip, interface, mac, direction, reserved: 0, reserved_last: 0 };
    let Some(claims) = VIP_CLAIMS.get_ptr_mut(&key) else {
        let _ = VIP_CLAIMS.insert(&key, &Claims { first: now, last: now, count: 1 }, 1);
        return claimant;
    };
    // SAFETY: a map value; of two CPUs that write the times at once, either is right.
    unsafe {
        if now - (*claims).last > TENURE {
            (*claims).first = now;
        }
        (*claims).last = now;
        add(&raw mut (*claims).count, 1);
    }
    claimant
}

/// Octets of a packet, from an offset behind its network header's start.
#[inline(always)]
fn load<const N: usize>(context: &TcContext, offset: u32) -> Option<[u8; N]> {
    load_from(context, offset, FROM_NETWORK_HEADER)
}

/// Sixteen octets as two words in memory's order.
#[inline(always)]
fn load_words(context: &TcContext, offset: u32) -> Option<[u64; 2]> {
    let octets: [u8; 16] = load(context, offset)?;
    // SAFETY: sixteen octets are two words, and every bit pattern is valid.
    Some(unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(octets) })
}

#[inline(always)]
fn load_from<const N: usize>(context: &TcContext, offset: u32, from: u32) -> Option<[u8; N]> {
    let mut octets = [0u8; N];
    // SAFETY: the buffer is as long as told; the kernel checks the packet's bounds.
    let failed = unsafe {
        bpf_skb_load_bytes_relative(
            context.skb.skb.cast(),
            offset,
            octets.as_mut_ptr().cast(),
            N as u32,
            from,
        )
    };
    (failed == 0).then_some(octets)
}
