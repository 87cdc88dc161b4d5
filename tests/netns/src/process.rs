//! A program that was started here and ends with this value.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// A running program. On drop it is asked to end, and killed if it does not.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Start a program here, out of the reach of the terminal's Ctrl-C: whoever owns this value ends it, in order.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let child = command.process_group(0).spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its pipes, where it was started with some.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Wait up to `limit` for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        if let Some(descriptor) = self.descriptor() {
            let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], timeout).ok();
        }
        self.ended()
    }

    /// Ask it to end, wait, and kill it if it does not listen.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        if let Some(status) = self.wait(GRACE) {
            return Ok(status);
        }
        self.kill()
    }

    /// End it at once, as a crash would.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// A pidfd: readable once the process has ended (pidfd_open(2)).
    fn descriptor(&self) -> Option<OwnedFd> {
        // SAFETY: the call takes two integers; a result of 0 or more is a new descriptor that nobody else owns.
        unsafe {
            let descriptor = libc::syscall(libc::SYS_pidfd_open, self.child.id(), 0);
            i32::try_from(descriptor).ok().filter(|it| *it >= 0).map(|it| OwnedFd::from_raw_fd(it))
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop().ok();
    }
}

/// A program of this workspace that cargo built beside this program or test.
pub fn built(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests live in a folder `deps` below the programs.
    let mut places = own.ancestors().skip(1).take(2).map(|folder| folder.join(program));
    places
        .find(|path| path.is_file())
        .with_context(|| format!("there is no {program} beside this program: cargo build --workspace --bins"))
}
