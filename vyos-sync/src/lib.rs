//! Makes a VyOS router follow the clusters: planned, verified, owned.

pub mod apply;
pub mod args;
pub mod commands;
pub mod compile;
pub mod config;
pub mod crd;
pub mod definitions;
pub mod doctor;
pub mod export;
pub mod gather;
pub mod import;
pub mod inputs;
pub mod intent;
pub mod live;
pub mod numbering;
pub mod pacing;
pub mod plan;
pub mod reconcile;
pub mod recording;
pub mod render;
pub mod secret;
pub mod status;
pub mod store;
pub mod task;
pub mod vyos;
