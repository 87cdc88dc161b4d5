//! Hosts in network namespaces: the lab of the demo, the tests and the benchmarks.
//!
//! A [`Host`] is a namespace with a control group of its own; [`Lab`] wires a client, a router and three nodes
//! together. [`packet`] crafts frames and [`wire`] puts them on a link, so that a test knows exactly what was sent;
//! [`traffic`] is what real programs would do. Everything made here is named `weir-<pid>-<n>-<label>` and removed on
//! drop, on Ctrl-C, and by the next process that finds the remains of a dead one.

pub mod agent;
pub mod bgpd;
pub mod cgroup;
pub mod counters;
pub mod follower;
pub mod foreign;
pub mod frr;
pub mod gateway;
pub mod host;
pub mod http;
pub mod namespace;
pub mod objects;
pub mod openmetrics;
pub mod packet;
pub mod pair;
pub mod process;
pub mod reap;
pub mod relay;
pub mod speaker;
pub mod topology;
pub mod traffic;
pub mod view;
pub mod wait;
pub mod wire;

pub use agent::Agent;
pub use bgpd::Bgpd;
pub use cgroup::Cgroup;
pub use counters::Counters;
pub use follower::Follower;
pub use foreign::Foreign;
pub use frr::Frr;
pub use gateway::Gateway;
pub use host::Host;
pub use namespace::Namespace;
pub use packet::Packet;
pub use pair::Pair;
pub use process::{Process, built};
pub use speaker::Speaker;
pub use topology::Lab;
pub use wire::Wire;

/// The reason why the lab cannot be built here, for the line `SKIPPED name: reason`; `None` where it can.
pub fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    Namespace::new("probe").err().map(|error| format!("{error:#}"))
}
