//! The kernel's own counters of this host.

use std::collections::BTreeMap;

use serde::Serialize;

use super::address::IfIndex;
use super::link::LinkCounters;

/// Kernel counters outside the agent's datapath. What could not be read is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostCounters {
    /// Fill of the connection-tracking table.
    pub conntrack: Option<Conntrack>,
    /// `/proc/net/softnet_stat`, a row a CPU.
    pub softnet: Vec<Softnet>,
    /// Counters of `/proc/net/snmp`, `/proc/net/snmp6` and `/proc/net/netstat` as (table, name, value), such as ("Tcp", "RetransSegs", 7).
    pub snmp: Vec<SnmpCounter>,
    /// The links' own counters, fresher than those of the snapshot.
    pub links: BTreeMap<IfIndex, LinkCounters>,
}

/// Fill of the connection-tracking table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Conntrack {
    /// Entries now (`nf_conntrack_count`).
    pub entries: u64,
    /// Entries at most (`nf_conntrack_max`).
    pub limit: u64,
}

/// One CPU's row of `/proc/net/softnet_stat` (net/core/net-procfs.c). The counts are those of the whole host, whatever
/// the network namespace of the reader, and wrap at 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Softnet {
    /// The CPU.
    pub cpu: u32,
    /// Packets taken off the queue.
    pub processed: u64,
    /// Packets dropped because the backlog was full. The device that they came by counts them as `rx_dropped` too.
    pub dropped: u64,
    /// Times the budget or time of one poll ran out.
    pub time_squeeze: u64,
    /// Packets now in the backlog.
    pub backlog: u64,
}

/// A counter of the SNMP tables (RFC 4293, 4022, 4113 and Linux's own; net/ipv4/proc.c, net/ipv6/proc.c).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnmpCounter {
    /// The table, such as `Ip`, `Udp6` or `TcpExt`.
    pub table: String,
    /// The counter, such as `InDiscards`.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Softnet {
    /// The rows of `/proc/net/softnet_stat`. The number of the CPU is a column since Linux 5.10; rows without it, and
    /// rows that are not hexadecimal numbers, are left out. Further columns are not looked at.
    pub fn parse(text: &str) -> Vec<Softnet> {
        text.lines().filter_map(Self::row).collect()
    }

    fn row(line: &str) -> Option<Softnet> {
        let columns: Vec<u32> =
            line.split_whitespace().map_while(|column| u32::from_str_radix(column, 16).ok()).collect();
        let column = |place: usize| columns.get(place).copied();
        Some(Softnet {
            cpu: column(12)?,
            processed: column(0)?.into(),
            dropped: column(1)?.into(),
            time_squeeze: column(2)?.into(),
            backlog: column(11)?.into(),
        })
    }
}

impl SnmpCounter {
    /// The counters of `/proc/net/snmp` or `/proc/net/netstat`: pairs of lines, names and values, each begun by the
    /// table's name. Values that count nothing (`Tcp: MaxConn -1`) and lines without their pair are left out.
    pub fn parse_pairs(text: &str) -> Vec<SnmpCounter> {
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let pairs = lines.iter().zip(lines.iter().skip(1)).filter(|((table, _), (again, _))| table == again);
        pairs.flat_map(|((table, names), (_, values))| Self::pair(table, names, values)).collect()
    }

    fn pair<'a>(table: &'a str, names: &'a str, values: &'a str) -> impl Iterator<Item = SnmpCounter> + 'a {
        names.split_whitespace().zip(values.split_whitespace()).filter_map(move |(name, value)| {
            // A line of values that is taken for one of names has numbers for names.
            let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic());
            let value = value.parse().ok().filter(|_| is_name)?;
            Some(SnmpCounter { table: table.to_owned(), name: name.to_owned(), value })
        })
    }

    /// The counters of `/proc/net/snmp6`: a name and a value a line, the name begun by the table's, which ends with 6.
    pub fn parse_lines(text: &str) -> Vec<SnmpCounter> {
        text.lines().filter_map(Self::line).collect()
    }

    fn line(line: &str) -> Option<SnmpCounter> {
        let mut words = line.split_whitespace();
        let (table, name) = words.next()?.split_once('6').filter(|(_, name)| !name.is_empty())?;
        let value = words.next()?.parse().ok()?;
        Some(SnmpCounter { table: format!("{table}6"), name: name.to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(counters: Vec<SnmpCounter>) -> Vec<(String, String, u64)> {
        counters.into_iter().map(|one| (one.table, one.name, one.value)).collect()
    }

    #[test]
    fn softnet_rows_name_their_cpu() {
        let text = "0000001a 00000002 00000001 0 0 0 0 0 0 0 0 00000005 00000003 0 0\n\
                    00000001 00000000 00000000 0 0 0 0 0 0 0 0 0 00000007 0 0 future 9\n\
                    0000001a 00000002 00000001\n\
                    not a row\n";
        let first = Softnet { cpu: 3, processed: 26, dropped: 2, time_squeeze: 1, backlog: 5 };
        let second = Softnet { cpu: 7, processed: 1, dropped: 0, time_squeeze: 0, backlog: 0 };
        assert_eq!(Softnet::parse(text), [first, second]);
    }

    #[test]
    fn names_and_values_are_paired_by_table() {
        let text =
            "Ip: Forwarding InReceives\nIp: 2 14405\nTcp: MaxConn RetransSegs New\nTcp: -1 7 1 5\nOdd: A\n";
        let expected = [
            ("Ip", "Forwarding", 2),
            ("Ip", "InReceives", 14405),
            ("Tcp", "RetransSegs", 7),
            ("Tcp", "New", 1),
        ];
        let expected = expected.map(|(table, name, value)| (table.to_owned(), name.to_owned(), value));
        assert_eq!(told(SnmpCounter::parse_pairs(text)), expected);
    }

    #[test]
    fn ipv6_names_are_split_after_their_table() {
        let text = "Ip6InReceives   \t1\nIcmp6InType135 2\nUdpLite6InErrors 3\nodd\nUdp6 4\n";
        let expected = [("Ip6", "InReceives", 1), ("Icmp6", "InType135", 2), ("UdpLite6", "InErrors", 3)];
        let expected = expected.map(|(table, name, value)| (table.to_owned(), name.to_owned(), value));
        assert_eq!(told(SnmpCounter::parse_lines(text)), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = String::from_utf8_lossy(&bytes);
            Softnet::parse(&text);
            SnmpCounter::parse_pairs(&text);
            SnmpCounter::parse_lines(&text);
        }

        #[test]
        fn any_words_are_read_without_panic(text in "([A-Z][a-z6]{0,4}:?|-?[0-9a-f]{1,21}|[ \n\t:])*") {
            let rows = Softnet::parse(&text).len();
            prop_assert!(rows <= text.lines().count());
            SnmpCounter::parse_pairs(&text);
            SnmpCounter::parse_lines(&text);
        }
    }
}
