//! What of the agent works on this node: tried for real, without touching anything (`weir-agent check`), and giving up the
//! privileges that it does not need.

mod bpf;
mod btf;
mod host;
mod keep;
mod print;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use caps::CapSet;
pub use caps::Capability;
pub use host::cgroup2;
pub use keep::{KeepError, Kept, keep, keep_none};
pub use print::{Colours, json, table};

use socket2::Domain;

use crate::model::capability::{Feature, FeatureState, Report, refusal};

/// The capabilities for all that the agent does with BPF.
pub const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// All that Weir can use: [`NEEDED`]; raw sockets for the probes (until they are open); names of foreign programs; real-time
/// priority for BFD (until its thread has it).
pub const USEFUL: [Capability; 6] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_RAW,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_NICE,
];

/// What `weir-agent run` starts with: [`NEEDED`], raw sockets until the prober's are open, and real-time priority until BFD's
/// thread has it.
pub const STARTING: [Capability; 5] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_RAW,
    Capability::CAP_SYS_NICE,
];

/// [`examine`] with no more than the given capabilities in effect, so that the report of a process that holds all tells what
/// will work once the rest is given up. They are back in effect afterwards.
///
/// # Errors
/// When the kernel does not let this thread change its effective set.
pub fn examine_as(pin_dir: &Path, in_effect: &[Capability]) -> Result<Report, caps::errors::CapsError> {
    let before = caps::read(None, CapSet::Effective)?;
    let fewer = before.iter().filter(|one| in_effect.contains(one)).copied().collect();
    caps::set(None, CapSet::Effective, &fewer)?;
    let report = examine(pin_dir);
    caps::set(None, CapSet::Effective, &before)?;
    Ok(report)
}

/// Tries every feature, in a fixed order. Whatever is refused becomes part of the report; nothing is left behind.
///
/// `pin_dir` is where the agent pins its maps and links; it need not exist yet.
pub fn examine(pin_dir: &Path) -> Report {
    let host = Host::look();
    let features = vec![
        feature("maps", "tables of flows, addresses and counters", maps(&host)),
        feature("ring-buffer", "events from the datapath", ring_buffer(&host)),
        feature("packet-programs", "counting every packet", packets(&host)),
        feature("jit", "programs as machine code", jit(&host)),
        feature("tcx", "a place before all other programs on a link", tcx(&host)),
        feature("foreign-programs", "names of other programs on a link", foreign(&host)),
        feature("pins", "counts that outlive the agent", pins(&host, pin_dir)),
        feature("btf", "the layout of kernel structures", host.btf().map(|_| None)),
        feature("kernel-drops", "packets that the kernel dropped, by reason", kernel_drops(&host)),
        feature("tcp-health", "round-trip times and retransmits of local sockets", tcp_health(&host)),
        feature("program-cost", "time and runs of the agent's own programs", program_cost(&host)),
        feature("netlink", "links, routes and neighbours", host::netlink()),
        feature("host-counters", "the kernel's own counters", host::counters()),
        feature("conntrack", "how full connection tracking is", host::conntrack()),
        feature("arp-probes", "whether IPv4 gateways answer on the link", host.socket(host::arp(), "ARP")),
        feature(
            "nd-probes",
            "whether IPv6 gateways answer on the link",
            host.socket(host::raw(Domain::IPV6), "ICMPv6"),
        ),
        feature("echo-probes", "latency and loss to gateways, path MTU", host.echo()),
        feature("bfd-port", "BFD sessions of the agent (--bfd-peer)", host::bfd_port()),
        feature("real-time", "BFD packets on time while CPUs are busy", real_time(&host)),
    ];
    Report { kernel: host::release(), lockdown: host::lockdown(), held: host.held, features }
}

/// What was found when something works, or how it does not.
type Trial = Result<Option<String>, FeatureState>;

