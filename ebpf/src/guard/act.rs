//! What a rule that matches does: counts, tells, and decides unless it is in audit mode or the failsafe saves the packet.

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use weir_ebpf::parse::{ACK, SYN, piece};
use weir_ebpf::rules::*;
use weir_ebpf::{Address, EGRESS};

use super::{Subject, Verdict};
use crate::bounds::within;
use crate::maps::*;

/// Events of one rule on one CPU are at least so many jiffies apart.
const EVENT_GAP: u64 = 25;
/// How often a budget that other CPUs use as well is tried; after that the packet is within it.
const TRIES: u32 = 4;

/// Where a packet lies, and what can be done to it.
pub trait Frame {
    /// Bits for events.
    const EVENT: u8;
    /// Whether the packet will be judged again further on: then only a rule that drops it for sure acts, and nothing is counted
    /// twice.
    const EARLY: bool;
    /// Copies the first octets; `length` is at most [`SNAP`] and not zero.
    fn copy(&self, into: *mut u8, length: u32) -> bool;
    /// Sets the DSCP of an IP packet.
    fn mark(&self, dscp: u8);
    /// Sets the time of departure, in ns of `ktime`.
    fn depart(&self, at: u64);
}

/// Lets a rule act. `None` where the next one is to be asked.
#[inline(never)]
pub(super) fn act<F: Frame>(frame: &F, subject: &mut Subject, slot: u32, number: u32) -> Option<Verdict> {
    let rule = GUARD_RULES.get_value(slot, &number)?;
    if F::EARLY {
        let saves = rule.flags & rule_flag::NO_FAILSAFE == 0;
        let hooks_alone = rule.flags & (rule_flag::AUDIT | rule_flag::REJECT | rule_flag::PAIRS) != 0;
        // Only the hook can answer; and it counts what is audited, by pair, or saved by the failsafe.
        if rule.action != action::DENY || hooks_alone || saves && is_vital(subject) {
            return Some(Verdict::Pass);
        }
    }
    let counts = RULE_COUNTS.get_ptr_mut(rule.counter)?;
    // SAFETY: the element is this CPU's own; the pointer is valid for the run of the program.
    let counts = unsafe { &mut *counts };
    counts.last = subject.packet.now;
    let audit = rule.flags & rule_flag::AUDIT != 0;
    if rule.flags & rule_flag::PAIRS != 0 {
        add_to_pair(rule.counter, subject);
    }
    let dropped = match rule.action {
        action::DENY => true,
        action::RATE => !is_within(rule, subject),
        action::PACE => !pace(frame, rule, subject, audit),
        _ => false,
    };
    if !dropped {
        counts.passed += subject.packet.segments;
        counts.passed_bytes += subject.packet.length;
        if rule.action == action::MARK && !audit {
            frame.mark(rule.dscp);
        }
        return if rule.action == action::ALLOW && !audit { Some(Verdict::Pass) } else { None };
    }
    let saved = !F::EARLY && rule.flags & rule_flag::NO_FAILSAFE == 0 && is_vital(subject);
    if saved {
        counts.saved += subject.packet.segments;
    } else {
        counts.dropped += subject.packet.segments;
        counts.dropped_bytes += subject.packet.length;
    }
    let event = if audit { event_flag::AUDIT } else { 0 } | if saved { event_flag::SAVED } else { 0 };
    tell(frame, subject, rule.counter, event, counts);
    if audit {
        return None;
    }
    if saved {
        return Some(Verdict::Pass);
    }
    if !F::EARLY {
        add_to_hook(rule.counter, subject);
    }
    (subject.answer, subject.counter) = (rule.flags & rule_flag::REJECT, rule.counter);
    Some(Verdict::Drop)
}

/// Counts a drop at the hook. One packet of the stack is one, as in the kernel's own count.
#[inline(always)]
fn add_to_hook(counter: u32, subject: &Subject) {
    let egress = (subject.key.direction() as u32) << 31;
    let place = RuleDropKey { interface: subject.key.interface(), counter: counter | egress };
    if let Some(drops) = RULE_DROPS.get_ptr_mut(&place) {
        // SAFETY: the value is this CPU's own.
        unsafe { *drops += 1 }
    } else {
        let _ = RULE_DROPS.insert(&place, &1, 0);
    }
}

/// Counts what happens without a rule.
#[inline(always)]
pub(super) fn count<F: Frame>(frame: &F, subject: &Subject, counter: u32, dropped: bool) {
    let Some(counts) = RULE_COUNTS.get_ptr_mut(counter) else { return };
    // SAFETY: as in `act`.
    let counts = unsafe { &mut *counts };
    counts.last = subject.packet.now;
    if dropped {
        counts.dropped += subject.packet.segments;
        counts.dropped_bytes += subject.packet.length;
        tell(frame, subject, counter, 0, counts);
        add_to_hook(counter, subject);
    } else {
        counts.passed += subject.packet.segments;
        counts.passed_bytes += subject.packet.length;
    }
}

