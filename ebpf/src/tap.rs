//! Segments of BGP to user space, in pieces, through a ring. What does not fit is counted, and the gap shows by itself in the
//! sequence numbers. Only packets of flows that carry the mark come here, a few a second.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;
use weir_ebpf::parse::{ACK, FIN, RST, SYN};
use weir_ebpf::record::*;
use weir_ebpf::{Address, shortfall};

use crate::bounds::within;
use crate::maps::*;

const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;

/// Whether segments from or to a port go to the agent.
#[inline(always)]
pub fn wants(port: u16) -> bool {
    TAP_PORTS.get(port as u32 >> 6).is_some_and(|word| word >> (port & 63) & 1 != 0)
}

/// Passes a segment on.
#[inline(always)]
pub fn segment(context: &TcContext, direction: u8) {
    pass_on(context.skb.skb, direction);
}

#[inline(never)]
fn pass_on(skb: *mut __sk_buff, direction: u8) {
    let Some(scratch) = TAP_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: the value is this CPU's own; both hooks run with softirqs off, so no packet comes in between.
    let scratch = unsafe { &mut *scratch };
    let Some((payload, length)) = head(skb, direction, &mut scratch.header) else {
        return lost(0);
    };
    let at = scratch.header.at;
    if scratch.window != at >> 30 {
        (scratch.window, scratch.passed) = (at >> 30, [0, 0]);
    }
    let (passed, most) = if length > 0 {
        (&mut scratch.passed[1], TAP_SEGMENTS)
    } else {
        (&mut scratch.passed[0], TAP_BARE_SEGMENTS)
    };
    *passed += 1;
    if *passed > most {
        return lost(length);
    }
    if length == 0 {
        return bare(scratch);
    }
    let mut offset = 0;
    let mut chunk = 0;
    while chunk < TAP_CHUNKS {
        let rest = length - offset;
        let take = if rest > TAP_CHUNK as u32 { TAP_CHUNK as u32 } else { rest };
        if !piece(skb, payload, offset, take, scratch) {
            return lost(rest);
        }
        offset += take;
        if offset >= length {
            return;
        }
        chunk += 1;
    }
    lost(length - offset);
}

/// A segment without payload. Whoever reads need not wake up for an acknowledgement: it is read with what comes next.
#[inline(always)]
fn bare(scratch: &mut TapScratch) {
    let flags = scratch.header.flags;
    let wake = if flags & (SYN | FIN | RST) != 0 { FORCE_WAKEUP } else { NO_WAKEUP };
    if flags & (SYN | FIN | RST | ACK) == 0 {
        return;
    }
    let header = (&raw mut scratch.header).cast();
    // SAFETY: the header lies in a map value, and the ring is a map.
    if unsafe { bpf_ringbuf_output(ring(), header, size_of::<TapHeader>() as u64, wake) } != 0 {
        lost(0);
    }
}

/// One record of a segment with payload.
#[inline(never)]
fn piece(skb: *mut __sk_buff, payload: u32, offset: u32, take: u32, scratch: &mut TapScratch) -> bool {
    let Some(bounded) = within(take, 1, TAP_CHUNK as u64) else { return false };
    scratch.header.offset = offset;
    scratch.header.captured = take;
    let last = offset + take >= scratch.header.length;
    let wake = if last { FORCE_WAKEUP } else { NO_WAKEUP };
    let to = (&raw mut scratch.payload).cast();
    // SAFETY: the octets fit into the map value, and the kernel checks the packet.
    if unsafe { bpf_skb_load_bytes(skb.cast(), payload + offset, to, bounded as u32) } != 0 {
        return false;
    }
    let header = (&raw mut scratch.header).cast();
    let size = size_of::<TapHeader>() as u64 + bounded;
    // SAFETY: header and payload lie behind one another in a map value, and the ring is a map.
    unsafe { bpf_ringbuf_output(ring(), header, size, wake) == 0 }
}

