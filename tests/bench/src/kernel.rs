//! The programs in the kernel, with pins of the benchmark's own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);
static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir.o")));
/// The agent's programs and those of the benchmarks.
pub(crate) static OBJECT: &[u8] = &ALIGNED.0;

/// A BPF file system that goes with its value.
pub(crate) struct BpfFs(pub(crate) PathBuf);

impl BpfFs {
    pub(crate) fn mount(label: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-bench-{}-{label}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a BPF file system; measurements need root")?;
        Ok(Self(path))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// All programs, those of the benchmarks too, with maps of their own.
pub(crate) fn load(names: &[&str]) -> Result<Ebpf> {
    let front = weir_ebpf::FRONT_SLOTS * aya::util::nr_cpus().map_err(|(_, error)| error)? as u32;
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("FRONT", front)
        .load(OBJECT)
        .context("cannot load the benchmark programs")?;
    for name in names {
        let program: &mut SchedClassifier = classifier(&mut ebpf, name)?;
        program.load().with_context(|| format!("cannot load {name}"))?;
    }
    Ok(ebpf)
}

pub(crate) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// Mean time of a run in ns, over so many.
pub(crate) fn time(ebpf: &mut Ebpf, name: &str, packet: &[u8], repeat: u32) -> Result<f64> {
    let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::default() };
    // The kernel tells whole ns a run: fine enough, as rounds scatter by more.
    Ok(classifier(ebpf, name)?.test_run(options)?.duration.as_nanos() as f64)
}

/// Runs on one processor from here on, so that rounds compare.
pub(crate) fn pin_to_last_cpu() -> Result<()> {
    let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)?.unwrap_or(1) as usize;
    let mut set = nix::sched::CpuSet::new();
    set.set(cpus - 1)?;
    Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?)
}

/// A TCP segment over IPv4 in an untagged frame of 64 octets.
pub(crate) fn segment() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 50, 0x12, 0x34, 0, 0, 64, 6, 0, 0, 10, 0, 0, 0, 10, 1, 0, 1]);
    frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.resize(64, 0);
    frame
}
