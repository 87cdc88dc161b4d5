//! The ledgers: flows behind a front cache, and rows a hook, class and virtual address.
//!
//! A packet of a flow that has a front slot costs two array accesses. Everything that needs a hash is done when
//! a flow gets a slot, and its result is kept there until the settings' epoch changes.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_boot_ns};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::TcContext;
use weir_ebpf::parse::{ACK, Headers, Parsed, RST, SYN, parse, plain_v4, plain_v6};
use weir_ebpf::record::TAPPED;
use weir_ebpf::vips::STRAY;
use weir_ebpf::vlan::{CARRIED, VlanKey};
use weir_ebpf::*;

use crate::maps::*;
use crate::{tap, watch};

/// What a row's number may say beside it of its packets.
const MARKS: u32 = TAPPED | STRAY;

/// Headers are at most this long: two tags, IPv6 and six short extension headers, TCP.
const HEADERS: u32 = 160;

/// Set by the loader: front slots minus one.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.loader")]
static FRONT_MASK: u32 = FRONT_SLOTS - 1;

/// What one packet adds.
#[repr(C)]
pub struct Packet {
    pub length: u64,
    pub segments: u64,
    pub flags: u8,
    pub now: u64,
}

#[inline(always)]
pub fn packet<const DIRECTION: u8>(context: &TcContext) {
    let skb = context.skb.skb;
    // SAFETY: the kernel hands over a valid context; the verifier checks every field access.
    let (interface, length, segments, tagged, tci) =
        unsafe { ((*skb).ifindex, (*skb).len, (*skb).gso_segs, (*skb).vlan_present, (*skb).vlan_tci) };
    let headers =
        Headers::new(interface, DIRECTION, if tagged != 0 { tci as u16 & 0x0fff } else { UNTAGGED });
    let mut packet = Packet {
        length: length as u64,
        segments: if segments > 1 { segments as u64 } else { 1 },
        flags: 0,
        // SAFETY: no argument.
        now: unsafe { bpf_jiffies64() },
    };
    // SAFETY: the verifier knows the bounds of a packet.
    let marks = unsafe {
        if let Some((key, flags)) = plain_v4(context.data(), context.data_end(), &headers) {
            packet.flags = flags;
            flow(&key, &packet)
        } else if let Some((key, flags)) = plain_v6(context.data(), context.data_end(), &headers) {
            packet.flags = flags;
            flow(&key, &packet)
        } else {
            any_other(context, headers, packet)
        }
    };
    look::<DIRECTION>(context, marks);
}

/// Looks into a packet whose row has marks.
#[inline(always)]
pub fn look<const DIRECTION: u8>(context: &TcContext, marks: u32) {
    if marks & TAPPED != 0 {
        tap::segment(context, DIRECTION);
    }
    if marks & STRAY != 0 {
        watch::stray(context);
    }
}

/// Packets that are not of the plainest kind. Returns the marks of its row.
#[inline(always)]
fn any_other(context: &TcContext, before: Headers, mut packet: Packet) -> u32 {
    let (parsed, headers) = read(context, before, packet.length as u32);
    packet.flags = headers.flags;
    let (interface, direction) = (before.fields.interface, before.fields.direction);
    match parsed {
        Parsed::Ip => {
            if watch::is_advertisement(headers.fields.protocol, headers.fields.source_port) {
                watch::advertisement(context, direction);
            }
            flow(&headers.key(), &packet)
        }
        Parsed::NotIp => {
            watch::arp(context, direction);
            base_row(interface, direction, &packet, false);
            0
        }
        Parsed::Short | Parsed::Malformed => {
            base_row(interface, direction, &packet, true);
            0
        }
    }
}

/// Reads any packet's headers, wherever they lie.
#[inline(always)]
pub fn read(context: &TcContext, before: Headers, length: u32) -> (Parsed, Headers) {
    let mut headers = before;
    // SAFETY: the verifier knows the bounds of a packet.
    let mut parsed = unsafe { parse(context.data(), context.data_end(), &mut headers) };
    if parsed == Parsed::Short && context.data_end() - context.data() < length as usize {
        headers = before;
        parsed = pull_and_parse(context, length, &mut headers);
    }
    (parsed, headers)
}

