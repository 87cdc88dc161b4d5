//! What the agent itself costs and what it may have missed.

use std::time::Duration;

use serde::Serialize;

/// Cost of one BPF program, from the kernel's run-time statistics (`kernel.bpf_stats_enabled`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramCost {
    /// The program's name.
    pub program: String,
    /// Runs while statistics were on.
    pub runs: u64,
    /// Time spent in those runs, the clock's own cost included.
    pub run_time: Duration,
    /// Kernel memory of the program.
    pub memory_bytes: u64,
}

/// How full a BPF map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapFill {
    /// The map's name.
    pub map: String,
    /// Entries in use, where that can be told.
    pub entries: u64,
    /// Entries at most.
    pub capacity: u64,
    /// Kernel memory of the map.
    pub memory_bytes: u64,
}

/// Counts of what the datapath could not record in full; nothing of it is lost from the interface counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// Flows that made room for newer ones.
    pub flows_evicted: u64,
    /// Packets that found no flow entry and could not make one.
    pub flow_insert_failures: u64,
    /// Packets of virtual addresses or classes that went to the overflow row, because the ledger was full.
    pub ledger_overflow: u64,
    /// Events that did not fit into the ring to user space.
    pub events_lost: u64,
}
