//! Verdicts: which rules match a packet, and what the first of them do.
//!
//! The programs at the hooks come here by a tail call, and only while there is a policy: without one they pay for a branch. Whatever goes wrong in here lets the packet pass.

mod act;
mod again;
mod answer;
mod find;

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::programs::{TcContext, XdpContext};
use weir_ebpf::parse::{Headers, Parsed, parse, piece, plain_v4};
use weir_ebpf::rules::{ANSWER, Control, Head, control, dimension};
use weir_ebpf::{FlowKey, INGRESS, UNTAGGED};

use crate::count::{self, Packet};
use crate::maps::*;
use crate::watch;

pub use act::Frame;
pub use again::Dropped;
pub use answer::answer;

/// Let the next program in the chain decide.
const TCX_NEXT: i32 = -1;
/// `TCX_DROP`, which legacy tc calls `TC_ACT_SHOT`.
const TCX_DROP: i32 = 2;

/// `enum xdp_action` of linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
}

/// A packet to be judged. It lies in a map: so the verifier knows nothing of what it holds, and looks at one case instead of
/// at every way through the parser.
#[repr(C)]
pub struct Subject {
    pub key: FlowKey,
    pub packet: Packet,
    /// The link-layer address that claims a virtual address with this packet; 0 where it claims none.
    pub claimant: u64,
    pub piece: u8,
    /// A [`Parsed`].
    parsed: u8,
    /// Not 0 where the rule that dropped the packet wants it answered.
    answer: u8,
    /// The counter of the rule that dropped it.
    counter: u32,
    search: find::Search,
}

const IP: u8 = 0;
const NOT_IP: u8 = 1;
const SENSELESS: u8 = 2;

/// Goes on in the program that judges, if there is a policy, and comes back only if there is none.
#[inline(always)]
pub fn judge_elsewhere<const DIRECTION: u8>(context: &TcContext) {
    if settings().guarded != 0 {
        // SAFETY: the programs in the array are of this kind. A failed call goes on here, and only counts.
        unsafe { GUARD_PROGRAMS.tail_call(context, DIRECTION as u32) };
    }
}

/// Judges and counts a packet.
#[inline(always)]
pub fn packet<const DIRECTION: u8>(context: &TcContext) -> i32 {
    let Some(subject) = read::<DIRECTION>(context) else { return TCX_NEXT };
    subject.claimant = match subject.parsed {
        IP if watch::is_advertisement(subject.key.protocol(), subject.key.source_port()) => {
            watch::advertisement(context, DIRECTION)
        }
        NOT_IP => watch::arp(context, DIRECTION),
        _ => 0,
    };
    let subject = find::forget(subject);
    let verdict = verdict(context, subject);
    let marks = match subject.parsed {
        IP => count::flow(&subject.key, &subject.packet),
        other => {
            count::base_row(
                subject.key.interface(),
                subject.key.direction(),
                &subject.packet,
                other != NOT_IP,
            );
            0
        }
    };
    if verdict == Verdict::Drop {
        if DIRECTION == INGRESS && subject.answer != 0 {
            // SAFETY: the programs in the array are of this kind. After a failed call the packet ends unanswered.
            unsafe { GUARD_PROGRAMS.tail_call(context, ANSWER) };
        }
        return TCX_DROP;
    }
    count::look::<DIRECTION>(context, marks);
    TCX_NEXT
}

/// Reads a packet at a hook.
#[inline(always)]
pub fn read<const DIRECTION: u8>(context: &TcContext) -> Option<&'static mut Subject> {
    let skb = context.skb.skb;
    // SAFETY: the kernel hands over a valid context; the verifier checks every field access. The helper has no argument.
    let (interface, length, segments, tagged, tci, now) = unsafe {
        let skb = &*skb;
        (skb.ifindex, skb.len, skb.gso_segs, skb.vlan_present, skb.vlan_tci, bpf_jiffies64())
    };
    let vlan = if tagged != 0 { tci as u16 & 0x0fff } else { UNTAGGED };
    let before = Headers::new(interface, DIRECTION, vlan);
    let subject = place(length as u64, if segments > 1 { segments } else { 1 }, now)?;
    // SAFETY: the verifier knows the bounds of a packet.
    let plain = unsafe { plain_v4(context.data(), context.data_end(), &before) };
    if let Some((key, flags)) = plain {
        keep_plain(subject, key, flags);
    } else {
        let (parsed, headers) = count::read(context, before, length);
        keep(subject, parsed, &headers);
    }
    Some(find::forget(subject))
}