/// The headers may lie in the packet's pages: brings them into the linear part and parses again.
#[inline(always)]
fn pull_and_parse(context: &TcContext, length: u32, headers: &mut Headers) -> Parsed {
    if context.pull_data(if length < HEADERS { length } else { HEADERS }).is_err() {
        return Parsed::Short;
    }
    // SAFETY: the verifier knows the bounds of a packet.
    unsafe { parse(context.data(), context.data_end(), headers) }
}

/// A packet of a flow: into its front slot, or into the table behind. Returns the marks of its row.
#[inline(always)]
pub fn flow(key: &FlowKey, packet: &Packet) -> u32 {
    // SAFETY: a constant of the loaded program; volatile, because the loader sets it.
    let mask = unsafe { core::ptr::read_volatile(&FRONT_MASK) };
    // SAFETY: no argument.
    let first = unsafe { bpf_get_smp_processor_id() } * (mask + 1);
    let Some(slot) = FRONT.get_ptr_mut(first + (key.mix() as u32 & mask)) else { return 0 };
    // SAFETY: the slot is this CPU's own; both hooks run with softirqs off, so no packet comes in between.
    let slot = unsafe { &mut *slot };
    let epoch = settings().epoch;
    if slot.holds(key) && slot.epoch == epoch && slot.packets != u32::MAX {
        slot.add(packet.length, packet.flags, packet.now);
        return row(slot.row, packet);
    }
    elsewhere(key, packet, slot, epoch)
}

/// The slot belongs to another flow, or to another epoch, or its counter is full.
#[inline(never)]
fn elsewhere(key: &FlowKey, packet: &Packet, slot: &mut Slot, epoch: u32) -> u32 {
    if !slot.holds(key) && slot.packets != 0 {
        slot.misses += 1;
        if slot.misses <= FRONT_PATIENCE {
            return behind(key, packet, epoch);
        }
    }
    spill(slot);
    let number = row_number(key);
    slot.give(key, packet.now, number, epoch);
    slot.add(packet.length, packet.flags, packet.now);
    row(number, packet)
}

/// Moves what a slot holds into the table behind.
#[inline(never)]
fn spill(slot: &Slot) {
    if slot.packets == 0 {
        return;
    }
    let (key, count) = (slot.key(), slot.count());
    match FLOW_TABLE.get_ptr_mut(&key) {
        Some(old) => merge(old, &count),
        None => insert(&key, &count),
    }
}

/// Adds to an entry of the table behind.
#[inline(always)]
fn merge(old: *mut FlowCount, count: &FlowCount) {
    // SAFETY: a map value; other CPUs write it too, so counters are added to atomically.
    unsafe {
        add(&raw mut (*old).packets, count.packets);
        add(&raw mut (*old).bytes, count.bytes);
        (*old).last = count.last;
        (*old).flags |= count.flags;
        (*old).row = count.row;
        (*old).epoch = count.epoch;
    }
}

/// Counts a packet in the table behind: its slot is busy with another flow.
#[inline(always)]
fn behind(key: &FlowKey, packet: &Packet, epoch: u32) -> u32 {
    let Some(count) = FLOW_TABLE.get_ptr_mut(key) else {
        let number = row_number(key);
        insert(key, &fresh(packet, number, epoch));
        return row(number, packet);
    };
    // SAFETY: as in `merge`.
    let number = unsafe {
        if (*count).epoch != epoch {
            (*count).row = row_number(key);
            (*count).epoch = epoch;
        }
        add(&raw mut (*count).packets, 1);
        add(&raw mut (*count).bytes, packet.length);
        (*count).last = packet.now;
        (*count).flags |= packet.flags as u32;
        (*count).row
    };
    row(number, packet)
}

#[inline(always)]
fn fresh(packet: &Packet, row: u32, epoch: u32) -> FlowCount {
    FlowCount {
        packets: 1,
        bytes: packet.length,
        first: packet.now,
        last: packet.now,
        flags: packet.flags as u32,
        row,
        epoch,
        reserved: 0,
    }
}

#[inline(always)]
fn insert(key: &FlowKey, count: &FlowCount) {
    // BPF_NOEXIST: another CPU may have made the entry since we looked.
    if FLOW_TABLE.insert(key, count, 1).is_ok() {
        return fell_short(shortfall::FLOWS_MADE);
    }
    match FLOW_TABLE.get_ptr_mut(key) {
        Some(old) => merge(old, count),
        None => fell_short(shortfall::FLOW_FAILED),
    }
}