fn feature(name: &'static str, purpose: &'static str, trial: Trial) -> Feature {
    match trial {
        Ok(found) => Feature { name, purpose, state: FeatureState::Works, found },
        Err(state) => Feature { name, purpose, state, found: None },
    }
}

fn off(reason: impl Into<String>) -> FeatureState {
    FeatureState::Off { reason: reason.into() }
}

fn degraded(reason: impl Into<String>) -> FeatureState {
    FeatureState::Degraded { reason: reason.into() }
}

/// What several trials build on.
struct Host {
    held: Vec<String>,
    btf: io::Result<Vec<u8>>,
    packets: Result<OwnedFd, FeatureState>,
}

impl Host {
    fn look() -> Self {
        let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
        let held = USEFUL.iter().filter(|one| effective.contains(one)).map(ToString::to_string).collect();
        let mut host = Self { held, btf: host::btf(), packets: Err(off("")) };
        host.packets = host.load(bpf::Program::Packets, &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        host
    }

    fn refused(&self, error: &io::Error, needs: &[&str], otherwise: &str) -> FeatureState {
        off(refusal(error, needs, &self.held, otherwise))
    }

    fn load(&self, program: bpf::Program, needs: &[&str]) -> Result<OwnedFd, FeatureState> {
        bpf::load(program).map_err(|error| {
            // The verifier says EACCES to what it would accept with more capabilities.
            self.refused(&error, needs, "the kernel does not take such programs; use Linux 6.1 or newer")
        })
    }

    fn btf(&self) -> Result<&[u8], FeatureState> {
        match &self.btf {
            Ok(btf) if btf::is_btf(btf) => Ok(btf),
            Ok(_) => {
                Err(off("/sys/kernel/btf/vmlinux is no type information; look at what is mounted there"))
            }
            Err(error) => Err(off(format!(
                "cannot read /sys/kernel/btf/vmlinux ({error}); use a kernel with CONFIG_DEBUG_INFO_BTF and, in a \
                 container, mount /sys/kernel/btf"
            ))),
        }
    }

    fn socket(&self, socket: io::Result<()>, what: &str) -> Trial {
        let otherwise = format!("the kernel has no such {what} socket");
        socket.map(|()| None).map_err(|error| self.refused(&error, &["CAP_NET_RAW"], &otherwise))
    }

    fn echo(&self) -> Trial {
        if host::ping(Domain::IPV4).is_ok() {
            return Ok(Some("unprivileged ping sockets".to_owned()));
        }
        host::raw(Domain::IPV4).map_err(|error| {
            let reason = refusal(&error, &["CAP_NET_RAW"], &self.held, "the kernel has no ICMP sockets");
            off(format!("widen net.ipv4.ping_group_range to this process's group, or: {reason}"))
        })?;
        let why =
            "raw sockets (CAP_NET_RAW), because net.ipv4.ping_group_range leaves this process's group out";
        Ok(Some(why.to_owned()))
    }
}

fn real_time(host: &Host) -> Trial {
    host::try_real_time().map(|()| None).map_err(|error| {
        let reason = refusal(&error, &["CAP_SYS_NICE"], &host.held, "the kernel refuses");
        degraded(format!("ordinary priority, so BFD wants 3x300 ms or more on a busy node: {reason}"))
    })
}

fn packets(host: &Host) -> Trial {
    host.packets.as_ref().map(|_| None).map_err(Clone::clone)
}

fn maps(host: &Host) -> Trial {
    for kind in bpf::MAPS {
        let otherwise = format!("the kernel has no {}; use Linux 6.1 or newer", kind.name);
        bpf::create(kind).map_err(|error| host.refused(&error, &["CAP_BPF"], &otherwise))?;
    }
    Ok(None)
}

fn ring_buffer(host: &Host) -> Trial {
    let made = bpf::create(bpf::RING_BUFFER);
    made.map(|_| None)
        .map_err(|error| host.refused(&error, &["CAP_BPF"], "the kernel has none; use Linux 5.8 or newer"))
}

fn jit(host: &Host) -> Trial {
    let program = host.packets.as_ref().map_err(|_| off("not known without packet programs"))?;
    match bpf::is_jited(program.as_fd()) {
        Ok(true) => Ok(None),
        Ok(false) => {
            Err(degraded("programs are interpreted, several times slower; set net.core.bpf_jit_enable=1"))
        }
        Err(error) => Err(host.refused(&error, &["CAP_BPF"], "the kernel does not tell")),
    }
}

fn tcx(host: &Host) -> Trial {
    let program = host.packets.as_ref().map_err(|_| off("not without packet programs"))?;
    bpf::try_tcx(program.as_fd()).map(|()| None).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => host.refused(&error, &["CAP_NET_ADMIN"], ""),
        _ => degraded(format!(
            "the kernel has no TCX ({error}): legacy tc filters are used and another program's filters may go first; \
             use Linux 6.6 or newer"
        )),
    })
}

