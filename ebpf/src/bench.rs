//! Programs for the benchmarks: what the real ones are compared with, and the real one under many flows.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::{TcContext, XdpContext};
use weir_ebpf::parse::{Headers, plain_v4};
use weir_ebpf::{FlowCount, FlowKey, INGRESS, UNTAGGED};

use crate::{count, guard};

/// Source addresses to send from, in order.
#[map]
static BENCH_SOURCES: Array<u32> = Array::with_max_entries(1 << 20, 0);
#[map]
static BENCH_AT: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static BENCH_SINK: Array<u64> = Array::with_max_entries(1, 0);

/// Where the IPv4 source address lies in an untagged frame.
const SOURCE: usize = 26;

/// Nothing at all.
#[classifier]
pub fn bench_empty(_packet: TcContext) -> i32 {
    -1
}

/// Headers parsed, nothing counted.
#[classifier]
pub fn bench_parse(packet: TcContext) -> i32 {
    read_headers(&packet);
    -1
}

/// As `bench_parse`, with the next source address.
#[classifier]
pub fn bench_parse_flows(packet: TcContext) -> i32 {
    next_source(&packet);
    read_headers(&packet);
    -1
}

/// The real program, with the next source address.
#[classifier]
pub fn bench_count_flows(packet: TcContext) -> i32 {
    next_source(&packet);
    count::packet::<INGRESS>(&packet);
    -1
}

/// `BPF_F_NO_PREALLOC`: memory is taken when a flow is made, so that other benchmarks do not pay for it.
const GROWING: u32 = 1;
#[map]
static BENCH_FLOWS: PerCpuHashMap<FlowKey, FlowCount> = PerCpuHashMap::with_max_entries(1 << 18, GROWING);

/// Plain accounting, as one would write it first: a hash with a count a flow and CPU.
#[classifier]
pub fn bench_hash(packet: TcContext) -> i32 {
    let skb = packet.skb.skb;
    // SAFETY: the kernel hands over a valid context; the verifier knows the bounds of a packet.
    let (headers, length) = unsafe { (Headers::new((*skb).ifindex, INGRESS, UNTAGGED), (*skb).len as u64) };
    let Some((key, flags)) = (unsafe { plain_v4(packet.data(), packet.data_end(), &headers) }) else {
        return -1;
    };
    // SAFETY: no argument.
    let now = unsafe { bpf_jiffies64() };
    if let Some(count) = BENCH_FLOWS.get_ptr_mut(&key) {
        // SAFETY: the value is this CPU's own.
        let count = unsafe { &mut *count };
        count.packets += 1;
        count.bytes += length;
        count.last = now;
        count.flags |= flags as u32;
        return -1;
    }
    let count = FlowCount {
        packets: 1,
        bytes: length,
        first: now,
        last: now,
        flags: flags as u32,
        row: 0,
        epoch: 0,
        reserved: 0,
    };
    let _ = BENCH_FLOWS.insert(&key, &count, 0);
    -1
}

/// Prefixes of sources in a plain trie.
#[map]
static BENCH_TRIE: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1 << 21, GROWING);

/// As `bench_parse_flows`, and the source is looked up in a plain trie.
#[classifier]
pub fn bench_trie_flows(packet: TcContext) -> i32 {
    next_source(&packet);
    let headers = Headers::new(1, INGRESS, UNTAGGED);
    // SAFETY: the verifier knows the bounds of a packet.
    let Some((key, _)) = (unsafe { plain_v4(packet.data(), packet.data_end(), &headers) }) else { return -1 };
    let source = ((key.source.0[1] >> 32) as u32).to_ne_bytes();
    if BENCH_TRIE.get(&Key::new(32, source)).is_some() { 2 } else { -1 }
}

/// The real judgement without the counts of flows, with the next source address.
#[classifier]
pub fn bench_judge_flows(packet: TcContext) -> i32 {
    next_source(&packet);
    let Some(subject) = guard::read::<INGRESS>(&packet) else { return -1 };
    if guard::verdict(&packet, subject) == guard::Verdict::Drop { 2 } else { -1 }
}

/// Sends the packet out of the interface that it is said to have come from.
#[xdp]
pub fn bench_send(_packet: XdpContext) -> u32 {
    XDP_TX
}

/// The same, with the next source address.
#[xdp]
pub fn bench_send_flows(packet: XdpContext) -> u32 {
    advance_source(packet.data(), packet.data_end());
    XDP_TX
}

/// The least that can drop a packet.
#[xdp]
pub fn bench_drop(_packet: XdpContext) -> u32 {
    XDP_DROP
}

/// `enum xdp_action` of linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_TX: u32 = 3;

#[map]
static NEXT_RUNS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The ingress program of a version to come: it counts as ours does, and its own runs. For the test of an upgrade.
#[classifier]
pub fn next_ingress(packet: TcContext) -> i32 {
    if let Some(runs) = NEXT_RUNS.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own.
        unsafe { *runs += 1 }
    }
    count::packet::<INGRESS>(&packet);
    -1
}

#[inline(always)]
fn read_headers(packet: &TcContext) {
    let headers = Headers::new(1, INGRESS, UNTAGGED);
    // SAFETY: the verifier knows the bounds of a packet.
    let Some((key, flags)) = (unsafe { plain_v4(packet.data(), packet.data_end(), &headers) }) else {
        return;
    };
    if let Some(sink) = BENCH_SINK.get_ptr_mut(0) {
        // SAFETY: a map value; it only keeps the compiler from leaving the work out.
        unsafe { *sink = key.mix() + flags as u64 }
    }
}

#[inline(always)]
fn next_source(packet: &TcContext) {
    advance_source(packet.data(), packet.data_end());
}

#[inline(always)]
fn advance_source(start: usize, end: usize) {
    let Some(at) = BENCH_AT.get_ptr_mut(0) else { return };
    // SAFETY: a map value; benchmarks run on one CPU at a time.
    let number = unsafe {
        *at = (*at + 1) & ((1 << 20) - 1);
        *at
    };
    let Some(source) = BENCH_SOURCES.get(number) else { return };
    if start + SOURCE + 4 <= end {
        // SAFETY: checked to lie inside the packet.
        unsafe { *((start + SOURCE) as *mut u32) = *source }
    }
}
