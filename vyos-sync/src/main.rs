//! `vyos-sync`: the only place that reads arguments, prints results and chooses exit codes.

use std::process::ExitCode;

use clap::Parser as _;
use vyos_sync::{args::Cli, commands, task};

fn main() -> ExitCode {
    let cli = Cli::parse();
    task::log();
    if let Err(error) = task::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps cannot be forbidden");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes on one line; no cause holds a secret.
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
