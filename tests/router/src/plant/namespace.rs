//! Runs programs in the network namespace that is the router.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The namespace to program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A named one, as `ip netns add` makes it.
    Named(String),
    /// The one that this process is in.
    Own,
}

impl Namespace {
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Own => "own",
        }
    }

    /// The program, to be started in the namespace. It ends with its handle.
    pub(super) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = match self {
            Self::Named(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
            Self::Own => Command::new(program),
        };
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end: what it printed, or its complaint.
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        self.feed(program, arguments, "").await
    }

    /// The same with an input.
    pub(super) async fn feed(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let failed = |e: std::io::Error| format!("{program}: {e}");
        let mut command = self.command(program, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read says why by its exit.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned())
    }
}
