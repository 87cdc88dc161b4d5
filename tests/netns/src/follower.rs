//! A `weirctl` that follows something: its lines, as they come.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Process;

/// How long a line may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running `weirctl`. On drop it ends.
#[derive(Debug)]
pub struct Follower {
    _process: Process,
    lines: Receiver<String>,
}

impl Follower {
    /// Follow a process that was started with a pipe for what it prints.
    pub fn new(mut process: Process) -> Result<Self> {
        let output = process.child().stdout.take().context("the process has no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { _process: process, lines })
    }

    /// The next line with this text; those before it are passed over.
    pub fn await_line(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return Ok(line);
            }
            seen.push(line);
        }
        bail!("no line with {text:?} in {} s, only:\n{}", LIMIT.as_secs(), seen.join("\n"))
    }
}
