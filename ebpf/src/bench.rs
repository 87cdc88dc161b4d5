//! Programs for the benchmarks: what the real ones are compared with, and the real one under many flows.

use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;
use weir_ebpf::parse::{Headers, plain_v4};
use weir_ebpf::{INGRESS, UNTAGGED};

use crate::count;

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
    let Some(at) = BENCH_AT.get_ptr_mut(0) else { return };
    // SAFETY: a map value; benchmarks run on one CPU at a time.
    let number = unsafe {
        *at = (*at + 1) & ((1 << 20) - 1);
        *at
    };
    let (Some(source), start) = (BENCH_SOURCES.get(number), packet.data()) else { return };
    if start + SOURCE + 4 <= packet.data_end() {
        // SAFETY: checked to lie inside the packet.
        unsafe { *((start + SOURCE) as *mut u32) = *source }
    }
}
