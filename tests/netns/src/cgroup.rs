//! A cgroup v2 of a host's own, so that the sock_ops programs of several agents do not see each other's sockets.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::reap;

/// How long the members of a group may take to die after it was killed.
const DEATH: Duration = Duration::from_secs(10);

/// A control group; on drop its processes are killed and it is removed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Make a group below the root of the cgroup v2 tree.
    pub fn new(label: &str) -> Result<Self> {
        let path = mount()?.join(reap::unique(label));
        fs::create_dir(&path).with_context(|| format!("make control group {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder of the group.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Where cgroup v2 is mounted: /sys/fs/cgroup on most machines, a folder below it beside version 1.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .context("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// Kill the members of a group, wait for them, and remove it.
pub(crate) fn remove(path: &Path) {
    fs::write(path.join("cgroup.kill"), "1").ok();
    let deadline = Instant::now() + DEATH;
    while fs::remove_dir(path).is_err() && path.exists() && Instant::now() < deadline {
        changed(path);
    }
}

/// Wait until the group's `cgroup.events` changes (it tells when the last process is gone), 100 ms at most.
fn changed(path: &Path) {
    let Ok(events) = File::open(path.join("cgroup.events")) else { return };
    let mut descriptors = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
    poll(&mut descriptors, PollTimeout::from(100_u8)).ok();
}
