//! What leaves the agent: metrics, health over HTTP, and its own gRPC interface.

pub mod proto;