/// Sends an event, unless the rule has just sent one.
#[inline(always)]
fn tell<F: Frame>(frame: &F, subject: &Subject, counter: u32, flags: u8, counts: &mut RuleCount) {
    if counts.told != 0 && subject.packet.now - counts.told < EVENT_GAP {
        return;
    }
    counts.told = subject.packet.now;
    let Some(mut entry) = RULE_EVENTS.reserve::<Event>(0) else {
        counts.untold += 1;
        return;
    };
    let event = entry.as_mut_ptr();
    let length = if subject.packet.length < SNAP as u64 { subject.packet.length as u32 } else { SNAP as u32 };
    // SAFETY: the reserved room is an event. Octets behind those captured are left as they are: nobody reads them.
    unsafe {
        (*event).time = subject.packet.now;
        (*event).counter = counter;
        (*event).interface = subject.key.interface();
        (*event).length = subject.packet.length as u32;
        (*event).direction = subject.key.direction();
        (*event).flags = flags | F::EVENT;
        let copied = within(length, 1, SNAP as u64)
            .is_some_and(|length| frame.copy((&raw mut (*event).octets).cast(), length as u32));
        (*event).captured = if copied { length as u16 } else { 0 };
    }
    entry.submit(0);
}

/// Whether the failsafe saves the packet: without it the node would be cut off from those that could help.
#[inline(always)]
fn is_vital(subject: &Subject) -> bool {
    let key = &subject.key;
    let known = subject.piece < piece::LATER;
    if !known {
        return false;
    }
    let icmp = match key.protocol() {
        1 => Some(0),
        58 => Some(4),
        _ => None,
    };
    if let Some(base) = icmp {
        let kind = key.source_port() as u32 & 0xff;
        return FAILSAFE_ICMP.get(base + (kind >> 6)).is_some_and(|word| word >> (kind & 63) & 1 != 0);
    }
    let egress = key.direction() == EGRESS;
    let (towards, back) =
        if egress { (failsafe::OUT, failsafe::OUT_ANSWER) } else { (failsafe::IN, failsafe::IN_ANSWER) };
    let bits = |port: u16| {
        let (word, shift) = failsafe::place(key.protocol(), port)?;
        Some(FAILSAFE_PORTS.get(word)? >> shift & 15)
    };
    if bits(key.destination_port()).is_some_and(|bits| bits & towards != 0) {
        return true;
    }
    // An answer: TCP that opens no connection. Anybody could send UDP from such a port.
    let opens = key.protocol() == 6 && subject.packet.flags & (SYN | ACK) == SYN;
    if !opens && bits(key.source_port()).is_some_and(|bits| bits & back != 0) {
        return true;
    }
    let peer = if egress { key.destination } else { key.source };
    let (port, resolver) = (if egress { key.destination_port() } else { key.source_port() }, &peer);
    port == 53 && !(opens && !egress) && is_resolver(resolver)
}

#[inline(always)]
fn is_resolver(address: &Address) -> bool {
    FAILSAFE_RESOLVERS.get_ptr(address).is_some()
}

/// Takes a packet's cost from a budget, if there is enough.
#[inline(always)]
fn is_within(rule: &Rule, subject: &Subject) -> bool {
    let Some(cost) = cost(rule, subject) else { return true };
    let each = rule.flags & (rule_flag::PER_SOURCE | rule_flag::PER_DESTINATION) != 0;
    let used = if each { budget_of_source(rule, subject) } else { RULE_BUDGETS.get_ptr_mut(rule.counter) };
    let Some(used) = used else { return true };
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    for _ in 0..TRIES {
        // SAFETY: a map value, valid for the run of the program; volatile, because other CPUs write it.
        let old = unsafe { core::ptr::read_volatile(used) };
        let from = if old > now { old } else { now };
        if from - now + cost > rule.burst {
            return false;
        }
        // SAFETY: as above.
        if unsafe { exchange(used, old, from + cost) } == old {
            return true;
        }
    }
    true
}

/// What the packet costs in ns; `None` where it costs nothing.
#[inline(always)]
fn cost(rule: &Rule, subject: &Subject) -> Option<u64> {
    let units = match rule.unit {
        unit::BYTES => subject.packet.length,
        unit::CONNECTIONS => {
            let opens = subject.key.protocol() == 6 && subject.packet.flags & (SYN | ACK) == SYN;
            if !opens || subject.piece >= piece::LATER {
                return None;
            }
            1
        }
        _ => subject.packet.segments,
    };
    Some(units.wrapping_mul(rule.cost) >> 16)
}

#[inline(always)]
fn budget_of_source(rule: &Rule, subject: &Subject) -> Option<*mut u64> {
    let by_source = rule.flags & rule_flag::PER_SOURCE != 0;
    let by_destination = rule.flags & rule_flag::PER_DESTINATION != 0;
    let whose = BudgetKey {
        source: if by_source { prefix(subject.key.source, rule) } else { [0, 0] },
        destination: if by_destination { subject.key.destination.0 } else { [0, 0] },
        counter: rule.counter,
        reserved: 0,
    };
    if let Some(used) = SOURCE_BUDGETS.get_ptr_mut(&whose) {
        return Some(used);
    }
    // BPF_NOEXIST: another CPU may have made it since we looked.
    let _ = SOURCE_BUDGETS.insert(&whose, &0, 1);
    SOURCE_BUDGETS.get_ptr_mut(&whose)
}

