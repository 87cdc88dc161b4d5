//! The loss ledger: where an interface's packets went missing, layer by layer, with what nobody explains.

use std::collections::BTreeMap;

use serde::Serialize;

use super::address::{Direction, IfIndex};
use super::drops::{DropCounters, DropPlace, RuleDrops};
use super::host::Softnet;
use super::link::LinkCounters;

/// Losses of one interface since the agent began to look. No packet is in two rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossLedger {
    /// Which interface.
    pub interface: IfIndex,
    /// The rows, in the order in which a packet meets the layers.
    pub rows: Vec<LossRow>,
}

/// One layer's losses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossRow {
    /// The layer.
    pub layer: LossLayer,
    /// The reason, by the layer's own word.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// A layer that can lose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LossLayer {
    /// The device and its driver: `rx_missed`, `rx_errors` and `tx_errors` of [`LinkCounters`].
    Nic,
    /// The per-CPU backlog: packets of this interface that found it full (drop reason `cpu_backlog`).
    Softnet,
    /// The queueing disciplines of the interface.
    Qdisc,
    /// Rules of our own, by `policy/rule`.
    Policy,
    /// The network stack, by drop reason; without what our rules dropped.
    Kernel,
    /// Counted by a device as dropped, explained by no other row.
    Unexplained,
}

/// All losses of this host since the agent began to look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// By interface, in the order of their indices.
    pub interfaces: Vec<LossLedger>,
    /// Packets that a full per-CPU backlog dropped, host-wide and of all network namespaces (`dropped` of
    /// `/proc/net/softnet_stat`), without those that the interfaces' own rows hold. The kernel does not tell whose they
    /// were, so they are attributed to no interface.
    pub backlog_elsewhere: u64,
}

/// Adds up losses from counters that began before the agent did, and that begin anew when a driver is loaded again.
#[derive(Clone, Debug, Default)]
pub struct LossBook {
    interfaces: BTreeMap<IfIndex, InterfaceBook>,
    backlog: Grown,
}

#[derive(Clone, Debug, Default)]
struct InterfaceBook {
    rx_missed: Grown,
    rx_errors: Grown,
    tx_errors: Grown,
    /// `rx_dropped`, `tx_dropped` and `rx_nohandler`: what the device says was dropped, without saying why.
    dropped: [Grown; 3],
    qdisc: Grown,
    reasons: BTreeMap<String, Grown>,
    /// By rule and direction, in the order of their names.
    rules: BTreeMap<(String, Direction), Grown>,
    begun: bool,
    rules_begun: bool,
}

/// How much a counter has grown since it was first seen.
#[derive(Clone, Copy, Debug, Default)]
struct Grown {
    last: Option<u64>,
    sum: u64,
}

impl Grown {
    /// A counter that fell has begun anew at zero, so all of it is new.
    fn see(&mut self, value: u64) {
        self.sum += match self.last {
            None => 0,
            Some(last) if value >= last => value - last,
            Some(_) => value,
        };
        self.last = Some(value);
    }

    /// Begins at zero instead of at the first value seen: for what cannot have been there before.
    fn counted_from_zero(self) -> Self {
        Self { last: self.last.or(Some(0)), ..self }
    }
}

impl LossBook {
    /// Takes in a reading. Read `drops` after `links`: then a packet that is lost in between makes the unexplained
    /// remainder too small for one reading, instead of being told twice.
    ///
    /// Interfaces that have gone are forgotten.
    pub fn see(
        &mut self,
        links: &BTreeMap<IfIndex, LinkCounters>,
        drops: &[DropCounters],
        softnet: &[Softnet],
    ) {
        self.interfaces.retain(|interface, _| links.contains_key(interface));
        for (interface, counters) in links {
            self.interfaces.entry(*interface).or_default().see_device(counters);
        }
        for drop in drops {
            if let DropPlace::Interface(interface) = drop.place
                && let Some(book) = self.interfaces.get_mut(&interface)
            {
                book.see_reason(drop);
            }
        }
        self.interfaces.values_mut().for_each(|book| book.begun = true);
        // A CPU that comes or goes changes the sum; the kernel keeps the rows of those that are offline out of the file.
        self.backlog.see(softnet.iter().map(|cpu| cpu.dropped).sum());
    }

