//! The Kubernetes kinds that `weir-agent` writes and `vyos-sync` reads, and how both read objects from files. The two meet nowhere
//! else.

pub mod manifest;
mod node;

pub use node::{
    BfdWord, BgpWord, CapabilityState, CapabilityWord, Carries, LinkWord, NodeDatapath, NodeDatapathSpec,
    NodeDatapathStatus, Reason, Routing, VipFault, VipWord, VipsWord,
};

/// The API group.
pub const GROUP: &str = "weir.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";

/// The most entries of one list in a status. What is beyond is counted, so that an object stays small.
pub const LONGEST_LIST: usize = 32;