/// The first address of a source's prefix.
#[inline(always)]
fn prefix(address: Address, rule: &Rule) -> [u64; 2] {
    let [high, low] = address.0;
    let mapped = high == 0 && low & 0xffff_ffff == 0xffff_0000;
    let bits = if mapped { 96 + rule.prefix_bits[0] as u32 } else { rule.prefix_bits[1] as u32 };
    let kept = |word: u64, bits: u32| match bits {
        0 => 0,
        1..=63 => (u64::from_be(word) & !(u64::MAX >> bits)).to_be(),
        _ => word,
    };
    [kept(high, bits), if bits > 64 { kept(low, bits - 64) } else { 0 }]
}

/// Gives the packet its time of departure; `false` where it would wait longer than it may.
#[inline(always)]
fn pace<F: Frame>(frame: &F, rule: &Rule, subject: &Subject, audit: bool) -> bool {
    let (Some(cost), Some(next)) = (cost(rule, subject), RULE_BUDGETS.get_ptr_mut(rule.counter)) else {
        return true;
    };
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    for _ in 0..TRIES {
        // SAFETY: a map value, valid for the run of the program; volatile, because other CPUs write it.
        let old = unsafe { core::ptr::read_volatile(next) };
        let at = if old > now { old } else { now };
        if at - now > rule.burst {
            return false;
        }
        // SAFETY: as above.
        if unsafe { exchange(next, old, at + cost) } == old {
            if !audit {
                frame.depart(at);
            }
            return true;
        }
    }
    true
}

/// Stores `new` if the word is `old`; returns what it was.
///
/// # Safety
/// `word` must point into a map value.
#[inline(always)]
unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let was: u64;
    // SAFETY: the caller's promise; the instruction compares with r0 and puts what was there into r0.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") old => was,
        );
    }
    was
}

#[inline(always)]
fn add_to_pair(counter: u32, subject: &Subject) {
    let (source, destination) = (subject.key.source.0, subject.key.destination.0);
    let pair = PairKey { source, destination, counter, reserved: 0 };
    if let Some(count) = RULE_PAIRS.get_ptr_mut(&pair) {
        // SAFETY: a map value; other CPUs write it too, so counters are added to atomically.
        unsafe {
            add(&raw mut (*count).packets, subject.packet.segments);
            add(&raw mut (*count).bytes, subject.packet.length);
        }
        return;
    }
    let first = PairCount { packets: subject.packet.segments, bytes: subject.packet.length };
    let _ = RULE_PAIRS.insert(&pair, &first, 1);
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

impl Frame for TcContext {
    const EVENT: u8 = 0;
    const EARLY: bool = false;

    #[inline(always)]
    fn copy(&self, into: *mut u8, length: u32) -> bool {
        // SAFETY: the caller's room is as long; the helper checks the packet's length.
        unsafe { bpf_skb_load_bytes(self.skb.skb.cast(), 0, into.cast(), length) == 0 }
    }

    #[inline(always)]
    fn mark(&self, dscp: u8) {
        let Some((at, ethertype)) = ip_header(self) else { return };
        let Ok(first) = self.load::<u16>(at).map(u16::from_be) else { return };
        match ethertype {
            ETHERTYPE_IPV4 => {
                let marked = first & 0xff03 | (dscp as u16) << 2;
                let (old, new) = (first.to_be() as u64, marked.to_be() as u64);
                if marked != first && self.skb.l3_csum_replace(at + 10, old, new, 2).is_ok() {
                    let _ = self.skb.store(at, &marked.to_be(), 0);
                }
            }
            _ => {
                let marked = first & 0xf03f | (dscp as u16) << 6;
                let _ = self.skb.store(at, &marked.to_be(), 0);
            }
        }
    }

    #[inline(always)]
    fn depart(&self, at: u64) {
        // SAFETY: the kernel hands over a valid context, and this field may be written.
        unsafe { (*self.skb.skb).tstamp = at }
    }
}

impl Frame for XdpContext {
    const EVENT: u8 = event_flag::XDP;
    const EARLY: bool = true;

    #[inline(always)]
    fn copy(&self, into: *mut u8, length: u32) -> bool {
        // SAFETY: the caller's room is as long; the helper checks the packet's length.
        unsafe { bpf_xdp_load_bytes(self.ctx, 0, into.cast(), length) == 0 }
    }

    fn mark(&self, _dscp: u8) {}

    fn depart(&self, _at: u64) {}
}

/// Where the IP header begins, and which it is.
#[inline(always)]
fn ip_header(frame: &TcContext) -> Option<(usize, u16)> {
    let mut at = 14;
    let mut ethertype = u16::from_be(frame.load(12).ok()?);
    let mut tag = 0;
    while tag < 2 && (ethertype == 0x8100 || ethertype == 0x88a8) {
        ethertype = u16::from_be(frame.load(at + 2).ok()?);
        at += 4;
        tag += 1;
    }
    matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6).then_some((at, ethertype))
}
