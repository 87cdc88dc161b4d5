//! The real programs in the real kernel, on crafted packets (BPF_PROG_TEST_RUN): what goes in is what is counted.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use weir_agent::datapath::{Btf, Datapath, Hooks, Options, Pins, Reader, Targets, TcMode};
use weir_agent::model::address::{Direction, IfIndex};
use weir_agent::model::class::Class;
use weir_agent::model::vip::Vip;

/// The loopback interface: crafted packets come through it.
const LOOPBACK: u32 = 1;

/// A BPF file system of the test's own.
struct BpfFs(PathBuf);

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

struct Loaded {
    datapath: Datapath,
    reader: Reader,
    targets: Targets,
    hooks: Hooks,
}

fn load(root: &Path) -> Loaded {
    let btf = Btf::running().unwrap();
    let pins = Pins::hold(&root.join("weir")).unwrap();
    let mut datapath = Datapath::load(pins, Options::default(), Some(&btf)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let targets = Targets::open(&datapath).unwrap();
    let hooks = Hooks::open(&datapath, TcMode::Tcx).unwrap();
    hooks.attach(&mut datapath, IfIndex::try_from(LOOPBACK).unwrap(), "lo").unwrap();
    hooks.detach(&datapath, IfIndex::try_from(LOOPBACK).unwrap(), "lo");
    let reader = Reader::open(&datapath, Some(&btf)).unwrap();
    Loaded { datapath, reader, targets, hooks }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!("\n  because: {error}");
        source = error.source();
    }
    text
}

/// `None`, with a line that says so, where this machine cannot run BPF programs.
fn bpffs(test: &str) -> Option<BpfFs> {
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

#[test]
fn bench_quick() {
    let Some(fs) = bpffs("bench_quick") else { return };
    let mut loaded = load(&fs.0);
    let packet = tcp4();
    let program: &SchedClassifier = loaded.datapath.classifier("weir_ingress").unwrap();
    for _ in 0..7 {
        let options = TestRunOptions { data_in: Some(&packet), repeat: 1_000_000, ..TestRunOptions::default() };
        let result = program.test_run(options).unwrap();
        println!("{} {:?}", result.return_value as i32, result.duration);
    }
    let m = loaded.reader.measure().unwrap();
    println!("{m:#?}");
    println!("{:#?}", loaded.reader.flows().unwrap());
}

fn tcp4() -> Vec<u8> {
    let mut p = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 10, 50, 10];
    p.extend([0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    p.resize(64, 0);
    p
}