/// Fills the header. Where payload begins in the packet, and its length.
#[inline(always)]
fn head(skb: *mut __sk_buff, direction: u8, header: &mut TapHeader) -> Option<(u32, u32)> {
    // SAFETY: the kernel hands over a valid context; the verifier checks every field access. The helper takes no argument.
    (header.interface, header.at) = unsafe { ((*skb).ifindex, bpf_ktime_get_boot_ns()) };
    let (transport, end) = internet(skb, header)?;
    let tcp: [u8; 20] = load(skb, transport)?;
    let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let options = ((tcp[12] >> 4) as u32).checked_sub(5)? * 4;
    let payload = transport + 20 + options;
    let length = end.checked_sub(payload)?;
    header.options_length = options as u8;
    // A length of zero is nothing that the kernel would load.
    if let Some(bounded) = within(options, 4, 40) {
        let to = (&raw mut header.options).cast();
        // SAFETY: the octets fit, and the kernel checks the packet.
        if unsafe { bpf_skb_load_bytes(skb.cast(), transport + 20, to, bounded as u32) } != 0 {
            return None;
        }
    }
    header.source_port = u16::from_be_bytes([tcp[0], tcp[1]]);
    header.destination_port = u16::from_be_bytes([tcp[2], tcp[3]]);
    (header.sequence, header.acknowledgement) = (word(4), word(8));
    (header.length, header.offset, header.captured) = (length, 0, 0);
    (header.flags, header.direction, header.reserved) = (tcp[13], direction, 0);
    Some((payload, length))
}

/// Reads the addresses. Where the TCP header begins, and where the IP packet ends: a short frame is padded behind that.
#[inline(always)]
fn internet(skb: *mut __sk_buff, header: &mut TapHeader) -> Option<(u32, u32)> {
    // SAFETY: as above.
    let whole = unsafe { (*skb).len };
    let mut ip = 14;
    let mut ethertype = u16::from_be_bytes(load(skb, 12)?);
    let mut tag = 0;
    while tag < 2 && (ethertype == 0x8100 || ethertype == 0x88a8) {
        ethertype = u16::from_be_bytes(load(skb, ip + 2)?);
        ip += 4;
        tag += 1;
    }
    let (transport, end) = match ethertype {
        0x0800 => {
            let [first, _, high, low]: [u8; 4] = load(skb, ip)?;
            header.source = Address::mapped(u32::from_ne_bytes(load(skb, ip + 12)?));
            header.destination = Address::mapped(u32::from_ne_bytes(load(skb, ip + 16)?));
            let length = u16::from_be_bytes([high, low]) as u32;
            (ip + (first & 0x0f) as u32 * 4, if length == 0 { whole } else { ip + length })
        }
        0x86dd => {
            let [high, low, next]: [u8; 3] = load(skb, ip + 4)?;
            header.source = address(skb, ip + 8)?;
            header.destination = address(skb, ip + 24)?;
            let length = u16::from_be_bytes([high, low]) as u32;
            let skipped = match next {
                6 => 0,
                // Hop-by-hop options, as BIG TCP has them.
                0 => {
                    let [next, length]: [u8; 2] = load(skb, ip + 40)?;
                    if next != 6 {
                        return None;
                    }
                    8 + length as u32 * 8
                }
                _ => return None,
            };
            (ip + 40 + skipped, if length == 0 { whole } else { ip + 40 + length })
        }
        _ => return None,
    };
    Some((transport, if end < whole { end } else { whole }))
}

#[inline(always)]
fn address(skb: *mut __sk_buff, offset: u32) -> Option<Address> {
    let (high, low): ([u8; 8], [u8; 8]) = (load(skb, offset)?, load(skb, offset + 8)?);
    Some(Address([u64::from_ne_bytes(high), u64::from_ne_bytes(low)]))
}

#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut octets = [0; N];
    // SAFETY: the array is as long as told, and the kernel checks the packet.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), offset, octets.as_mut_ptr().cast(), N as u32) };
    if result == 0 { Some(octets) } else { None }
}

#[inline(always)]
fn ring() -> *mut core::ffi::c_void {
    (&raw const TAP).cast_mut().cast()
}

/// A segment that the agent will miss, with so much payload.
#[inline(always)]
fn lost(bytes: u32) {
    fell_short(shortfall::TAP_SEGMENTS_LOST);
    if let Some(count) = SHORTFALL.get_ptr_mut(shortfall::TAP_BYTES_LOST) {
        // SAFETY: the element is this CPU's own; the pointer is valid for the run of the program.
        unsafe { *count += bytes as u64 }
    }
}
