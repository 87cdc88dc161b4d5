//! Shows what the agent of this node measures.

use std::process::ExitCode;

use clap::Parser;
use weir_agent::ctl::{self, Args};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ctl::main(Args::parse()).await
}
