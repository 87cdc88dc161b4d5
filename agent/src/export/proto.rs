//! The gRPC interface, generated from `proto/weir/v1/weir.proto`.

#![allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated; the proto file documents it"
)]

tonic::include_proto!("weir.v1");
