//! What the report reads of the host: files, mounts, sockets.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Trial, degraded, off};

/// The kernel's release.
pub(super) fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The kernel's lockdown mode, where securityfs is mounted.
pub(super) fn lockdown() -> Option<String> {
    std::fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| chosen(&text))
}

/// The word in brackets, as in `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// The kernel's type information.
pub(super) fn btf() -> io::Result<Vec<u8>> {
    std::fs::read("/sys/kernel/btf/vmlinux")
}

/// Whether a setting under /proc/sys is not zero.
pub(super) fn is_set(name: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() != "0")
}

/// Where cgroup2 is mounted; on hybrid systems that is not /sys/fs/cgroup.
pub fn cgroup2() -> Option<PathBuf> {
    mounted(&std::fs::read_to_string("/proc/self/mounts").ok()?, "cgroup2")
}

/// The first mount of a file system type in the text of /proc/self/mounts.
fn mounted(mounts: &str, kind: &str) -> Option<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.into_iter().find_map(|fields| match fields.as_slice() {
        [_, place, found, ..] if *found == kind => Some(unescaped(place).into()),
        _ => None,
    })
}

/// Undoes the octal escapes of blanks in mount points (proc_mounts(5)).
fn unescaped(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(place.to_owned(), |place, (escape, plain)| place.replace(escape, plain))
}

/// The folder on a BPF file system where `pin_dir` is or would be made.
pub(super) fn bpffs(pin_dir: &Path) -> Result<PathBuf, String> {
    let place = pin_dir.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
    let mount = "mount -t bpf bpf /sys/fs/bpf, or in a container mount the host's /sys/fs/bpf";
    match statfs(place) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => Ok(place.to_owned()),
        Ok(_) => Err(format!("{} is not on a BPF file system; {mount}", place.display())),
        Err(error) => Err(format!("cannot look at {} ({error}); {mount}", place.display())),
    }
}

/// Whether links, routes and neighbours can be followed.
pub(super) fn netlink() -> Trial {
    let opened =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)));
    opened
        .map(|_| None)
        .map_err(|error| off(format!("cannot open a route socket ({error}); allow AF_NETLINK")))
}

/// Whether nobody else has the port of BFD. The agent itself, where it runs with BFD, is named like any other.
pub(super) fn bfd_port() -> Trial {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    let port = crate::model::bfd::PORT;
    let taken =
        |bound: io::Result<UdpSocket>| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    if taken(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
        || taken(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))
    {
        let owner = crate::owner::of_udp_port(port).unwrap_or_else(|| "another program".to_owned());
        if owner.ends_with(&format!("(process {})", std::process::id())) {
            return Ok(Some("this agent has it".to_owned()));
        }
        return Err(degraded(format!(
            "{owner} has UDP port {port}: an agent that starts now with --bfd-peer stands down and only watches; end the BFD of \
             {owner} if the agent's is wanted"
        )));
    }
    Ok(None)
}

/// Whether a thread may have real-time priority. Nothing is changed.
pub(super) fn try_real_time() -> io::Result<()> {
    use nix::libc;
    let set = |policy, priority| {
        let parameters = libc::sched_param { sched_priority: priority };
        // SAFETY: the parameters live through the call; 0 is the calling thread.
        let set = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    set(libc::SCHED_FIFO, 1)?;
    set(libc::SCHED_OTHER, 0)
}

/// Whether the kernel's counters can be read.
pub(super) fn counters() -> Trial {
    const FILES: [&str; 5] =
        ["/proc/net/dev", "/proc/net/softnet_stat", "/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6"];
    let missing: Vec<_> = FILES.into_iter().filter(|file| std::fs::read(file).is_err()).collect();
    match missing.len() {
        0 => Ok(None),
        all if all == FILES.len() => Err(off("cannot read /proc/net; mount proc")),
        _ => Err(degraded(format!(
            "cannot read {}; without IPv6 snmp6 is missing rightly",
            missing.join(", ")
        ))),
    }
}

/// Whether connection tracking tells how full it is.
pub(super) fn conntrack() -> Trial {
    const FILES: [&str; 2] =
        ["/proc/sys/net/netfilter/nf_conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_max"];
    match FILES.into_iter().find(|file| std::fs::read(file).is_err()) {
        None => Ok(None),
        Some(file) => {
            Err(off(format!("cannot read {file}: nf_conntrack is not loaded, so there is nothing to fill")))
        }
    }
}

/// Whether a socket for ARP can be had.
pub(super) fn arp() -> io::Result<()> {
    let protocol = i32::from((libc::ETH_P_ARP as u16).to_be());
    Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol))).map(drop)
}

/// Whether a raw ICMP socket of a family can be had.
pub(super) fn raw(family: Domain) -> io::Result<()> {
    Socket::new(family, Type::RAW, Some(icmp(family))).map(drop)
}

/// Whether an unprivileged ping socket of a family can be had.
pub(super) fn ping(family: Domain) -> io::Result<()> {
    Socket::new(family, Type::DGRAM, Some(icmp(family))).map(drop)
}

fn icmp(family: Domain) -> Protocol {
    if family == Domain::IPV4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_is_the_mode() {
        assert_eq!(chosen("none integrity [confidentiality]\n").as_deref(), Some("confidentiality"));
        assert_eq!(chosen("none"), None);
        assert_eq!(chosen("[none"), None);
    }

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nx /sys/fs/my\\040group cgroup2 rw 0 0\nshort\n";
        assert_eq!(mounted(hybrid, "cgroup2"), Some("/sys/fs/my group".into()));
        assert_eq!(mounted(hybrid, "bpf"), None);
    }
}
