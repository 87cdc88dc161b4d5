//! The kernel's own counters in `/proc`, read at once.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::host::{Conntrack, HostCounters, SnmpCounter, Softnet};

/// None of the files could be read.
#[derive(Debug, Error)]
#[error("cannot read {}; is /proc mounted?", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Reads the counters of the host and of the calling thread's network namespace. What the kernel does not have (a table
/// of IPv6 where that is off, connection tracking where it is not loaded) is left out. [`HostCounters::links`] is not
/// filled: see [`crate::netlink::counters`].
///
/// # Errors
/// When none of the counters can be read.
pub fn counters() -> Result<HostCounters, Error> {
    counters_under(Path::new("/proc"))
}

/// As [`counters`], with `/proc` mounted elsewhere, such as the host's in a container.
///
/// # Errors
/// When none of the counters can be read.
pub fn counters_under(proc: &Path) -> Result<HostCounters, Error> {
    // `/proc/net` is that of the process; a thread may be in another network namespace.
    let net = proc.join("thread-self/net");
    let softnet = read(net.join("softnet_stat")).map(|text| Softnet::parse(&text));
    let mut snmp = Vec::new();
    for table in ["snmp", "netstat"] {
        snmp.extend(read(net.join(table)).map(|text| SnmpCounter::parse_pairs(&text)).unwrap_or_default());
    }
    snmp.extend(read(net.join("snmp6")).map(|text| SnmpCounter::parse_lines(&text)).unwrap_or_default());
    match softnet {
        Err(error) if snmp.is_empty() => Err(error),
        softnet => Ok(HostCounters {
            conntrack: conntrack(&proc.join("sys/net/netfilter")),
            softnet: softnet.unwrap_or_default(),
            snmp,
            ..HostCounters::default()
        }),
    }
}

/// Whether this network namespace forwards IPv4 packets.
pub fn forwards_ipv4() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() != "0")
}

fn conntrack(netfilter: &Path) -> Option<Conntrack> {
    let number = |file: &str| read(netfilter.join(file)).ok()?.trim().parse().ok();
    Some(Conntrack { entries: number("nf_conntrack_count")?, limit: number("nf_conntrack_max")? })
}

fn read(path: PathBuf) -> Result<String, Error> {
    match std::fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(Error { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_tells_of_its_cpus_and_protocols() {
        let counters = counters().unwrap();
        assert!(!counters.softnet.is_empty());
        for (table, name) in [("Ip", "InReceives"), ("Tcp", "RetransSegs"), ("TcpExt", "ListenDrops")] {
            assert!(counters.snmp.iter().any(|one| one.table == table && one.name == name), "{table} {name}");
        }
    }

    #[test]
    fn what_is_missing_is_left_out_and_nothing_at_all_is_an_error() {
        let proc = tempfile::tempdir().unwrap();
        let error = counters_under(proc.path()).unwrap_err();
        assert!(error.to_string().contains("softnet_stat"), "{error}");
        let net = proc.path().join("thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(net.join("snmp6"), "Ip6InReceives 4\n").unwrap();
        let counters = counters_under(proc.path()).unwrap();
        assert_eq!((counters.snmp.len(), counters.softnet.len(), counters.conntrack), (1, 0, None));
    }
}
