//! A flood is mostly the same packet again: the last one that was dropped early is remembered on each CPU, and what rules cannot
//! tell from it goes the same way, for the price of a comparison.

use weir_ebpf::FlowKey;
use weir_ebpf::rules::{Head, dimension};

use super::Subject;
use crate::maps::*;

/// For so many jiffies. Then rules are asked again, which sends their events, and takes in what changed beside them: the node's
/// resolvers.
const HOLD: u64 = 25;
/// Whether its answers are saved depends on who sends them, which rules need not look at.
const DNS: u16 = 53;

/// The last packet that was dropped.
#[repr(C)]
pub struct Dropped {
    key: FlowKey,
    /// Its [`shape`]; of no packet before there is one.
    shape: u64,
    since: u64,
    counter: u32,
    reserved: u32,
}

/// What beside its key decides a packet's fate: TCP flags, which piece it is, and the set that judges it.
#[inline(always)]
fn shape(subject: &Subject, slot: u32, head: &Head) -> u64 {
    subject.packet.flags as u64
        | (subject.piece as u64) << 8
        | (slot as u64) << 16
        | (head.build as u64) << 32
}

/// Counts a packet that is like the last one that was dropped. `None` where it is not.
#[inline(always)]
pub(super) fn drop_again(subject: &Subject, slot: u32, head: &Head) -> Option<()> {
    // SAFETY: the element is this CPU's own, and no packet comes in between: softirqs are off.
    let last = unsafe { &*GUARD_DROPPED.get_ptr(0)? };
    if last.shape != shape(subject, slot, head)
        || subject.packet.now - last.since >= HOLD
        || !last.key.is_like(
            &subject.key,
            head.dimensions & dimension::SOURCE != 0,
            head.dimensions & dimension::DESTINATION != 0,
        )
    {
        return None;
    }
    // SAFETY: as above.
    let counts = unsafe { &mut *RULE_COUNTS.get_ptr_mut(last.counter)? };
    counts.last = subject.packet.now;
    counts.dropped += subject.packet.segments;
    counts.dropped_bytes += subject.packet.length;
    Some(())
}

/// Remembers a packet that a rule has dropped.
#[inline(always)]
pub(super) fn remember(subject: &Subject, slot: u32, head: &Head) {
    // Classes have tables of their own, which change without a new set.
    if head.dimensions & dimension::CLASS != 0 || subject.key.source_port() == DNS {
        return;
    }
    let Some(last) = GUARD_DROPPED.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let last = unsafe { &mut *last };
    (last.key, last.shape) = (subject.key, shape(subject, slot, head));
    (last.since, last.counter) = (subject.packet.now, subject.counter);
}
