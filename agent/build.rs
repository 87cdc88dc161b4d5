//! Builds what the agent is made of besides its own Rust: the datapath programs and the gRPC interface.

#[path = "build/ebpf.rs"]
mod ebpf;
#[path = "build/proto.rs"]
mod proto;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto::compile()?;
    if let Err(error) = ebpf::build(ebpf::Programs::Shipped) {
        // The way that cargo shows a failed build script: no backtrace, the message as it is.
        println!("cargo::error={}", error.replace('\n', "\ncargo::error="));
        std::process::exit(1);
    }
    Ok(())
}
