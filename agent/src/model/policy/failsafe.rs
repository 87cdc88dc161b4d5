//! What no rule may drop: without it a node cannot be reached by those that could help.

use weir_ebpf::rules::{FAILSAFE_ICMP_WORDS, FAILSAFE_WORDS, failsafe};

use super::rule::Vital;
use crate::model::address::Direction;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A row of the list that is built in.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// What it is for.
    pub purpose: &'static str,
    /// Protocol.
    pub protocol: u8,
    /// Port at the server.
    pub port: u16,
    /// Whether the node serves it.
    pub served: bool,
    /// Whether the node uses it.
    pub used: bool,
}

const fn row(purpose: &'static str, protocol: u8, port: u16, served: bool, used: bool) -> BuiltIn {
    BuiltIn { purpose, protocol, port, served, used }
}

/// The list that is built in. Answers of what is listed pass as well: TCP that opens no connection.
pub const BUILT_IN: &[BuiltIn] = &[
    row("Talos API (apid)", TCP, 50_000, true, true),
    row("Talos API (trustd)", TCP, 50_001, true, true),
    row("kube-apiserver", TCP, 6_443, true, true),
    row("kube-apiserver by KubePrism", TCP, 7_445, true, true),
    row("kubelet", TCP, 10_250, true, true),
    row("etcd clients", TCP, 2_379, true, true),
    row("etcd peers", TCP, 2_380, true, true),
    row("BGP", TCP, 179, true, true),
    row("BFD, one hop", UDP, 3_784, true, true),
    row("BFD echo", UDP, 3_785, true, true),
    row("BFD, several hops", UDP, 4_784, true, true),
    row("DHCP client", UDP, 68, true, false),
    row("DHCP server", UDP, 67, false, true),
    row("DHCPv6 client", UDP, 546, true, false),
    row("DHCPv6 server", UDP, 547, false, true),
    row("Cilium health", TCP, 4_240, true, true),
    row("Cilium tunnel (VXLAN)", UDP, 8_472, true, true),
    row("Cilium tunnel (Geneve)", UDP, 6_081, true, true),
    row("Cilium WireGuard", UDP, 51_871, true, true),
    row("DNS of the node", UDP, 53, false, true),
    row("DNS of the node", TCP, 53, false, true),
];

/// ICMP types: echo and its answer (Cilium health), unreachable (path MTU), time exceeded.
pub const ICMP_TYPES: &[u8] = &[0, 3, 8, 11];
/// ICMPv6 types: errors, echo, multicast listeners, and neighbour discovery.
pub const ICMPV6_TYPES: &[u8] = &[1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 134, 135, 136, 143];

/// The list and what policies add.
pub fn all(extra: &[Vital]) -> Vec<Vital> {
    let mut all: Vec<Vital> = extra.to_vec();
    for row in BUILT_IN {
        for (wanted, direction) in [(row.served, Direction::Ingress), (row.used, Direction::Egress)] {
            if wanted {
                all.push(Vital { protocol: row.protocol, port: row.port, direction });
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The words of the port table.
pub fn port_words(vital: &[Vital]) -> Vec<u64> {
    let mut words = vec![0; FAILSAFE_WORDS as usize];
    for one in vital {
        // From anybody, UDP is no answer: whoever sends it can choose the port. DNS has its own list of resolvers.
        let answers = one.protocol == TCP;
        let bits = match one.direction {
            Direction::Ingress => {
                failsafe::IN | if answers || one.protocol == UDP { failsafe::OUT_ANSWER } else { 0 }
            }
            Direction::Egress => failsafe::OUT | if answers { failsafe::IN_ANSWER } else { 0 },
        };
        if let Some((word, shift)) = failsafe::place(one.protocol, one.port) {
            words[word as usize] |= bits << shift;
        }
    }
    words
}

/// The words of the table of ICMP types.
pub fn icmp_words() -> Vec<u64> {
    let mut words = vec![0; FAILSAFE_ICMP_WORDS as usize];
    for (base, types) in [(0, ICMP_TYPES), (4, ICMPV6_TYPES)] {
        for kind in types {
            words[base + usize::from(kind >> 6)] |= 1 << (kind & 63);
        }
    }
    words[FAILSAFE_ICMP_WORDS as usize - 1] = 1;
    words
}

/// Whether the failsafe saves a packet: what the kernel does, said plainly. `kind` is the ICMP type; `opens` whether it is a TCP
/// packet with SYN and without ACK.
pub fn saves(
    vital: &[Vital],
    egress: bool,
    protocol: u8,
    ports: Option<(u16, u16)>,
    kind: Option<u8>,
    opens: bool,
    from_resolver: bool,
) -> bool {
    match (protocol, kind) {
        (1, Some(kind)) => return ICMP_TYPES.contains(&kind),
        (58, Some(kind)) => return ICMPV6_TYPES.contains(&kind),
        _ => {}
    }
    let Some((from, to)) = ports.filter(|_| protocol == TCP || protocol == UDP) else { return false };
    let listed = |port, direction| vital.contains(&Vital { protocol, port, direction });
    let (towards, back) = if egress {
        (Direction::Egress, Direction::Ingress)
    } else {
        (Direction::Ingress, Direction::Egress)
    };
    let answers = protocol == TCP && !opens || protocol == UDP && egress;
    listed(to, towards) || answers && listed(from, back) || from_resolver && (egress || !opens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_never_lost() {
        let words = port_words(&all(&[]));
        for row in BUILT_IN {
            let (word, shift) = failsafe::place(row.protocol, row.port).unwrap();
            let bits = words[word as usize] >> shift & 15;
            assert_eq!(bits & failsafe::IN != 0, row.served, "{}", row.purpose);
            assert_eq!(bits & failsafe::OUT != 0, row.used, "{}", row.purpose);
        }
        assert!(icmp_words().iter().any(|word| *word != 0));
    }

    #[test]
    fn what_is_added_comes_on_top() {
        let extra = Vital { protocol: TCP, port: 9_345, direction: Direction::Ingress };
        let list = all(&[extra]);
        assert!(list.contains(&extra) && list.len() == all(&[]).len() + 1);
    }

    #[test]
    fn a_source_port_opens_no_door() {
        let list = all(&[]);
        assert!(
            !saves(&list, false, TCP, Some((6443, 22)), None, true, false),
            "a new connection from port 6443"
        );
        assert!(
            saves(&list, false, TCP, Some((6443, 40_000)), None, false, false),
            "an answer of the API server"
        );
        assert!(!saves(&list, false, UDP, Some((53, 40_000)), None, false, false), "anybody's port 53");
    }
}
