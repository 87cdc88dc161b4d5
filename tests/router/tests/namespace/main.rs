//! What is configured through the API is really there: in the kernel, in FRR, in nftables, in leases, on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod bfd;
mod cable;
#[path = "../client/mod.rs"]
mod client;
#[path = "../lab/mod.rs"]
mod lab;
mod plant;
mod services;
