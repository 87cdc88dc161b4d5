//! The gRPC interface, generated from `proto/weir/v1/weir.proto`.

#![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated; the proto file documents it")]

tonic::include_proto!("weir.v1");