/// This CPU's place for a packet.
#[inline(always)]
fn place(length: u64, segments: u32, now: u64) -> Option<&'static mut Subject> {
    let subject = GUARD_SUBJECT.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and no packet comes in between: softirqs are off.
    let subject = unsafe { &mut *subject };
    subject.packet = Packet { length, segments: segments as u64, flags: 0, now };
    (subject.claimant, subject.answer) = (0, 0);
    Some(subject)
}

/// Puts there what the short way read.
#[inline(always)]
fn keep_plain(subject: &mut Subject, key: FlowKey, flags: u8) {
    (subject.key, subject.packet.flags, subject.piece, subject.parsed) = (key, flags, piece::WHOLE, IP);
}

/// Puts there what the long way read.
#[inline(always)]
fn keep(subject: &mut Subject, parsed: Parsed, headers: &Headers) {
    (subject.key, subject.packet.flags, subject.piece) = (headers.key(), headers.flags, headers.piece);
    subject.parsed = match parsed {
        Parsed::Ip => IP,
        Parsed::NotIp => NOT_IP,
        Parsed::Short | Parsed::Malformed => SENSELESS,
    };
}

/// Drops what a rule drops for sure, before the kernel makes a packet of it. Everything else goes on to the hook, where it is
/// judged and counted.
#[inline(always)]
pub fn early(context: &XdpContext) -> u32 {
    if settings().guarded != 0 && is_dropped_early(context).is_some() { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn is_dropped_early(context: &XdpContext) -> Option<()> {
    // SAFETY: the kernel hands over a valid context; the helper has no argument.
    let (interface, now) = unsafe { ((*context.ctx).ingress_ifindex, bpf_jiffies64()) };
    let mut headers = Headers::new(interface, INGRESS, UNTAGGED);
    let (start, end) = (context.data(), context.data_end());
    let subject = place((end - start) as u64, 1, now)?;
    // SAFETY: the verifier knows the bounds of a packet.
    if let Some((key, flags)) = unsafe { plain_v4(start, end, &headers) } {
        keep_plain(subject, key, flags);
    } else {
        // SAFETY: as above.
        let parsed = unsafe { parse(start, end, &mut headers) };
        keep(subject, parsed, &headers);
    }
    let subject = find::forget(subject);
    let slot = slot_in_force(now);
    let head = GUARD_HEADS.get_value(slot, &0)?;
    // The device may have taken the tag off, and who claims an address stands behind the headers: only the hook knows either.
    let claims = head.dimensions & dimension::CLAIM != 0
        && watch::is_advertisement(subject.key.protocol(), subject.key.source_port());
    if subject.parsed != IP || head.dimensions & dimension::VLAN != 0 || claims {
        return None;
    }
    if again::drop_again(subject, slot, head).is_some() {
        return Some(());
    }
    find::rules(context, slot, head, subject).filter(|verdict| *verdict == Verdict::Drop)?;
    again::remember(subject, slot, head);
    Some(())
}

/// Asks the set in force.
#[inline(always)]
pub fn verdict<F: Frame>(frame: &F, subject: &mut Subject) -> Verdict {
    let slot = slot_in_force(subject.packet.now);
    let Some(head) = GUARD_HEADS.get_value(slot, &0) else { return Verdict::Pass };
    match subject.parsed {
        NOT_IP if subject.claimant == 0 => Verdict::Pass,
        IP | NOT_IP => match find::rules(frame, slot, head, subject) {
            // Nothing decided, and what is behind so many extension headers is not known.
            None if subject.piece == piece::DEEP => unparsable(frame, head, subject),
            None => Verdict::Pass,
            Some(verdict) => verdict,
        },
        _ => unparsable(frame, head, subject),
    }
}

#[inline(never)]
fn unparsable<F: Frame>(frame: &F, head: &Head, subject: &Subject) -> Verdict {
    let dropped = head.drop_unparsable != 0;
    act::count(frame, subject, head.unparsable_counter, dropped);
    if dropped { Verdict::Drop } else { Verdict::Pass }
}

/// The slot whose rules hold now. The deadline of an unconfirmed set passes here, whether or not an agent lives.
#[inline(always)]
fn slot_in_force(now: u64) -> u32 {
    let Some(words) = GUARD_CONTROL.get_ptr_mut(0) else { return 0 };
    let word = |which: u32| {
        // SAFETY: in a map value; volatile, because the agent and other CPUs store it while we run.
        unsafe { words.cast::<u64>().add(which as usize).read_volatile() }
    };
    let control = Control(word(control::WORD));
    if control.is_expired(now) && word(control::EXPIRED) != control.0 {
        // SAFETY: as above; every CPU stores the same word.
        unsafe { words.cast::<u64>().add(control::EXPIRED as usize).write_volatile(control.0) }
    }
    control.slot(now, word(control::HEARTBEAT))
}
