//! Health of local TCP sockets, from sock_ops callbacks (`BPF_SOCK_OPS_*` in linux/bpf.h).

use core::mem::offset_of;

use aya_ebpf::bindings::{
    BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_sk_storage_get};
use aya_ebpf::programs::SockOpsContext;
use weir_ebpf::*;

use crate::count::class_of;
use crate::maps::*;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const FIN_WAIT1: u32 = 4;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const CALLBACKS: u32 = BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;
/// A peer prefix is told a socket's round-trip time once in this many jiffies at most: 1 s or less at every HZ.
const TELL_EVERY: u64 = 100;

#[inline(always)]
pub fn callback(context: &SockOpsContext) {
    match context.op() {
        BPF_SOCK_OPS_RTT_CB => round_trip(context),
        BPF_SOCK_OPS_RETRANS_CB => retransmit(context),
        BPF_SOCK_OPS_STATE_CB => changed(context),
        BPF_SOCK_OPS_TCP_CONNECT_CB => begin(context),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(context, true),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(context, false),
        _ => {}
    }
}

/// A SYN is about to be sent.
#[inline(always)]
fn begin(context: &SockOpsContext) {
    let _ = context.set_cb_flags(CALLBACKS as i32);
    let Some(socket) = storage(context, true) else { return };
    // SAFETY: storage of this socket; the helper takes no argument.
    unsafe { (*socket).begun = bpf_ktime_get_ns() }
}

#[inline(always)]
fn established(context: &SockOpsContext, opened: bool) {
    let _ = context.set_cb_flags(CALLBACKS as i32);
    let Some(socket) = storage(context, true) else { return };
    // SAFETY: storage of this socket.
    let begun = unsafe { (*socket).begun };
    if let Some(row) = class_row(context, socket) {
        if opened {
            row.connects += 1;
            if begun != 0 {
                // SAFETY: no argument.
                let micros = unsafe { bpf_ktime_get_ns() }.wrapping_sub(begun) / 1000;
                row.connect_sum += micros;
                sample(&mut row.connect, micros);
            }
        } else {
            row.accepts += 1;
        }
    }
    with_peer(context, |peer| {
        // SAFETY: a map value.
        unsafe { add(&raw mut (*peer).connections, 1) }
    });
}

/// The kernel has a new estimate of the round-trip time.
#[inline(always)]
fn round_trip(context: &SockOpsContext) {
    let Some(socket) = storage(context, false) else { return };
    // SAFETY: the verifier checks the field access. The kernel keeps eight times the estimate.
    let micros = unsafe { (*context.ops).srtt_us } as u64 >> 3;
    if let Some(row) = class_row(context, socket) {
        row.rtt_sum += micros;
        sample(&mut row.rtt, micros);
    }
    // SAFETY: no argument; storage of this socket.
    unsafe {
        let now = bpf_jiffies64();
        if now.wrapping_sub((*socket).told) < TELL_EVERY {
            return;
        }
        (*socket).told = now;
    }
    with_peer(context, |peer| {
        // SAFETY: a map value; a lost race between two CPUs loses one of two equally true values.
        unsafe {
            (*peer).rtt = micros;
            if (*peer).rtt_min == 0 || micros < (*peer).rtt_min {
                (*peer).rtt_min = micros;
            }
        }
    });
}

#[inline(always)]
fn retransmit(context: &SockOpsContext) {
    let segments = context.arg(1) as u64;
    let Some(socket) = storage(context, false) else { return };
    if let Some(row) = class_row(context, socket) {
        row.retransmits += segments;
    }
    with_peer(context, |peer| {
        // SAFETY: a map value.
        unsafe { add(&raw mut (*peer).retransmits, segments) }
    });
}

/// The socket's state has changed; only the ways to CLOSE without a FIN exchange matter.
#[inline(always)]
fn changed(context: &SockOpsContext) {
    if context.arg(1) != CLOSE {
        return;
    }
    let failed = match context.arg(0) {
        SYN_SENT => true,
        ESTABLISHED | FIN_WAIT1 | CLOSE_WAIT => false,
        _ => return,
    };
    let Some(socket) = storage(context, false) else { return };
    if let Some(row) = class_row(context, socket) {
        if failed {
            row.failed_connects += 1;
        } else {
            row.resets += 1;
        }
    }
    with_peer(context, |peer| {
        // SAFETY: a map value.
        unsafe {
            if failed { add(&raw mut (*peer).failed_connects, 1) } else { add(&raw mut (*peer).resets, 1) }
        }
    });
}

#[inline(always)]
fn sample(buckets: &mut [u64; BUCKETS], micros: u64) {
    if let Some(count) = buckets.get_mut(bucket(micros)) {
        *count += 1;
    }
}

