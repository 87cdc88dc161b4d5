//! Which nodes the router should send no traffic, and when: by their own word, and before their Machine is deleted. Pure:
//! time is an argument, and what was seen of the router is too.

mod drain;
mod health;
mod paths;

pub use drain::{Drains, Evidence, Hook, Release, Stage};
pub use health::{Gate, Limits, Nodes, Verdict};
pub use paths::Paths;
