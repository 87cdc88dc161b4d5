//! Packets that the kernel gave up.

use serde::Serialize;

use super::address::{Direction, IfIndex};

/// Drops of one kind at one device, from the kernel's `kfree_skb` tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropCounters {
    /// The reason's name in the running kernel, lower case, without the `SKB_DROP_REASON_` prefix.
    pub reason: String,
    /// Where it happened.
    pub place: DropPlace,
    /// Dropped packets.
    pub packets: u64,
}

/// The device on which a packet was when it was dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropPlace {
    /// A device of the agent's own network namespace.
    Interface(IfIndex),
    /// A device of another network namespace, such as a pod's.
    OtherNamespace,
    /// No device, such as a packet made by the node itself before it was routed.
    NoDevice,
}

/// Packets that a rule of ours dropped at a hook. The kernel counts them too, as `tc_ingress` or `tc_egress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDrops {
    /// At which interface.
    pub interface: IfIndex,
    /// Which way they went.
    pub direction: Direction,
    /// `policy/rule`.
    pub rule: String,
    /// Dropped packets; one of GSO or GRO is one.
    pub packets: u64,
}