/// Adds a packet to the ledger row of its flow. Returns the marks of its row.
#[inline(always)]
fn row(number: u32, packet: &Packet) -> u32 {
    match LEDGER.get_ptr_mut(number) {
        Some(row) => {
            add_packet(row, packet);
            0
        }
        None => marked(number, packet),
    }
}

/// A number with a mark: no row has it, so only such packets get here.
#[inline(never)]
fn marked(number: u32, packet: &Packet) -> u32 {
    if let Some(row) = LEDGER.get_ptr_mut(number & !MARKS) {
        add_packet(row, packet);
    }
    number & MARKS
}

#[inline(always)]
fn add_packet(row: *mut Row, packet: &Packet) {
    // SAFETY: the row is this CPU's own.
    let row = unsafe { &mut *row };
    row.packets += 1;
    row.bytes += packet.length;
    row.segments += packet.segments;
    if packet.flags & (SYN | RST) != 0 {
        if packet.flags & (SYN | ACK) == SYN {
            row.syn += 1;
        }
        if packet.flags & RST != 0 {
            row.rst += 1;
        }
    }
}

/// Adds a packet that belongs to no flow to its hook's base row.
#[inline(never)]
pub fn base_row(interface: u32, direction: u8, packet: &Packet, malformed: bool) {
    let number = hook_row(interface, direction);
    let plain = Packet { flags: 0, ..*packet };
    if let Some(row) = LEDGER.get_ptr_mut(number) {
        add_packet(row, &plain);
        // SAFETY: the row is this CPU's own.
        unsafe { if malformed { (*row).malformed += 1 } else { (*row).not_ip += 1 } }
    }
}

/// The row of a hook that takes what no other row does; row 0 for a hook that the agent has not announced.
#[inline(always)]
fn hook_row(interface: u32, direction: u8) -> u32 {
    let hook = HookKey { interface, direction: direction as u32 };
    // SAFETY: the value is copied at once.
    match unsafe { HOOK_ROWS.get(&hook) } {
        Some(number) => *number,
        None => {
            fell_short(shortfall::NO_HOOK);
            0
        }
    }
}

/// Finds, or makes, the row of a flow; with the marks that its packets have.
#[inline(never)]
fn row_number(key: &FlowKey) -> u32 {
    let mut wanted = RowKey { interface: key.interface(), direction: key.direction(), ..RowKey::default() };
    if is_carried(key) {
        wanted.class = CARRIED;
        return existing(&wanted).or_else(|| new_row(&wanted)).unwrap_or_else(|| overflow(key));
    }
    wanted.class = class(key) as u8;
    let mut mark = mark(key);
    if VIP_STATES.get_ptr(&key.destination).is_some() {
        of_vip(&mut wanted, key, key.destination, key.destination_port());
        mark |= watch::stray_mark(key);
    } else if VIP_STATES.get_ptr(&key.source).is_some() {
        of_vip(&mut wanted, key, key.source, key.source_port());
    } else if wanted.class == 0 {
        return hook_row(key.interface(), key.direction()) | mark;
    }
    existing(&wanted).or_else(|| new_row(&wanted)).unwrap_or_else(|| overflow(key)) | mark
}

/// The mark of flows whose packets the agent wants.
#[inline(never)]
fn mark(key: &FlowKey) -> u32 {
    let tapped = key.protocol() == 6 && (tap::wants(key.source_port()) || tap::wants(key.destination_port()));
    if tapped { TAPPED } else { 0 }
}

/// No row is free: the hook's base row takes the packet.
#[inline(never)]
fn overflow(key: &FlowKey) -> u32 {
    fell_short(shortfall::LEDGER_FULL);
    hook_row(key.interface(), key.direction())
}

/// Whether the hook of a VLAN sub-interface sorts the flow's packets, too.
#[inline(always)]
fn is_carried(key: &FlowKey) -> bool {
    let vlan = VlanKey { interface: key.interface(), vlan: key.vlan() as u32 };
    key.vlan() != UNTAGGED && SUB_INTERFACES.get_ptr(&vlan).is_some()
}

