//! The demo as a person meets it: it ends on Ctrl-C and on a start that fails, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use weir_netns::{Process, cgroup, gateway, namespace, reap};

/// From the signal to the end: agents detach, daemons end.
const LIMIT: Duration = Duration::from_secs(60);

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable().or_else(gateway::unavailable) {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-demo"));
    command.env("DEMO_SECONDS", "120").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everything on the machine that carries this process's name.
fn left_by(pid: u32) -> Vec<String> {
    let groups = cgroup::mount().unwrap_or_default();
    let folders = [Path::new(namespace::FOLDER), Path::new(reap::BPFFS), Path::new(reap::RUN), &groups];
    let entries = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let names = entries.map(|entry| entry.path().display().to_string());
    names.filter(|path| path.contains(&format!("/weir-{pid}-"))).collect()
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() -> Result<()> {
    skip_unless_available!("ctrl_c_ends_it_and_leaves_nothing");
    let mut process = Process::spawn(&mut demo())?;
    let mut lines = BufReader::new(process.child().stdout.take().context("piped")?).lines();
    // All of it runs once the router's line is on the screen.
    ensure!(lines.any(|line| line.is_ok_and(|line| line.starts_with("router "))), "the view never came");
    ensure!(!left_by(process.id()).is_empty(), "there is something to clean up");
    process.signal(Signal::SIGINT)?;
    let rest: String = lines.collect::<std::io::Result<Vec<_>>>()?.join("\n");
    let status = process.wait(LIMIT).context("it does not end")?;
    ensure!(rest.contains("interrupted") && rest.contains("cleaned up"), "{rest}");
    ensure!(status.success(), "{status}");
    assert_eq!(left_by(process.id()), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_nothing() -> Result<()> {
    skip_unless_available!("a_start_that_fails_leaves_nothing");
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("gobgpd");
    std::fs::write(&broken, "#!/bin/sh\necho no speaker today >&2\nexit 3\n")?;
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755))?;
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH")?);
    let mut process = Process::spawn(demo().env("PATH", path))?;
    let (mut output, mut complaint) = (String::new(), String::new());
    process.child().stdout.take().context("piped")?.read_to_string(&mut output)?;
    process.child().stderr.take().context("piped")?.read_to_string(&mut complaint)?;
    let status = process.wait(LIMIT).context("it does not end")?;
    ensure!(!status.success() && complaint.contains("no speaker today"), "{status}: {complaint}");
    ensure!(output.contains("cleaned up"), "{output}");
    assert_eq!(left_by(process.id()), Vec::<String>::new());
    Ok(())
}
