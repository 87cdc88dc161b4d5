//! Queueing disciplines as the kernel describes them (`RTM_NEWQDISC`, linux/pkt_sched.h and linux/gen_stats.h).

use super::attribute::{after, attributes, u32_at};
use crate::model::address::IfIndex;

/// `struct tcmsg`.
const HEADER: usize = 20;
/// `TC_H_ROOT`.
const ROOT: u32 = u32::MAX;
/// `TCA_STATS_QUEUE`.
const STATS_QUEUE: u16 = 3;

/// The body of a request for the disciplines of all links.
pub(super) const REQUEST: [u8; HEADER] = [0; HEADER];

/// What the queueing disciplines of one interface dropped, and what waits in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) drops: u64,
    pub(super) waiting: u64,
}

/// The root discipline's counters. Those below it are not added: a root sums up its children when it is asked (`mq`,
/// `mqprio`) or when they drop (`qdisc_tree_reduce_backlog`), and `clsact` is not a queue.
pub(super) fn root(body: &[u8]) -> Option<(IfIndex, Queue)> {
    let interface = IfIndex::try_from(u32_at(body, 4)?).ok()?;
    if u32_at(body, 12)? != ROOT {
        return None;
    }
    let (_, stats) = attributes(after(body, HEADER)).find(|(number, _)| *number == libc::TCA_STATS2)?;
    let (_, queue) = attributes(stats).find(|(number, _)| *number == STATS_QUEUE)?;
    Some((interface, Queue { waiting: u32_at(queue, 0)?.into(), drops: u32_at(queue, 8)?.into() }))
}