/// The VLAN of a flow: its outermost tag, or that which the sub-interface took off.
#[inline(always)]
fn vlan_of(key: &FlowKey) -> u16 {
    if key.vlan() != UNTAGGED {
        return key.vlan();
    }
    // SAFETY: the value is copied at once.
    unsafe { OWN_VLANS.get(&key.interface()) }.map_or(UNTAGGED, |vlan| *vlan as u16)
}

#[inline(always)]
fn of_vip(wanted: &mut RowKey, key: &FlowKey, vip: Address, port: u16) {
    wanted.vip = vip;
    wanted.vlan = vlan_of(key);
    wanted.hop = key.hop();
    wanted.protocol = key.protocol();
    wanted.port = if has_own_row(key.protocol(), vip, port) { port } else { 0 };
}

/// Whether a port of a virtual address has rows of its own: the first ports seen do, up to a bound.
// A frame of its own: the stack is short on this way.
#[inline(never)]
fn has_own_row(protocol: u8, vip: Address, port: u16) -> bool {
    if protocol != 6 && protocol != 17 && protocol != 132 {
        return false;
    }
    let seen = VipPort { vip, port, protocol, reserved: 0, reserved_last: 0 };
    if VIP_PORTS_SEEN.get_ptr(&seen).is_some() {
        return true;
    }
    let Some(state) = VIP_STATES.get_ptr_mut(&vip) else { return false };
    // SAFETY: a map value; a race of two CPUs can pass the bound by as many ports as there are CPUs.
    unsafe {
        if (*state).ports >= VIP_PORTS {
            return false;
        }
        // BPF_NOEXIST: two CPUs that see the port at once count it once.
        if VIP_PORTS_SEEN.insert(&seen, &1, 1).is_ok() {
            add(&raw mut (*state).ports, 1);
        }
    }
    true
}

#[inline(always)]
fn existing(wanted: &RowKey) -> Option<u32> {
    // SAFETY: the value is copied at once.
    unsafe { ROW_NUMBERS.get(wanted) }.copied()
}

#[inline(always)]
fn new_row(wanted: &RowKey) -> Option<u32> {
    let number = FREE_ROWS.pop().ok()??;
    // BPF_NOEXIST: of two CPUs that make the same row, one gives its number back.
    if ROW_NUMBERS.insert(wanted, &number, 1).is_ok() {
        return Some(number);
    }
    let _ = FREE_ROWS.push(number, 0);
    existing(wanted)
}

/// The traffic class of a flow: address sets first, then ports, the server's before the client's.
#[inline(never)]
fn class(key: &FlowKey) -> u32 {
    class_of(key.source, key.destination, key.protocol(), key.source_port(), key.destination_port())
}

/// The traffic class of a conversation; 0 where no class claims it.
#[inline(always)]
pub fn class_of(
    source: Address,
    destination: Address,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
) -> u32 {
    let by_address = |address: Address| {
        let octets: [u8; 16] = octets(address);
        CLASS_BY_ADDRESS.get(Key::new(128, octets)).copied().unwrap_or(0)
    };
    let found = by_address(destination);
    if found != 0 {
        return found;
    }
    let found = by_address(source);
    if found != 0 {
        return found;
    }
    let base = match protocol {
        6 => 0,
        17 => 1 << 16,
        _ => return CLASS_BY_PROTOCOL.get(protocol as u32).copied().unwrap_or(0),
    };
    let found = CLASS_BY_PORT.get(base + destination_port as u32).copied().unwrap_or(0);
    if found != 0 {
        return found;
    }
    let found = CLASS_BY_PORT.get(base + source_port as u32).copied().unwrap_or(0);
    if found != 0 {
        return found;
    }
    CLASS_BY_PROTOCOL.get(protocol as u32).copied().unwrap_or(0)
}

#[inline(always)]
fn octets(address: Address) -> [u8; 16] {
    // SAFETY: two words are sixteen octets, and every bit pattern is valid.
    unsafe { core::mem::transmute(address.0) }
}

/// Reads two clocks together.
#[inline(always)]
pub fn clock() {
    if let Some(clock) = CLOCK.get_ptr_mut(0) {
        // SAFETY: a map value; the helpers take no argument.
        unsafe {
            (*clock).jiffies = bpf_jiffies64();
            (*clock).boottime = bpf_ktime_get_boot_ns();
        }
    }
}