    /// Takes in what rules dropped; after [`Self::see`], and read before what it takes.
    pub fn see_rules(&mut self, drops: &[RuleDrops]) {
        for drop in drops {
            let Some(book) = self.interfaces.get_mut(&drop.interface) else { continue };
            let grown = book.rules.entry((drop.rule.clone(), drop.direction)).or_default();
            if book.rules_begun {
                *grown = grown.counted_from_zero();
            }
            grown.see(drop.packets);
        }
        self.interfaces.values_mut().for_each(|book| book.rules_begun = true);
    }

    /// What was lost so far. Rows without a loss are left out.
    pub fn losses(&self) -> Losses {
        let ledger = |(interface, book): (&IfIndex, &InterfaceBook)| LossLedger {
            interface: *interface,
            rows: book.rows(),
        };
        let attributed: u64 =
            self.interfaces.values().map(|book| book.reason_sum(|reason| reason == BACKLOG)).sum();
        Losses {
            interfaces: self.interfaces.iter().map(ledger).collect(),
            backlog_elsewhere: self.backlog.sum.saturating_sub(attributed),
        }
    }
}

/// `SKB_DROP_REASON_CPU_BACKLOG`.
const BACKLOG: &str = "cpu_backlog";

impl InterfaceBook {
    fn see_device(&mut self, counters: &LinkCounters) {
        self.rx_missed.see(counters.rx_missed);
        self.rx_errors.see(counters.rx_errors);
        self.tx_errors.see(counters.tx_errors);
        self.qdisc.see(counters.qdisc_drops);
        let dropped = [counters.rx_dropped, counters.tx_dropped, counters.rx_nohandler];
        self.dropped.iter_mut().zip(dropped).for_each(|(grown, value)| grown.see(value));
    }

    /// A reason that first appears later has begun at zero.
    fn see_reason(&mut self, drop: &DropCounters) {
        let grown = self.reasons.entry(drop.reason.clone()).or_default();
        if self.begun {
            *grown = grown.counted_from_zero();
        }
        grown.see(drop.packets);
    }

    fn rows(&self) -> Vec<LossRow> {
        let row = |layer, reason: &str, packets| LossRow { layer, reason: reason.to_owned(), packets };
        let mut rows = vec![
            row(LossLayer::Nic, "rx_missed", self.rx_missed.sum),
            row(LossLayer::Nic, "rx_errors", self.rx_errors.sum),
            row(LossLayer::Nic, "tx_errors", self.tx_errors.sum),
            row(LossLayer::Softnet, BACKLOG, self.reason_sum(|reason| reason == BACKLOG)),
            row(LossLayer::Qdisc, "dropped", self.qdisc_drops()),
        ];
        rows.extend(self.rules.iter().map(|((rule, _), grown)| row(LossLayer::Policy, rule, grown.sum)));
        let kernel = self.reasons.iter().filter(|(reason, _)| *reason != BACKLOG && !is_qdisc(reason));
        rows.extend(kernel.map(|(reason, grown)| {
            row(LossLayer::Kernel, reason, grown.sum.saturating_sub(self.by_rules(reason)))
        }));
        rows.push(row(LossLayer::Unexplained, "dropped", self.unexplained()));
        rows.retain(|row| row.packets > 0);
        rows
    }

    /// Packets of a kernel's reason that our rules dropped.
    fn by_rules(&self, reason: &str) -> u64 {
        let way = match reason {
            "tc_ingress" => Direction::Ingress,
            "tc_egress" => Direction::Egress,
            _ => return 0,
        };
        self.rules.iter().filter(|((_, direction), _)| *direction == way).map(|(_, grown)| grown.sum).sum()
    }