#[inline(always)]
fn storage(context: &SockOpsContext, make: bool) -> Option<*mut Socket> {
    // SAFETY: the verifier checks the field access.
    let sk = unsafe { (*context.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    let flags = if make { BPF_SK_STORAGE_GET_F_CREATE as u64 } else { 0 };
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: `sk` is a socket, as the verifier knows; the map is one of socket storage.
    let socket = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags) }.cast::<Socket>();
    if !socket.is_null() {
        return Some(socket);
    }
    if make {
        fell_short(shortfall::SOCKETS_FULL);
    }
    None
}

/// The counters of the socket's class, found once an epoch.
#[inline(always)]
fn class_row<'a>(context: &SockOpsContext, socket: *mut Socket) -> Option<&'a mut TcpRow> {
    let settings = settings();
    // SAFETY: storage of this socket; the row is this CPU's own.
    unsafe {
        if (*socket).epoch != settings.epoch {
            (*socket).class = class(context);
            (*socket).epoch = settings.epoch;
        }
        Some(&mut *TCP_ROWS.get_ptr_mut((*socket).class)?)
    }
}

#[inline(never)]
fn class(context: &SockOpsContext) -> u32 {
    let Some((local, remote)) = addresses(context) else { return 0 };
    let remote_port = u32::from_be(context.remote_port()) as u16;
    class_of(local, remote, 6, context.local_port() as u16, remote_port)
}

/// Reads a 32-bit word of the context at a constant offset. Written out as one instruction: the kernel takes no load
/// whose offset was computed, and the compiler would merge those of two branches into one of that kind.
macro_rules! word {
    ($context:expr, $offset:expr) => {{
        let word: u64;
        // SAFETY: the verifier checks that a context may be read there; nothing is written.
        unsafe {
            core::arch::asm!(
                "{word} = *(u32 *)({context} + {offset})",
                word = lateout(reg) word,
                context = in(reg) $context.ops,
                offset = const $offset,
                options(pure, readonly, nostack),
            )
        };
        word
    }};
}

macro_rules! address_v6 {
    ($context:expr, $offset:expr) => {
        Address([
            word!($context, $offset) | word!($context, $offset + 4) << 32,
            word!($context, $offset + 8) | word!($context, $offset + 12) << 32,
        ])
    };
}

#[inline(always)]
fn addresses(context: &SockOpsContext) -> Option<(Address, Address)> {
    match context.family() {
        AF_INET => Some((
            Address::mapped(word!(context, offset_of!(bpf_sock_ops, local_ip4)) as u32),
            Address::mapped(word!(context, offset_of!(bpf_sock_ops, remote_ip4)) as u32),
        )),
        AF_INET6 => Some((
            address_v6!(context, offset_of!(bpf_sock_ops, local_ip6)),
            address_v6!(context, offset_of!(bpf_sock_ops, remote_ip6)),
        )),
        _ => None,
    }
}

/// Runs an action on the counters of the peer's prefix, made if need be.
#[inline(always)]
fn with_peer(context: &SockOpsContext, action: impl FnOnce(*mut PeerRow)) {
    let Some(key) = peer_key(context) else { return };
    if let Some(peer) = TCP_PEER_ROWS.get_ptr_mut(&key) {
        return action(peer);
    }
    // BPF_NOEXIST: another CPU may have been faster.
    let _ = TCP_PEER_ROWS.insert(&key, &PeerRow::default(), 1);
    if let Some(peer) = TCP_PEER_ROWS.get_ptr_mut(&key) {
        action(peer);
    }
}

#[inline(never)]
fn peer_key(context: &SockOpsContext) -> Option<PeerKey> {
    let settings = settings();
    let (_, remote) = addresses(context)?;
    // An IPv4 peer of an IPv6 socket is counted as the IPv4 peer that it is.
    let mapped = remote.0[0] == 0 && remote.0[1] as u32 == 0xffff_0000;
    let bits = if mapped { settings.peer_bits_v4 } else { settings.peer_bits_v6 } as u32;
    let kept = if mapped { bits + 96 } else { bits };
    let high = u64::from_be(remote.0[0]) & mask(kept);
    let low = u64::from_be(remote.0[1]) & mask(kept.saturating_sub(64));
    Some(PeerKey { prefix: Address([high.to_be(), low.to_be()]), bits, reserved: 0 })
}

/// The first `bits` of a word, all of it from 64 on.
#[inline(always)]
fn mask(bits: u32) -> u64 {
    match bits {
        0 => 0,
        1..64 => u64::MAX << (64 - bits),
        _ => u64::MAX,
    }
}
