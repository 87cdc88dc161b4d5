//! The loss ledger: where an interface's packets went missing, layer by layer, with what nobody explains.

use serde::Serialize;

use super::address::IfIndex;

/// Losses of one interface since the agent began to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossLedger {
    /// Which interface.
    pub interface: IfIndex,
    /// The rows, in the order in which a packet meets the layers.
    pub rows: Vec<LossRow>,
}

/// One layer's losses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossRow {
    /// The layer.
    pub layer: LossLayer,
    /// The reason, by the layer's own word.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// A layer that can lose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LossLayer {
    /// The device and its driver.
    Nic,
    /// The per-CPU backlog.
    Softnet,
    /// The queueing disciplines.
    Qdisc,
    /// The network stack, by drop reason.
    Kernel,
    /// Counted by a device as dropped, explained by no other row.
    Unexplained,
}
