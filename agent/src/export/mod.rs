//! What leaves the agent: metrics and health over HTTP, and its own gRPC interface.

pub mod grpc;
pub mod http;
pub mod metrics;
pub mod proto;
pub mod readiness;
pub mod tally;
