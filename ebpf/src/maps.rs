//! All maps. The agent pins them by these names; the layout number in the contract guards their reuse.

use aya_ebpf::btf_maps::{self, ArrayOfMaps, SkStorage};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, Queue, RingBuf};
use weir_ebpf::record::{PORT_WORDS, TAP_RING, TapScratch};
use weir_ebpf::rules::*;
use weir_ebpf::vips::{self, ClaimKey, Claims, StrayBudget, StrayHops, StrayPacket, Strays};
use weir_ebpf::vlan::{SUB_INTERFACES_MAX, VlanKey};
use weir_ebpf::*;

/// `BPF_F_MMAPABLE`: the map begins at a page.
const MAPPABLE: u32 = 1 << 10;

/// In a section of its own, which the loader makes a map of one element; the agent pins and writes that.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.settings")]
static mut SETTINGS: Settings = Settings { epoch: 0, peer_bits_v4: 0, peer_bits_v6: 0, guarded: 0 };
#[map]
pub static HOOK_ROWS: HashMap<HookKey, u32> = HashMap::with_max_entries(HOOKS, 0);
/// The sub-interface that is measured for a VLAN of an interface.
#[map]
pub static SUB_INTERFACES: HashMap<VlanKey, u32> = HashMap::with_max_entries(SUB_INTERFACES_MAX, 0);
/// The VLAN that a sub-interface is for.
#[map]
pub static OWN_VLANS: HashMap<u32, u32> = HashMap::with_max_entries(SUB_INTERFACES_MAX, 0);
#[map]
pub static FRONT: Array<Slot> = Array::with_max_entries(FRONT_SLOTS, MAPPABLE);
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
/// Which ports Services have at virtual addresses whose ports are known.
#[map]
pub static VIP_SERVED: HashMap<VipPort, u32> = HashMap::with_max_entries(vips::SERVED, 0);
#[map]
pub static VIP_STRAYS: LruHashMap<VipPort, Strays> = LruHashMap::with_max_entries(vips::STRAYS, 0);
#[map]
pub static STRAY_SEEN: LruHashMap<StrayPacket, StrayHops> =
    LruHashMap::with_max_entries(vips::STRAY_PACKETS, 0);
#[map]
pub static STRAYS_NOW: PerCpuArray<StrayBudget> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static VIP_CLAIMS: LruHashMap<ClaimKey, Claims> = LruHashMap::with_max_entries(vips::CLAIMS, 0);
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

