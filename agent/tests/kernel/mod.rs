//! The real programs in the real kernel, with pins of the test's own.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "each test binary uses its part; what cannot be done fails the test, and a skip is told"
)]

pub mod rules;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use weir_agent::datapath::{Datapath, DropTypes, Guard, Hooks, Options, Pins, Targets, TcMode};
use weir_agent::model::address::IfIndex;

/// The loopback interface: crafted packets come through it.
pub const LOOPBACK: u32 = 1;

/// A BPF file system of the test's own.
pub struct BpfFs(pub PathBuf);

impl BpfFs {
    fn mount() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-bpffs-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>).ok()?;
        Some(Self(path))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// `None`, with a line that says so, where this machine cannot run BPF programs.
pub fn bpffs(test: &str) -> Option<BpfFs> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return None;
    }
    let mounted = BpfFs::mount();
    if mounted.is_none() {
        eprintln!("SKIPPED {test}: no BPF file system can be mounted here");
    }
    mounted
}

/// Loaded programs.
pub struct Kernel {
    pub datapath: Datapath,
    pub targets: Targets,
    pub guard: Guard,
}

impl Kernel {
    pub fn load(fs: &BpfFs) -> Self {
        let pins = Pins::hold(&fs.0.join("weir")).unwrap();
        // With the kernel's types, as the agent loads them: they become constants of the programs.
        let types = DropTypes::running().ok();
        let mut datapath = Datapath::load(pins, Options::default(), types.as_ref())
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        let targets = Targets::open(&datapath).unwrap();
        let hooks = Hooks::open(&datapath, TcMode::Tcx).unwrap();
        hooks.announce(IfIndex::try_from(LOOPBACK).unwrap(), "lo").unwrap();
        let guard = Guard::open(&mut datapath).unwrap_or_else(|error| panic!("{}", chain(&error)));
        Self { datapath, targets, guard }
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join("\n  because: ")
}
