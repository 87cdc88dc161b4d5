//! A network namespace, named under /run/netns so that `ip netns exec` finds it, and removed on drop.
//!
//! Code enters it on a thread of its own by setns(2), which leaves the mounts alone: /sys/fs/bpf and the control groups
//! stay in sight. (`ip netns exec` mounts a fresh /sys.)

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

use crate::reap;

/// Where iproute2 keeps namespaces by name.
pub const FOLDER: &str = "/run/netns";

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Make a namespace with its loopback up. Link-local addresses of its links are ready at once: while the kernel looks
    /// for duplicates of them, about a second, it solicits no neighbour.
    pub fn new(label: &str) -> Result<Self> {
        let name = reap::unique(label);
        succeed(Command::new("ip").args(["netns", "add", &name]))?;
        let file = File::open(Path::new(FOLDER).join(&name)).context("open the new namespace")?;
        let namespace = Self { name, file };
        namespace.ip("link set lo up")?;
        for which in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{which}/accept_dad"), "0")?;
        }
        Ok(namespace)
    }

    /// The name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Run `work` on a thread inside this namespace, and wait for it. Processes that it starts are inside, too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
                work()
            });
            thread.join().map_err(|_| anyhow!("a thread in {} panicked", self.name))?
        })
    }

    /// Start a thread inside this namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.file.try_clone()?;
        Ok(std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
            work()
        }))
    }

    /// Run a program inside to its end and return what it printed. A status other than 0 is an error.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.run(|| succeed(command))
    }

    /// `ip -n NAME ARGS`, with the arguments separated by spaces.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        succeed(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace())).map(drop)
    }

    /// Every line as one `ip` command in one batch, in order; the first that fails ends it.
    pub fn ip_all(&self, lines: &str) -> Result<()> {
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).try_for_each(|line| self.ip(line))
    }

    /// Set a sysctl under `net`, for example `ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display())))
    }

    /// Connect this namespace to another by a veth pair, both ends up.
    pub fn veth(&self, name: &str, other: &Namespace, other_name: &str) -> Result<()> {
        let (own, peer) = (&self.name, &other.name);
        let pair = format!("link add {name} netns {own} type veth peer name {other_name} netns {peer}");
        succeed(Command::new("ip").args(pair.split_whitespace()))?;
        self.ip(&format!("link set {name} up"))?;
        other.ip(&format!("link set {other_name} up"))
    }

    /// Give an interface an address with its prefix length. IPv6 addresses are ready at once (no duplicate detection).
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{nodad}"))
    }

    /// The link-layer address of an interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let link = self.link(interface)?;
        let text = link["address"].as_str().context("the link has no address")?;
        let mut mac = [0; 6];
        for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(digits, 16).with_context(|| format!("link address {text}"))?;
        }
        Ok(mac)
    }

    /// The index of an interface in this namespace.
    pub fn index(&self, interface: &str) -> Result<u32> {
        let index = self.link(interface)?["ifindex"].as_u64().context("the link has no index")?;
        Ok(u32::try_from(index)?)
    }

    fn link(&self, interface: &str) -> Result<serde_json::Value> {
        let arguments = ["-n", &self.name, "-j", "link", "show", "dev", interface];
        let output = succeed(Command::new("ip").args(arguments))?;
        let mut links: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
        links.pop().with_context(|| format!("{} has no interface {interface}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&Path::new(FOLDER).join(&self.name));
    }
}

/// Remove a namespace by its file. The kernel keeps it until the last process has left.
pub(crate) fn remove(path: &Path) {
    if let Some(name) = path.file_name() {
        succeed(Command::new("ip").args(["netns", "del"]).arg(name)).ok();
    }
}

/// Run a command to its end; its own words are in the error if it fails.
pub fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// Whether a program is on PATH.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
