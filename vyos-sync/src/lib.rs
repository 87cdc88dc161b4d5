//! Makes a VyOS router follow the clusters: planned, verified, owned.

pub mod apply;
pub mod config;
pub mod crd;
pub mod gather;
pub mod inputs;
pub mod plan;
pub mod secret;
pub mod vyos;
