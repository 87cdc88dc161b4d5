//! Makes a VyOS router follow the clusters: planned, verified, owned.

pub mod config;
pub mod crd;
pub mod gather;
pub mod inputs;
pub mod plan;
pub mod vyos;
