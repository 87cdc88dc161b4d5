//! All maps. The agent pins them by these names; the layout number in the contract guards their reuse.

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, Queue};
use weir_ebpf::*;

#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static HOOK_ROWS: HashMap<HookKey, u32> = HashMap::with_max_entries(HOOKS, 0);
#[map]
pub static FRONT: PerCpuArray<Slot> = PerCpuArray::with_max_entries(FRONT_SLOTS, 0);
#[map]
pub static FLOW_TABLE: LruHashMap<FlowKey, FlowCount> = LruHashMap::with_max_entries(FLOWS, 0);
#[map]
pub static LEDGER: PerCpuArray<Row> = PerCpuArray::with_max_entries(ROWS, 0);
#[map]
pub static ROW_NUMBERS: HashMap<RowKey, u32> = HashMap::with_max_entries(ROWS, 0);
#[map]
pub static FREE_ROWS: Queue<u32> = Queue::with_max_entries(ROWS, 0);
#[map]
pub static VIP_STATES: HashMap<Address, VipState> = HashMap::with_max_entries(VIPS, 0);
#[map]
pub static VIP_PORTS_SEEN: HashMap<VipPort, u32> = HashMap::with_max_entries(VIPS * 4, 0);
#[map]
pub static CLASS_BY_ADDRESS: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(CLASS_PREFIXES, 1);
/// TCP ports, then UDP ports.
#[map]
pub static CLASS_BY_PORT: Array<u32> = Array::with_max_entries(2 << 16, 0);
#[map]
pub static CLASS_BY_PROTOCOL: Array<u32> = Array::with_max_entries(256, 0);
/// The agent's own: names of the classes, so that a number keeps its meaning from one agent to the next.
#[map]
pub static CLASS_NAMES: Array<ClassName> = Array::with_max_entries(CLASSES, 0);
/// The agent's own: counts of rows that were given back, by hook and class.
#[map]
pub static RETIRED: HashMap<RowKey, Row> = HashMap::with_max_entries(HOOKS * 8, 0);
#[map]
pub static SHORTFALL: PerCpuArray<u64> = PerCpuArray::with_max_entries(shortfall::COUNT, 0);
#[map]
pub static TCP_ROWS: PerCpuArray<TcpRow> = PerCpuArray::with_max_entries(CLASSES, 0);
#[map]
pub static TCP_PEER_ROWS: LruHashMap<PeerKey, PeerRow> = LruHashMap::with_max_entries(TCP_PEERS, 0);
#[btf_map]
pub static SOCKETS: SkStorage<Socket> = SkStorage::new();
#[map]
pub static DROP_COUNTS: PerCpuHashMap<DropKey, u64> = PerCpuHashMap::with_max_entries(DROPS, 0);
#[map]
pub static CLOCK: Array<Clock> = Array::with_max_entries(1, 0);

/// Counts something that went less than well.
#[inline(always)]
pub fn fell_short(what: u32) {
    if let Some(count) = SHORTFALL.get_ptr_mut(what) {
        // SAFETY: the element is this CPU's own; the pointer is valid for the run of the program.
        unsafe { *count += 1 }
    }
}

/// Adds to a counter that other CPUs add to as well.
///
/// # Safety
/// `counter` must point into a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // The BPF target of rustc has no atomic read-modify-write; the kernel's instruction set does.
    // SAFETY: the caller's promise; the instruction changes no register.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) amount) }
}
