//! The kernel's own counters of this host.

use std::collections::BTreeMap;

use serde::Serialize;

use super::address::IfIndex;
use super::link::LinkCounters;

/// Kernel counters outside the agent's datapath. What could not be read is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostCounters {
    /// Fill of the connection-tracking table.
    pub conntrack: Option<Conntrack>,
    /// `/proc/net/softnet_stat`, a row a CPU.
    pub softnet: Vec<Softnet>,
    /// Counters of `/proc/net/snmp`, `/proc/net/snmp6` and `/proc/net/netstat` as (table, name, value), such as ("Tcp", "RetransSegs", 7).
    pub snmp: Vec<SnmpCounter>,
    /// The links' own counters, fresher than those of the snapshot.
    pub links: BTreeMap<IfIndex, LinkCounters>,
}

/// Fill of the connection-tracking table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Conntrack {
    /// Entries now (`nf_conntrack_count`).
    pub entries: u64,
    /// Entries at most (`nf_conntrack_max`).
    pub limit: u64,
}

/// One CPU's row of `/proc/net/softnet_stat` (net/core/net-procfs.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Softnet {
    /// The CPU.
    pub cpu: u32,
    /// Packets taken off the queue.
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// Times the budget or time of one poll ran out.
    pub time_squeeze: u64,
    /// Packets now in the backlog.
    pub backlog: u64,
}

/// A counter of the SNMP tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnmpCounter {
    /// The table, such as `Ip`, `Udp6` or `TcpExt`.
    pub table: String,
    /// The counter, such as `InDiscards`.
    pub name: String,
    /// Its value.
    pub value: u64,
}
