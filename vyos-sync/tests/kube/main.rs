//! vyos-sync in a cluster: a real API server, the stand-in router, and the program itself as people run it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod admission;
mod clusters;
mod crash;
mod drains;
mod faults;
mod leaders;
mod lifecycle;
mod machines;
mod places;
mod providers;
mod rig;
mod rights;
