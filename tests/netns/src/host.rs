//! A host of the lab: a network namespace, and a control group for its processes.

use std::ffi::OsStr;
use std::ops::Deref;
use std::process::Command;

use anyhow::Result;

use crate::{Cgroup, Namespace, Process};

/// A namespace and a control group that share a label. All of [`Namespace`] is at hand on a host.
#[derive(Debug)]
pub struct Host {
    // The group goes first: it kills what still runs inside.
    cgroup: Cgroup,
    namespace: Namespace,
}

impl Host {
    /// Make a host without any link but loopback.
    pub fn new(label: &str) -> Result<Self> {
        Ok(Self { cgroup: Cgroup::new(label)?, namespace: Namespace::new(label)? })
    }

    /// The control group of everything that [`Host::start`] starts.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// A command for a program that joins this host's control group; add arguments to it as to any other.
    ///
    /// A shell moves itself into the group and becomes the program, so the process id is that of the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(self.cgroup.path().join("cgroup.procs"));
        command.arg(program);
        command
    }

    /// Start a command in this host's namespace.
    pub fn start(&self, command: &mut Command) -> Result<Process> {
        self.run(|| Process::spawn(command))
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