    /// The disciplines count what they drop, and the stack names a reason for the same packets; each may miss some (a
    /// replaced discipline begins at zero, the datapath may have come later), so the larger is nearer to the truth.
    fn qdisc_drops(&self) -> u64 {
        self.qdisc.sum.max(self.reason_sum(is_qdisc))
    }

    /// What the device counted as dropped and no reason can stand for. Every drop reason that the device may have
    /// counted too is taken as an explanation, so the remainder may be too small, but holds no packet of another row.
    fn unexplained(&self) -> u64 {
        let dropped: u64 = self.dropped.iter().map(|grown| grown.sum).sum();
        dropped.saturating_sub(self.reason_sum(|reason| !is_qdisc(reason) && !is_beyond_the_device(reason)))
    }

    fn reason_sum(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        self.reasons.iter().filter(|(reason, _)| wanted(reason)).map(|(_, grown)| grown.sum).sum()
    }
}

/// Reasons by which queueing disciplines drop (include/net/dropreason-core.h). `tc_ingress` and `tc_egress` are not
/// among them: those packets were dropped by programs and filters, before or beside the root discipline.
fn is_qdisc(reason: &str) -> bool {
    starts_with_any(reason, &["qdisc_", "cake_", "fq_", "dualpi2_"])
}

/// Reasons given by IP, the transports, sockets, the packet filter and the neighbour table. No device counts these: the
/// packet had already left it, or had not come to it.
fn is_beyond_the_device(reason: &str) -> bool {
    const NETWORK: [&str; 12] = [
        "ip_",
        "ipv4",
        "ipv6",
        "icmp",
        "frag_",
        "dup_frag",
        "fib_",
        "neigh_",
        "netfilter_",
        "xfrm_",
        "otherhost",
        "unicast_in_l2_multicast",
    ];
    const SOCKETS: [&str; 9] = [
        "tcp_",
        "udp_",
        "socket_",
        "no_socket",
        "proto_mem",
        "security_hook",
        "packet_sock_",
        "unix_",
        "bpf_cgroup",
    ];
    starts_with_any(reason, &NETWORK)
        || starts_with_any(reason, &SOCKETS)
        || starts_with_any(reason, &["tc_"])
}

