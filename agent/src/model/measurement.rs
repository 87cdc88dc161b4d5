//! Everything that is read afresh when somebody asks, not kept.

use serde::Serialize;
use thiserror::Error;

use super::class::ClassCounters;
use super::drops::{DropCounters, RuleDrops};
use super::flow::Flow;
use super::host::HostCounters;
use super::interface::InterfaceCounters;
use super::policy::PolicyStatus;
use super::program::{MapFill, ProgramCost, Shortfall};
use super::tcp::{TcpCounters, TcpPeer};
use super::vip::VipCounters;

/// The datapath's counters at one moment. Counters never go backwards while the agent's maps stay pinned.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measurement {
    /// Per hook.
    pub interfaces: Vec<InterfaceCounters>,
    /// Per virtual address, port, VLAN and next hop.
    pub vips: Vec<VipCounters>,
    /// Per traffic class.
    pub classes: Vec<ClassCounters>,
    /// Per class of local TCP sockets.
    pub tcp: Vec<TcpCounters>,
    /// Per peer prefix of local TCP sockets.
    pub tcp_peers: Vec<TcpPeer>,
    /// Kernel drops.
    pub drops: Vec<DropCounters>,
    /// Drops by our own rules.
    pub rule_drops: Vec<RuleDrops>,
    /// The agent's own programs.
    pub programs: Vec<ProgramCost>,
    /// The agent's own maps.
    pub maps: Vec<MapFill>,
    /// What could not be recorded in full.
    pub shortfall: Shortfall,
}

/// Where measurements come from. Reading costs about a millisecond and never blocks on the network.
pub trait Source: Send + Sync {
    /// Reads the datapath's counters.
    ///
    /// # Errors
    /// When a map cannot be read; the text names it.
    fn measure(&self) -> Result<Measurement, SourceError>;

    /// Reads the counters of virtual addresses alone: cheap enough for every other second.
    ///
    /// # Errors
    /// As [`Self::measure`].
    fn vips(&self) -> Result<Vec<VipCounters>, SourceError> {
        Ok(self.measure()?.vips)
    }

    /// Reads the flow table.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn flows(&self) -> Result<Vec<Flow>, SourceError>;

    /// Reads the kernel's own counters of this host (`/proc`, netlink).
    ///
    /// # Errors
    /// When none of them can be read.
    fn host(&self) -> Result<HostCounters, SourceError>;

    /// Reads what rules did; `None` where nothing is enforced.
    fn policy(&self) -> Option<Result<PolicyStatus, SourceError>> {
        None
    }
}

/// A source could not be read.
#[derive(Debug, Error)]
#[error("cannot read {what}")]
pub struct SourceError {
    /// What was to be read.
    pub what: String,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
