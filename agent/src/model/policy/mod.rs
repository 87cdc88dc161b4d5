//! Policy: what packets may pass. Policies are read into rules that make sense, said plainly by [`reference`], and compiled into
//! the maps of the datapath by [`compile`]; both must decide the same.

mod check;
mod claim;
mod compile;
mod crd;
pub mod failsafe;
mod guards;
pub mod kind;
mod packet;
mod prefixes;
mod problem;
mod read;
pub mod reference;
mod rule;
mod status;
mod values;
mod world;

pub use claim::Claim;
pub use compile::{CompileError, Contents, compile};
pub use crd::definition;
pub use guards::mesh_security;
pub use packet::{Packet, read as read_frame};
pub use prefixes::{Table, Tables};
pub use problem::{Problem, Reason};
pub use read::{LARGEST_SET, Source, read};
pub use rule::{Action, Addresses, Budget, Rule, RuleSet, Unit, Vital};
pub use status::{
    Changed, ChangedClaim, Difference, DropEvent, Enforcement, EnforcementError, Pair, Pending, PolicyStatus,
    RuleStatus, Ruling, Trace,
};
pub use world::{Served, World};

#[cfg(test)]
mod tests;
