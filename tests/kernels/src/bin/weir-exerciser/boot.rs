//! What an init system would have done.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

/// Mounts what programs expect, and loads all modules. Returns those that the kernel refused, with its reason.
pub(crate) fn prepare() -> Result<Vec<String>> {
    // SAFETY: nothing else runs in this process yet that could read the environment.
    unsafe { std::env::set_var("PATH", "/bin") };
    for (what, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("securityfs", "/sys/kernel/security"),
    ] {
        mount(Some(what), at, Some(what), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {what} on {at}"))?;
    }
    let mut modules: Vec<_> = fs::read_dir("/modules")?.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    let refused = |path: &Path| load(path).err().map(|error| format!("{}: {error:#}", path.display()));
    Ok(modules.iter().filter_map(|path| refused(path)).collect())
}

fn load(path: &Path) -> Result<()> {
    let parameters = if path.ends_with("bonding") { c"max_bonds=0" } else { c"" };
    Ok(finit_module(fs::File::open(path)?, &CString::from(parameters), ModuleInitFlags::empty())?)
}

/// What the kernel says of its lockdown, once it is mounted; else what its command line asks for.
pub(crate) fn lockdown() -> String {
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>);
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().find(|word| word.starts_with("lockdown=")).unwrap_or("no lockdown").to_owned()
}
