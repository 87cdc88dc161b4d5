//! Weir's node agent: measures and enforces a node's datapath beside Cilium.

pub mod args;
pub mod capability;
pub mod ctl;
pub mod datapath;
pub mod export;
pub mod host;
pub mod model;
pub mod netlink;
pub mod probe;
pub mod state;