fn foreign(host: &Host) -> Trial {
    let needs = &["CAP_SYS_ADMIN"];
    bpf::try_foreign().map(|()| None).map_err(|error| {
        let reason = refusal(&error, needs, &host.held, "the kernel does not tell");
        degraded(format!("other programs are shown by number only: {reason}"))
    })
}

fn pins(host: &Host, pin_dir: &Path) -> Trial {
    let place = host::bpffs(pin_dir).map_err(off)?;
    let map = bpf::create(bpf::MAPS[0]).map_err(|error| host.refused(&error, &["CAP_BPF"], "no maps"))?;
    // Names on bpffs hold no dots.
    let path = place.join(format!("weir_check_{}", std::process::id()));
    let pinned = bpf::pin(map.as_fd(), &path);
    let removed = pinned.and_then(|()| std::fs::remove_file(&path));
    removed.map(|()| Some(format!("at {}", place.display()))).map_err(|error| {
        off(format!("cannot pin in {} ({error}); let this process write there", place.display()))
    })
}

fn kernel_drops(host: &Host) -> Trial {
    let typedef = btf::typedef(host.btf()?, "btf_trace_kfree_skb")
        .ok_or_else(|| off("the kernel has no tracepoint kfree_skb; use a kernel with CONFIG_TRACEPOINTS"))?;
    host.load(bpf::Program::Tracepoint { typedef }, &["CAP_BPF", "CAP_PERFMON"]).map(|_| None)
}

fn tcp_health(host: &Host) -> Trial {
    host.load(bpf::Program::SockOps, &["CAP_BPF", "CAP_NET_ADMIN"])?;
    let place = host::cgroup2().ok_or_else(|| {
        off("no cgroup2 is mounted; mount it (mount -t cgroup2 none /sys/fs/cgroup) or, in a container, the host's")
    })?;
    let opened = std::fs::File::open(&place);
    let cgroup = opened.map_err(|error| off(format!("cannot open {} ({error})", place.display())))?;
    bpf::query_sock_ops(cgroup.as_fd())
        .map_err(|error| host.refused(&error, &["CAP_NET_ADMIN"], "the kernel has no CONFIG_CGROUP_BPF"))?;
    // The root alone has no type.
    if place.join("cgroup.type").exists() {
        return Err(degraded(format!(
            "{} is not the root: only sockets below it are seen; mount the host's cgroup2 and share its cgroup namespace",
            place.display()
        )));
    }
    Ok(Some(format!("cgroup2 at {}", place.display())))
}

fn program_cost(host: &Host) -> Trial {
    if host::is_set("kernel/bpf_stats_enabled") {
        return Ok(Some("kernel.bpf_stats_enabled is 1".to_owned()));
    }
    let on = bpf::enable_statistics().map(|_| Some("switched on by the agent".to_owned()));
    on.map_err(|error| {
        let reason = refusal(&error, &["CAP_SYS_ADMIN"], &host.held, "the kernel cannot");
        degraded(format!("memory only, no times and runs: set kernel.bpf_stats_enabled=1, or: {reason}"))
    })
}
