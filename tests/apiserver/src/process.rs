//! A program that ends with this value, or with the process that started it, however that ends.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts it, with all that it says in a file.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: prctl(2) is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        // The signal comes when the thread that started the child ends, so that thread never does.
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            send.send(command.spawn()).ok();
            loop {
                std::thread::park();
            }
        });
        receive.recv().map_err(io::Error::other)?.map(Self)
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(&mut self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).ok();
        self.0.wait().ok();
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