/// Which set of rules is in force: words of `rules::control`. Mapped by the agent, which stores each at once.
#[map]
pub static GUARD_CONTROL: Array<[u64; control::COUNT as usize]> = Array::with_max_entries(1, MAPPABLE);
/// The programs that judge, by direction, and the one that answers.
#[map]
pub static GUARD_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(ANSWER + 1, 0);
/// How many packets were answered in this tick.
#[map]
pub static ANSWERED: PerCpuArray<StrayBudget> = PerCpuArray::with_max_entries(1, 0);
/// The packet that is being judged.
#[map]
pub static GUARD_SUBJECT: PerCpuArray<crate::guard::Subject> = PerCpuArray::with_max_entries(1, 0);
/// The last packet that was dropped early.
#[map]
pub static GUARD_DROPPED: PerCpuArray<crate::guard::Dropped> = PerCpuArray::with_max_entries(1, 0);
/// The failsafe: four bits a port, and a bit an ICMP type.
#[map]
pub static FAILSAFE_PORTS: Array<u64> = Array::with_max_entries(FAILSAFE_WORDS, 0);
#[map]
pub static FAILSAFE_ICMP: Array<u64> = Array::with_max_entries(FAILSAFE_ICMP_WORDS, 0);
/// The node's resolvers: their answers are saved.
#[map]
pub static FAILSAFE_RESOLVERS: HashMap<Address, u32> = HashMap::with_max_entries(64, 0);
#[btf_map]
pub static GUARD_HEADS: ArrayOfMaps<btf_maps::Array<Head, 1>, { SLOTS as usize }> = ArrayOfMaps::new();
#[btf_map]
pub static GUARD_BITMAPS: ArrayOfMaps<btf_maps::Array<Bitmap, { BITMAPS as usize }>, { SLOTS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
pub static GUARD_RULES: ArrayOfMaps<btf_maps::Array<Rule, { RULES as usize }>, { SLOTS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
pub static GUARD_PORTS: ArrayOfMaps<
    btf_maps::Array<[u16; PORT_PAGE], { PORT_PAGES as usize }>,
    { SLOTS as usize },
> = ArrayOfMaps::new();
/// Filters, whole addresses and prefixes: two of each a slot, for sources and for destinations.
#[btf_map]
pub static GUARD_FILTERS_V4: ArrayOfMaps<Filter, { SLOTS as usize * 2 }> = ArrayOfMaps::new();
#[btf_map]
pub static GUARD_FILTERS_V6: ArrayOfMaps<Filter, { SLOTS as usize * 2 }> = ArrayOfMaps::new();
#[btf_map]
pub static GUARD_EXACT_V4: ArrayOfMaps<btf_maps::HashMap<u32, u32, 1, 1>, { SLOTS as usize * 2 }> =
    ArrayOfMaps::new();
#[btf_map]
pub static GUARD_EXACT_V6: ArrayOfMaps<btf_maps::HashMap<Address, u32, 1, 1>, { SLOTS as usize * 2 }> =
    ArrayOfMaps::new();
#[btf_map]
pub static GUARD_TRIES_V4: ArrayOfMaps<btf_maps::LpmTrie<[u8; 4], u32, 1>, { SLOTS as usize * 2 }> =
    ArrayOfMaps::new();
#[btf_map]
pub static GUARD_TRIES_V6: ArrayOfMaps<btf_maps::LpmTrie<[u8; 16], u32, 1>, { SLOTS as usize * 2 }> =
    ArrayOfMaps::new();
/// Who may claim virtual addresses: link-layer addresses as [`claimant`] makes them, and the bitmap of each.
#[btf_map]
pub static GUARD_CLAIMANTS: ArrayOfMaps<btf_maps::HashMap<u64, u32, 1, 1>, { SLOTS as usize }> =
    ArrayOfMaps::new();
#[map]
pub static RULE_COUNTS: PerCpuArray<RuleCount> = PerCpuArray::with_max_entries(COUNTERS, 0);
/// The agent's own: what each counter counts.
#[map]
pub static RULE_NAMES: Array<RuleName> = Array::with_max_entries(COUNTERS, 0);
/// Budgets of rules: the time up to which each is used, in ns of `ktime`.
#[map]
pub static RULE_BUDGETS: Array<u64> = Array::with_max_entries(COUNTERS, 0);
#[map]
pub static SOURCE_BUDGETS: LruHashMap<BudgetKey, u64> = LruHashMap::with_max_entries(BUDGETS, 0);
#[map]
pub static RULE_PAIRS: LruHashMap<PairKey, PairCount> = LruHashMap::with_max_entries(PAIRS, 0);
/// Drops at hooks by rule: for the ledger of losses. Early ones are in no interface's ledger.
#[map]
pub static RULE_DROPS: PerCpuHashMap<RuleDropKey, u64> = PerCpuHashMap::with_max_entries(RULE_PLACES, 0);
#[map]
pub static RULE_EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

type Filter = btf_maps::Array<[u64; FILTER_PAGE], { FILTER_PAGES as usize }>;
/// Ports whose TCP segments go to the agent, a bit each.
#[map]
pub static TAP_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
/// Segments of those ports. Pinned: what comes between two agents waits here for the second.
#[map]
pub static TAP: RingBuf = RingBuf::with_byte_size(TAP_RING, 0);
#[map]
pub static TAP_SCRATCH: PerCpuArray<TapScratch> = PerCpuArray::with_max_entries(1, 0);

/// What the programs are told now.
#[inline(always)]
pub fn settings() -> Settings {
    // SAFETY: the agent stores the word as a whole; volatile, because it does while we run.
    bytemuck::cast(unsafe { core::ptr::read_volatile((&raw const SETTINGS).cast::<u64>()) })
}

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
