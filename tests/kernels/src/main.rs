//! Boots kernels in virtual machines with the real agent inside, and prints what each check there said.
//!
//! Emulated (TCG): it needs no hardware support, and tells nothing of speed. See `docs/kernels.md`.

mod cpio;
mod image;
mod machine;
mod module;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use machine::{Machine, Outcome};

/// Runs the agent on other kernels.
#[derive(Parser)]
struct Args {
    /// Folders of kernels: each holds `vmlinuz` and a tree `modules` of what its packages bring.
    #[arg(required = true)]
    kernels: Vec<PathBuf>,
    /// Boot each kernel with these words on its command line as well.
    #[arg(long, default_value = "")]
    append: String,
    /// Print all that the machine says.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("kernels: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let scratch = std::env::temp_dir().join(format!("weir-kernels-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut sum = Outcome::default();
    for kernel in &args.kernels {
        let image = scratch.join("initramfs");
        let outcome = image::write(kernel, &image).and_then(|()| {
            Machine { kernel: kernel.join("vmlinuz"), image: &image, append: &args.append }.run(args.verbose)
        });
        match outcome {
            Ok(outcome) => sum = sum + outcome,
            Err(error) => {
                println!("  FAILED {}: {error:#}", kernel.display());
                sum.failed += 1;
            }
        }
    }
    std::fs::remove_dir_all(&scratch).ok();
    println!("{} checks passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    Ok(sum.failed == 0 && sum.passed > 0)
}
