//! A child process that serves until it is stopped.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::process::{Child, Command};

/// See the module. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
}

const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

impl Daemon {
    /// Starts it and waits until `ready` says so.
    pub(super) async fn start(mut command: Command, ready: impl Fn() -> bool) -> Result<Self, String> {
        let child = command.spawn().map_err(|e| format!("{:?}: {e}", command.as_std().get_program()))?;
        let mut daemon = Self { child };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !ready() {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                return Err(format!("{:?} ended with {status}", command.as_std()));
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("{:?} is not ready", command.as_std()));
            }
            // Readiness is a file or a socket of the daemon's: there is nothing of ours to be woken by.
            tokio::time::sleep(GLANCE).await;
        }
        Ok(daemon)
    }

    /// Asks it to end, and makes it where it does not.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        if tokio::time::timeout(Duration::from_secs(3), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// A new file for what a daemon says.
pub(super) fn new_log(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// In how many lines of its log a daemon says this.
pub(super) fn log_says(path: &Path, words: &str) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.contains(words)).count()
}
