//! Stand-ins for other people's programs on a hook: they count their runs and return one fixed verdict.
//!
//! Raw bpf(2) calls, so that nothing of the agent's own loading is trusted in a test of the agent.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::Namespace;

/// What a program tells the hook (linux/bpf.h, `enum tcx_action_base`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with the next program.
    Next = -1,
    /// The chain ends, the packet passes: what Cilium does.
    Pass = 0,
}

/// Where in the chain a program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all that are there.
    Head = 1 << 3,
    /// After all that are there.
    Tail = 1 << 4,
}

/// A foreign program on the TCX ingress hook of an interface, or on its XDP; it goes with this value.
#[derive(Debug)]
pub struct Foreign {
    program: OwnedFd,
    _link: OwnedFd,
    _statistics: OwnedFd,
}

impl Foreign {
    /// Attach a program that returns `verdict`.
    pub fn attach(namespace: &Namespace, interface: &str, place: Place, verdict: Verdict) -> Result<Self> {
        let index = namespace.index(interface)?;
        let program = load(SCHED_CLS, verdict as i32).context("load a stand-in program")?;
        let hook = TCX_INGRESS | (place as u64) << 32;
        let link = namespace.run(|| Ok(link(&program, index, hook)?)).context("attach a stand-in program")?;
        Ok(Self { program, _link: link, _statistics: enable_statistics().context("BPF statistics")? })
    }

    /// Attach a program to an interface's XDP, where there is room for one: it lets everything pass.
    pub fn attach_xdp(namespace: &Namespace, interface: &str) -> Result<Self> {
        let index = namespace.index(interface)?;
        let program = load(XDP, XDP_PASS).context("load a stand-in program")?;
        let link =
            namespace.run(|| Ok(link(&program, index, XDP_HOOK)?)).context("attach a stand-in program")?;
        Ok(Self { program, _link: link, _statistics: enable_statistics().context("BPF statistics")? })
    }

    /// How often it ran since it was attached.
    pub fn runs(&self) -> Result<u64> {
        let mut info = [0_u64; 27];
        let length = u32::try_from(size_of_val(&info))?;
        let words = [self.program.as_raw_fd().cast_unsigned(), length];
        let mut attribute =
            attribute(&[u64::from(words[0]) | u64::from(words[1]) << 32, info.as_mut_ptr() as u64]);
        call(OBJ_GET_INFO_BY_FD, &mut attribute).context("read a stand-in's counter")?;
        Ok(info[RUN_COUNT])
    }
}

// Commands of bpf(2) and constants of linux/bpf.h.
const PROG_LOAD: i64 = 5;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const LINK_CREATE: i64 = 28;
const ENABLE_STATS: i64 = 32;
const SCHED_CLS: u64 = 3;
const XDP: u64 = 6;
const TCX_INGRESS: u64 = 46;
const XDP_HOOK: u64 = 37;
const XDP_PASS: i32 = 2;
/// `run_cnt` is at byte 200 of `struct bpf_prog_info`.
const RUN_COUNT: usize = 200 / 8;

/// A zeroed `union bpf_attr` that begins with these words.
fn attribute(words: &[u64]) -> [u64; 18] {
    let mut attribute = [0; 18];
    attribute[..words.len()].copy_from_slice(words);
    attribute
}

fn load(kind: u64, verdict: i32) -> io::Result<OwnedFd> {
    // r0 = verdict; exit
    let instructions = [0xb7 | u64::from(verdict.cast_unsigned()) << 32, 0x95];
    let count = (instructions.len() as u64) << 32;
    let licence = c"GPL";
    descriptor(PROG_LOAD, &[kind | count, instructions.as_ptr() as u64, licence.as_ptr() as u64])
}

/// `hook` is the attach type, and flags above it.
fn link(program: &OwnedFd, index: u32, hook: u64) -> io::Result<OwnedFd> {
    let program = u64::from(program.as_raw_fd().cast_unsigned());
    descriptor(LINK_CREATE, &[program | u64::from(index) << 32, hook])
}

fn enable_statistics() -> io::Result<OwnedFd> {
    descriptor(ENABLE_STATS, &[0])
}

fn descriptor(command: i64, words: &[u64]) -> io::Result<OwnedFd> {
    let descriptor = call(command, &mut attribute(words))?;
    // SAFETY: these commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call(command: i64, attribute: &mut [u64; 18]) -> io::Result<i32> {
    // SAFETY: the attribute is as long as said and zero behind its used part; the pointers in it (instructions, licence,
    // info) are valid for the lengths that stand beside them, and are only used during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size_of_val(attribute)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pair;
    use crate::packet::Transport;
    use crate::topology::{UPLINK, VIP4};

    #[test]
    fn a_verdict_of_pass_hides_packets_from_the_next() -> Result<()> {
        if let Some(reason) = crate::unavailable() {
            eprintln!("SKIPPED a_verdict_of_pass_hides_packets_from_the_next: {reason}");
            return Ok(());
        }
        let pair = Pair::new()?;
        let first = Foreign::attach(&pair.node, UPLINK, Place::Head, Verdict::Next)?;
        let ending = Foreign::attach(&pair.node, UPLINK, Place::Tail, Verdict::Pass)?;
        let blind = Foreign::attach(&pair.node, UPLINK, Place::Tail, Verdict::Next)?;
        let packet = pair.to_vip(VIP4, &[], Transport::Udp { source: 1, destination: 2 }, 10)?;
        pair.wire()?.repeat(&packet.frame(), 100)?;
        assert!(first.runs()? >= 100);
        assert!(ending.runs()? >= 100);
        assert_eq!(blind.runs()?, 0);
        Ok(())
    }
}
