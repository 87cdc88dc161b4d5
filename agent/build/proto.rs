//! Compiles the gRPC interface without `protoc`.

use std::error::Error;

/// Compiles `proto/weir/v1/weir.proto` into `OUT_DIR`.
pub(crate) fn compile() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["weir/v1/weir.proto"], ["proto"])?;
    tonic_prost_build::configure().type_attribute(".", "#[derive(serde::Serialize)]").compile_fds(files)?;
    Ok(())
}
