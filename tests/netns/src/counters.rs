//! The kernel's own counters of an interface, to compare with.

use std::fs;

use anyhow::{Context, Result};

use crate::Namespace;

/// Packets and bytes of one interface. Bytes are those of the whole frame, as the driver counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames dropped on receipt.
    pub received_drops: u64,
    /// Frames sent.
    pub sent_packets: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

impl std::ops::Sub for Counters {
    type Output = Counters;

    fn sub(self, before: Counters) -> Counters {
        Counters {
            received_packets: self.received_packets - before.received_packets,
            received_bytes: self.received_bytes - before.received_bytes,
            received_drops: self.received_drops - before.received_drops,
            sent_packets: self.sent_packets - before.sent_packets,
            sent_bytes: self.sent_bytes - before.sent_bytes,
        }
    }
}

impl Namespace {
    /// The counters of an interface now.
    pub fn counters(&self, interface: &str) -> Result<Counters> {
        // procfs follows the thread's namespace, sysfs the mount's.
        let table = self.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        parse(&table, interface).with_context(|| format!("{} has no interface {interface}", self.name()))
    }

    /// A counter of `/proc/net/snmp` or `/proc/net/netstat` now, such as `Tcp` and `OutRsts`.
    pub fn counter(&self, protocol: &str, name: &str) -> Result<u64> {
        let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let tables = self.run(|| Ok(read("snmp")? + &read("netstat")?))?;
        let mut rows = tables.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
        let (names, values) = (rows.next().context("no names")?, rows.next().context("no values")?);
        let mut fields = names.split_whitespace().zip(values.split_whitespace());
        Ok(fields.find(|(known, _)| *known == name).context("no such counter")?.1.parse()?)
    }
}

fn parse(table: &str, interface: &str) -> Option<Counters> {
    let (_, row) =
        table.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == interface)?;
    let fields: Vec<u64> = row.split_whitespace().map(|field| field.parse().ok()).collect::<Option<_>>()?;
    Some(Counters {
        received_bytes: *fields.first()?,
        received_packets: *fields.get(1)?,
        received_drops: *fields.get(3)?,
        sent_bytes: *fields.get(8)?,
        sent_packets: *fields.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Inter-|   Receive |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0: 1234567    8910    0    3    0     0          0         0   765432    1098    0    0    0     0       0          0
";

    #[test]
    fn the_row_of_the_interface_is_read() {
        let counters = parse(TABLE, "eth0").unwrap();
        assert_eq!((counters.received_packets, counters.received_bytes), (8910, 1_234_567));
        assert_eq!((counters.sent_packets, counters.sent_bytes), (1098, 765_432));
        assert_eq!(counters.received_drops, 3);
        assert_eq!(parse(TABLE, "eth1"), None);
    }
}
