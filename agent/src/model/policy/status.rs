//! How enforcement is at one moment, and what can be asked of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::claim::Claim;
use super::kind::Mode;
use super::packet::Packet;
use super::problem::Problem;
use super::read::Source;
use crate::model::address::{Direction, IfIndex};
use crate::model::ambient::Talk;
use crate::model::flow::Flow;

/// How enforcement is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicyStatus {
    /// The set in force; 0 for none.
    pub active: u32,
    /// The set that the kernel goes back to; 0 for none.
    pub confirmed: u32,
    /// The set that waits to be confirmed.
    pub pending: Option<Pending>,
    /// Rules in force, and those whose counters are still there.
    pub rules: Vec<RuleStatus>,
    /// What is wrong with policies.
    pub problems: Vec<Problem>,
    /// How often a set was given up, by cause.
    pub reverts: BTreeMap<&'static str, u64>,
    /// Why policies would not outlive a reboot, if so.
    pub unkept: Option<String>,
    /// Pairs of workloads that guards of the mesh count.
    pub pairs: Vec<Pair>,
    /// What workloads of the mesh say to each other.
    pub talks: Vec<Talk>,
    /// Interfaces on which rules drop by XDP too: name and `native` or `generic`.
    pub early: Vec<(String, &'static str)>,
}

/// A set that waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pending {
    /// The set.
    pub generation: u32,
    /// Until the kernel goes back.
    pub left: Duration,
    /// Checks that have not passed yet.
    pub waits_for: Vec<String>,
}

/// What a rule has done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleStatus {
    /// Its policy.
    pub policy: String,
    /// Its name.
    pub rule: String,
    /// Its mode.
    pub mode: Mode,
    /// What it does, while it is in force.
    pub action: Option<&'static str>,
    /// Which way, while it is in force.
    pub direction: Option<Direction>,
    /// Packets that it let pass, marked or paced, or would have.
    pub passed: u64,
    /// Their octets.
    pub passed_bytes: u64,
    /// Packets that it dropped, or would have.
    pub dropped: u64,
    /// Their octets.
    pub dropped_bytes: u64,
    /// Packets that the failsafe saved from it.
    pub saved: u64,
    /// Time since its last packet.
    pub idle: Option<Duration>,
}

/// What passed between two workloads against a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// `policy/rule`.
    pub rule: String,
    /// Number of the rule's counter in the kernel.
    pub counter: u32,
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// Which rule decides on one packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// Said by the rules, asked one after the other.
    pub reference: Ruling,
    /// Said by the program in the kernel.
    pub kernel: Ruling,
    /// Whether both agree.
    pub agree: bool,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ruling {
    /// Whether it is dropped.
    pub dropped: bool,
    /// `policy/rule` that decided; `None` where none did.
    pub rule: Option<String>,
    /// Rules that matched, in order, with their modes.
    pub matched: Vec<(String, Mode)>,
}

/// A flow for which another policy would decide differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// The flow.
    pub flow: Flow,
    /// Whether it is dropped now, and by which rule.
    pub before: (bool, Option<String>),
    /// Whether it would be.
    pub after: (bool, Option<String>),
}

/// A claim of a virtual address on which another policy would decide differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangedClaim {
    /// The claim.
    pub claim: Claim,
    /// Where it was seen.
    pub interface: IfIndex,
    /// Whether it is dropped now, and by which rule.
    pub before: (bool, Option<String>),
    /// Whether it would be.
    pub after: (bool, Option<String>),
}

/// What another policy would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Flows that were looked at.
    pub flows: u64,
    /// Those that change.
    pub changed: Vec<Changed>,
    /// Claims that were looked at.
    pub claims: u64,
    /// Those that change.
    pub changed_claims: Vec<ChangedClaim>,
    /// What is wrong with the other policy.
    pub problems: Vec<Problem>,
}

/// A packet that a rule dropped, or would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropEvent {
    /// Time since boot.
    pub time: Duration,
    /// `policy/rule`.
    pub rule: String,
    /// The rule's mode.
    pub mode: Mode,
    /// Where.
    pub interface: IfIndex,
    /// Which way.
    pub direction: Direction,
    /// Whether the failsafe saved it.
    pub saved: bool,
    /// Whether it was dropped before the hook, by XDP.
    pub early: bool,
    /// Its length in octets.
    pub length: u32,
    /// Its first octets.
    pub octets: Vec<u8>,
}

/// Something cannot be done.
#[derive(Debug, Error)]
pub enum EnforcementError {
    /// Not now: the text says why, and the way out.
    #[error("{0}")]
    NotNow(String),
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Kernel(String),
}

/// What can be asked of enforcement. Calls block for as long as the kernel takes.
pub trait Enforcement: Send + Sync {
    /// How it is.
    ///
    /// # Errors
    /// When counters cannot be read.
    fn status(&self) -> Result<PolicyStatus, EnforcementError>;

    /// Confirms the pending set, whatever the checks say.
    ///
    /// # Errors
    /// When none is pending.
    fn confirm(&self) -> Result<u32, EnforcementError>;

    /// Goes back to the confirmed set.
    ///
    /// # Errors
    /// When none is pending.
    fn revert(&self) -> Result<u32, EnforcementError>;

    /// Which rule decides on a packet. The program in the kernel really runs: its counters move.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn trace(&self, packet: &Packet) -> Result<Trace, EnforcementError>;

    /// What other policies would have done to flows.
    ///
    /// # Errors
    /// When there is no class table.
    fn diff(&self, sources: &[Source], flows: &[Flow]) -> Result<Difference, EnforcementError>;
}
