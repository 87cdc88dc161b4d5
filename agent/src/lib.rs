//! Weir's node agent: measures and enforces a node's datapath beside Cilium.

pub mod args;
pub mod capability;
pub mod clock;
pub mod cluster;
pub mod ctl;
pub mod datapath;
pub mod durable;
pub mod enforce;
pub mod export;
pub mod host;
pub mod memory;
pub mod model;
pub mod netlink;
pub mod oidc;
pub mod owner;
pub mod probe;
pub mod state;
