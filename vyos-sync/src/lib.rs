//! Makes a VyOS router follow the clusters: planned, verified, owned.

pub mod config;
pub mod plan;
