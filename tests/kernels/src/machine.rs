//! One virtual machine from its start to its end.

use std::io::{BufRead, BufReader};
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use weir_netns::Process;

/// How long a machine may take; emulated, most take a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// What to boot.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: PathBuf,
    pub(crate) image: &'a Path,
    pub(crate) append: &'a str,
}

/// How many checks passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Add for Outcome {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// A line of the exerciser; others are the kernel's.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Title(&'a str),
    Passed(&'a str),
    Failed(&'a str),
    Skipped(&'a str),
    End,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_, line) = line.split_once("@weir ")?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "kernel" => Self::Title(rest),
            "ok" => Self::Passed(rest),
            "FAILED" => Self::Failed(rest),
            "SKIPPED" => Self::Skipped(rest),
            "end" => Self::End,
            _ => return None,
        })
    }
}

impl Machine<'_> {
    /// Boots it, prints a line a check, and returns when the machine is off.
    pub(crate) fn run(&self, verbose: bool) -> Result<Outcome> {
        let mut process = Process::spawn(&mut self.command())?;
        let console = process.child().stdout.take().context("the machine has no console")?;
        let (lines, said) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let lost = |line: std::io::Result<Vec<u8>>| {
                line.ok().map(|line| String::from_utf8_lossy(&line).into_owned())
            };
            BufReader::new(console).split(b'\n').map_while(lost).all(|line| lines.send(line).is_ok())
        });
        let outcome = self.follow(&said, verbose);
        // After the last line the machine switches itself off; a stuck one is ended here.
        process.wait(Duration::from_secs(10));
        drop(process);
        drop(said);
        reader.join().ok();
        outcome
    }

    fn follow(&self, said: &mpsc::Receiver<String>, verbose: bool) -> Result<Outcome> {
        let (began, mut last, mut outcome) = (Instant::now(), Vec::new(), Outcome::default());
        loop {
            let left = LIMIT.saturating_sub(began.elapsed());
            let Ok(line) = said.recv_timeout(left) else {
                bail!(
                    "it ended or hung after {} s, having said:\n{}",
                    began.elapsed().as_secs(),
                    last.join("\n")
                );
            };
            let line = line.trim_end();
            if verbose {
                println!("    | {line}");
            }
            match Line::parse(line) {
                Some(Line::Title(kernel)) => println!("Linux {kernel}"),
                Some(Line::Passed(what)) => {
                    println!("  ok      {what}");
                    outcome.passed += 1;
                }
                Some(Line::Failed(what)) => {
                    println!("  FAILED  {what}");
                    outcome.failed += 1;
                }
                Some(Line::Skipped(what)) => {
                    println!("  SKIPPED {what}");
                    outcome.skipped += 1;
                }
                Some(Line::End) => {
                    println!("  {} s", began.elapsed().as_secs());
                    return Ok(outcome);
                }
                None => {
                    last.push(line.to_owned());
                    if last.len() > 40 {
                        last.remove(0);
                    }
                }
            }
        }
    }

    /// One processor: with more, QEMU 7.2 lets guests fault in `cmpxchg16b`.
    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg",
            "-cpu",
            "max,-la57",
            "-smp",
            "1",
            "-m",
            "1024",
            "-nodefaults",
            "-no-reboot",
        ]);
        command.args(["-display", "none", "-serial", "stdio"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(self.image);
        command.args(["-append", &format!("console=ttyS0 panic=-1 quiet {}", self.append)]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_exerciser_are_told_from_the_kernels() {
        assert_eq!(
            Line::parse("[    2.1] x: @weir ok vlan: 200 packets"),
            Some(Line::Passed("vlan: 200 packets"))
        );
        assert_eq!(Line::parse("@weir end"), Some(Line::End));
        assert_eq!(Line::parse("@weir nonsense"), None);
        assert_eq!(Line::parse("[    0.0] Linux version 6.1"), None);
    }
}
