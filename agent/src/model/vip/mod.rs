//! Virtual IP addresses: what was counted for them before any translation, and whether what should be so is so.
//!
//! [`judge`] is the truth table: it holds what is wanted against what is advertised, learned, answered and seen. It concludes
//! nothing from what nobody has told, and each finding names what it rests on.

mod book;
mod evidence;
mod explain;
mod judge;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod watched;
mod window;
mod wire;

use std::net::IpAddr;

use serde::Serialize;

use super::address::{Direction, IfIndex, Mac, Protocol};

pub use book::Book;
pub use evidence::{Answer, Evidence, NodeFacts, Owner, Session, Stray, Traffic, VipFacts};
pub use explain::{Explanation, Place, Step, Verdict, explain};
pub use judge::{Basis, Finding, Learned, Row, Wanted, judge, judge_one};
pub use state::VipState;
pub use table::Table;
pub use watched::{Claim, Recent, SPAN, StrayCount, Watched, owners};
pub use window::{Growth, Window};
pub use wire::sessions;

/// A LoadBalancer address that the node may be asked to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Vip(pub IpAddr);

/// One row of the ledger of virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VipCounters {
    /// The virtual address.
    pub vip: Vip,
    /// The port at the virtual address; `None` once a virtual address has used up its rows, and for protocols without ports.
    pub port: Option<u16>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Into or out of the node.
    pub direction: Direction,
    /// Where it was seen.
    pub interface: IfIndex,
    /// The outermost VLAN identifier, if tagged.
    pub vlan: Option<u16>,
    /// The next hop's link-layer address: source on ingress, destination on egress.
    pub hop: Mac,
    /// Packets, super-packets counted once.
    pub packets: u64,
    /// Octets from the link-layer header on.
    pub bytes: u64,
    /// TCP packets with SYN and without ACK.
    pub syn: u64,
    /// TCP packets with RST.
    pub rst: u64,
}