fn starts_with_any(reason: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| reason.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eth0() -> IfIndex {
        IfIndex::try_from(2).unwrap()
    }

    fn dropped(reason: &str, packets: u64) -> DropCounters {
        DropCounters { reason: reason.into(), place: DropPlace::Interface(eth0()), packets }
    }

    fn cpu(dropped: u64) -> Softnet {
        Softnet { cpu: 0, processed: 0, dropped, time_squeeze: 0, backlog: 0 }
    }

    fn rows(book: &LossBook) -> Vec<(LossLayer, String, u64)> {
        let ledgers = book.losses().interfaces;
        ledgers
            .into_iter()
            .flat_map(|ledger| ledger.rows)
            .map(|row| (row.layer, row.reason, row.packets))
            .collect()
    }

    /// The rows after a first reading of `before` and a second of `after`.
    fn between(
        before: (LinkCounters, &[DropCounters]),
        after: (LinkCounters, &[DropCounters]),
    ) -> Vec<(LossLayer, String, u64)> {
        let mut book = LossBook::default();
        for (counters, drops) in [before, after] {
            book.see(&BTreeMap::from([(eth0(), counters)]), drops, &[]);
        }
        rows(&book)
    }

    #[test]
    fn what_a_rule_dropped_is_its_own_row_and_no_longer_the_kernels() {
        let rule = |rule: &str, direction, packets| RuleDrops {
            interface: eth0(),
            direction,
            rule: rule.into(),
            packets,
        };
        let mut book = LossBook::default();
        for packets in [10, 25] {
            book.see(
                &BTreeMap::from([(eth0(), LinkCounters::default())]),
                &[dropped("tc_ingress", packets + 3)],
                &[],
            );
            book.see_rules(&[rule("edge/block", Direction::Ingress, packets)]);
        }
        assert_eq!(rows(&book), [(LossLayer::Policy, "edge/block".to_owned(), 15)]);
        book.see(&BTreeMap::from([(eth0(), LinkCounters::default())]), &[dropped("tc_ingress", 30)], &[]);
        book.see_rules(&[rule("edge/block", Direction::Ingress, 25), rule("edge/out", Direction::Egress, 4)]);
        let expected = [
            (LossLayer::Policy, "edge/block".to_owned(), 15),
            (LossLayer::Policy, "edge/out".to_owned(), 4),
            (LossLayer::Kernel, "tc_ingress".to_owned(), 2),
        ];
        assert_eq!(rows(&book), expected);
    }

    /// What it is, what the device counted, what the stack dropped, and the rows that are to come of it.
    type Case = (&'static str, LinkCounters, Vec<DropCounters>, Vec<(LossLayer, &'static str, u64)>);

    #[test]
    fn each_packet_is_in_one_row() {
        use LossLayer::{Kernel, Nic, Qdisc, Softnet, Unexplained};
        let zero = LinkCounters::default();
        let cases: Vec<Case> = vec![
            ("nothing", zero, vec![], vec![]),
            (
                "the device's own",
                LinkCounters { rx_missed: 5, rx_errors: 2, tx_errors: 1, ..zero },
                vec![],
                vec![(Nic, "rx_missed", 5), (Nic, "rx_errors", 2), (Nic, "tx_errors", 1)],
            ),
            (
                "no protocol wanted it",
                LinkCounters { rx_dropped: 7, ..zero },
                vec![dropped("unhandled_proto", 7)],
                vec![(Kernel, "unhandled_proto", 7)],
            ),
            (
                "the backlog was full",
                LinkCounters { rx_dropped: 9, ..zero },
                vec![dropped("cpu_backlog", 9)],
                vec![(Softnet, "cpu_backlog", 9)],
            ),
            (
                "a standby port",
                LinkCounters { rx_nohandler: 3, ..zero },
                vec![dropped("unhandled_proto", 3)],
                vec![(Kernel, "unhandled_proto", 3)],
            ),
            (
                "the driver dropped in silence",
                LinkCounters { rx_dropped: 4, tx_dropped: 2, ..zero },
                vec![],
                vec![(Unexplained, "dropped", 6)],
            ),
            (
                "no socket does not explain what the driver dropped",
                LinkCounters { rx_dropped: 4, ..zero },
                vec![dropped("no_socket", 10)],
                vec![(Kernel, "no_socket", 10), (Unexplained, "dropped", 4)],
            ),
            (
                "a queue told twice",
                LinkCounters { qdisc_drops: 8, ..zero },
                vec![dropped("qdisc_overlimit", 6), dropped("qdisc_drop", 2)],
                vec![(Qdisc, "dropped", 8)],
            ),
            (
                "a queue that was replaced",
                LinkCounters { qdisc_drops: 1, ..zero },
                vec![dropped("qdisc_drop", 8)],
                vec![(Qdisc, "dropped", 8)],
            ),
            (
                "more reasons than the device counted",
                LinkCounters { rx_dropped: 1, ..zero },
                vec![dropped("not_specified", 5)],
                vec![(Kernel, "not_specified", 5)],
            ),
        ];
        for (case, counters, drops, expected) in cases {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(layer, reason, packets)| (layer, reason.to_owned(), packets))
                .collect();
            assert_eq!(between((zero, &[]), (counters, &drops)), expected, "{case}");
        }
    }

    #[test]
    fn what_was_before_the_first_look_is_not_ours() {
        let old = LinkCounters { rx_missed: 1000, rx_dropped: 500, ..LinkCounters::default() };
        let new = LinkCounters { rx_missed: 1001, ..old };
        let drops = [dropped("unhandled_proto", 400)];
        let expected = vec![(LossLayer::Nic, "rx_missed".to_owned(), 1)];
        assert_eq!(between((old, &drops), (new, &drops)), expected);
    }

    #[test]
    fn a_driver_that_begins_anew_loses_nothing_twice() {
        let mut book = LossBook::default();
        for rx_missed in [100, 103, 2, 5] {
            let counters = LinkCounters { rx_missed, ..LinkCounters::default() };
            book.see(&BTreeMap::from([(eth0(), counters)]), &[], &[]);
        }
        assert_eq!(rows(&book), [(LossLayer::Nic, "rx_missed".to_owned(), 3 + 2 + 3)]);
    }

    #[test]
    fn the_backlog_of_others_is_told_for_the_host() {
        let mut book = LossBook::default();
        let links = BTreeMap::from([(eth0(), LinkCounters::default())]);
        book.see(&links, &[], &[cpu(50), cpu(50)]);
        book.see(&links, &[dropped("cpu_backlog", 4)], &[cpu(60), cpu(50)]);
        assert_eq!(book.losses().backlog_elsewhere, 6);
        assert_eq!(rows(&book), [(LossLayer::Softnet, "cpu_backlog".to_owned(), 4)]);
    }

    #[test]
    fn an_interface_that_has_gone_is_forgotten() {
        let mut book = LossBook::default();
        book.see(&BTreeMap::from([(eth0(), LinkCounters::default())]), &[], &[]);
        book.see(&BTreeMap::new(), &[dropped("no_socket", 4)], &[]);
        assert_eq!(book.losses(), Losses::default());
    }

    const REASONS: [&str; 6] =
        ["unhandled_proto", "cpu_backlog", "qdisc_drop", "no_socket", "not_specified", "tc_ingress"];

    proptest! {
        /// Packets whose fate is known, counted the way that the kernel counts them.
        #[test]
        fn the_rows_add_up_to_what_was_lost(
            fates in proptest::collection::vec((0usize..REASONS.len() + 2, 1u64..50), 0..40),
        ) {
            let mut counters = LinkCounters::default();
            let mut reasons = [0u64; REASONS.len()];
            let mut lost = 0;
            let mut book = LossBook::default();
            for (fate, packets) in [(0, 0)].into_iter().chain(fates) {
                lost += packets;
                match fate {
                    0 | 1 => { counters.rx_dropped += packets; reasons[fate] += packets }
                    2 => { counters.qdisc_drops += packets; reasons[fate] += packets }
                    3..6 => reasons[fate] += packets,
                    6 => counters.rx_dropped += packets,
                    _ => counters.rx_missed += packets,
                }
                let drops: Vec<_> =
                    REASONS.iter().zip(reasons).filter(|(_, n)| *n > 0).map(|(reason, n)| dropped(reason, n)).collect();
                book.see(&BTreeMap::from([(eth0(), counters)]), &drops, &[]);
                let told: u64 = rows(&book).iter().map(|(_, _, packets)| packets).sum();
                // A drop without a reason may hide what the driver dropped, and nothing else may.
                prop_assert!(told <= lost && told + reasons[4].min(counters.rx_dropped) >= lost);
            }
        }

        #[test]
        fn any_readings_give_sums_without_panic(
            readings in proptest::collection::vec((0u64..1 << 60, 0u64..1 << 60, 0usize..REASONS.len(), 0u64..1 << 60), 0..8),
        ) {
            let mut book = LossBook::default();
            for (rx_dropped, qdisc_drops, reason, packets) in readings {
                let counters = LinkCounters { rx_dropped, qdisc_drops, ..LinkCounters::default() };
                let links = BTreeMap::from([(eth0(), counters)]);
                book.see(&links, &[dropped(REASONS[reason], packets)], &[cpu(packets)]);
                prop_assert!(rows(&book).iter().all(|(_, _, packets)| *packets > 0));
            }
        }
    }
}
