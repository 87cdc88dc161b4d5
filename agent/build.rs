//! Builds what the agent is made of besides its own Rust.

#[path = "build/proto.rs"]
mod proto;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto::compile()?;
    Ok(())
}
