//! The agent's composition root: the only place that starts tasks and sees every edge.

mod classes;
mod membership;
mod monitors;
mod run;
mod task;
mod vips;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use weir_agent::args::{Args, Command, Output};
use weir_agent::capability::{self, Colours};
use weir_agent::datapath::{Hooks, Pins, TcMode};
use weir_agent::netlink;

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Run(args) => run::run(*args),
        Command::Check { output, pin_dir } => check(output, &pin_dir),
        Command::Crds => crds(),
        Command::Detach { pin_dir } => detach(&pin_dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last word goes to whoever started the agent; that nobody reads it changes nothing.
            let _ = writeln!(std::io::stderr(), "weir-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(output: Output, pin_dir: &Path) -> anyhow::Result<()> {
    let report = capability::examine_as(pin_dir, &capability::STARTING)
        .context("cannot read the capabilities of this process")?;
    let mut out = std::io::stdout();
    let printed = match output {
        Output::Text => capability::table(&report, Colours::fit(&out), &mut out),
        Output::Json => capability::json(&report, &mut out),
    };
    printed.context("cannot print the report")
}

fn crds() -> anyhow::Result<()> {
    let definition = weir_agent::model::policy::definition();
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&definition)?)
        .context("cannot print the kinds")
}

fn detach(pin_dir: &Path) -> anyhow::Result<()> {
    if !pin_dir.exists() {
        writeln!(std::io::stdout(), "nothing to detach: {} does not exist", pin_dir.display())?;
        return Ok(());
    }
    let pins = Pins::hold(pin_dir)?;
    if Hooks::supported_mode() == TcMode::Legacy {
        for link in netlink::links()? {
            Hooks::detach_legacy(&link.name);
        }
    }
    pins.remove_all()?;
    writeln!(std::io::stdout(), "detached: nothing is left in {}", pin_dir.display())?;
    Ok(())
}
