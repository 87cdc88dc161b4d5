//! What the agent knows, in plain types. Pure: no input or output, time is an argument.

pub mod access;
pub mod address;
pub mod ambient;
pub mod bfd;
pub mod bgp;
pub mod capability;
pub mod class;
pub mod cluster;
pub mod drops;
pub mod flow;
pub mod host;
pub mod interface;
pub mod link;
pub mod loss;
pub mod measurement;
pub mod mesh;
pub mod neighbour;
pub mod policy;
pub mod probe;
pub mod program;
pub mod route;
pub mod tcp;
pub mod uplink;
pub mod vip;
pub mod word;
pub mod workload;
