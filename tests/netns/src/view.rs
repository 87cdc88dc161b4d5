//! The demo's live view: two scrapes of each node and the seconds between them, made a page of text.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::openmetrics::Scrape;

/// One node at two times.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// Name shown for the node.
    pub node: &'a str,
    /// The earlier scrape.
    pub before: &'a Scrape,
    /// The later one.
    pub now: &'a Scrape,
    /// Seconds from one to the other.
    pub seconds: f64,
}

impl Interval<'_> {
    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        (self.now.sum(name, labels) - self.before.sum(name, labels)) / self.seconds
    }

    fn packets(&self, direction: &str) -> f64 {
        self.rate("weir_interface_packets_total", &[("direction", direction)])
    }

    fn bits(&self, direction: &str) -> f64 {
        8.0 * self.rate("weir_interface_bytes_total", &[("direction", direction)])
    }

    /// Milliseconds, the mean over all samples since the start.
    fn mean(&self, histogram: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let count = self.now.sum(&format!("{histogram}_count"), labels);
        let sum = self.now.sum(&format!("{histogram}_sum"), labels);
        (count > 0.0).then(|| 1000.0 * sum / count)
    }
}

/// The whole page.
pub fn page(nodes: &[Interval<'_>]) -> String {
    let mut page = String::new();
    table(
        &mut page,
        "node   in pkt/s   in Mb/s  out pkt/s  out Mb/s  gateway ms  rtt ms  retrans  drops",
        nodes,
        |it| {
            format!(
                "{:<6}{:>9.0}{:>10.2}{:>11.0}{:>10.2}{:>12}{:>8}{:>9}{:>7}",
                it.node,
                it.packets("ingress"),
                it.bits("ingress") / 1e6,
                it.packets("egress"),
                it.bits("egress") / 1e6,
                shown(it.mean("weir_gateway_probe_seconds", &[])),
                shown(it.mean("weir_tcp_rtt_seconds", &[])),
                it.now.count("weir_tcp_retransmitted_segments_total", &[]),
                it.now.count("weir_drops_total", &[]),
            )
        },
    );
    page.push_str("\nvirtual address (all nodes)          packets        bytes     SYN     RST\n");
    for vip in keys(nodes, "weir_vip_packets_total", "vip") {
        let sum = |name: &str| nodes.iter().map(|it| it.now.count(name, &[("vip", &vip)])).sum::<u64>();
        writeln!(
            page,
            "{vip:<32}{:>12}{:>13}{:>8}{:>8}",
            sum("weir_vip_packets_total"),
            sum("weir_vip_bytes_total"),
            sum("weir_vip_tcp_syn_packets_total"),
            sum("weir_vip_tcp_rst_packets_total"),
        )
        .ok();
    }
    ranking(
        &mut page,
        "\ntraffic class (all nodes)      packets",
        nodes,
        "weir_class_packets_total",
        "class",
    );
    // Every agent sees the drops of the whole machine: one of them tells all.
    let one = nodes.get(..1).unwrap_or_default();
    ranking(&mut page, "\ndrop reason (whole machine)    packets", one, "weir_drops_total", "reason");
    page
}

/// What a plan of vyos-sync would do, a line an object in place of a line a statement.
pub fn plan_digest(plan: &str) -> String {
    let (mut head, mut objects) = (String::new(), Vec::<(&str, usize)>::new());
    for line in plan.lines() {
        match line.rsplit_once("  # ") {
            Some((_, object)) => match objects.iter_mut().find(|(known, _)| *known == object) {
                Some((_, statements)) => *statements += 1,
                None => objects.push((object, 1)),
            },
            None => writeln!(head, "{line}").unwrap_or_default(),
        }
    }
    let lines =
        objects.iter().map(|(object, statements)| format!("  {object:<40}{statements:>4} statements\n"));
    lines.fold(head, |all, line| all + &line)
}

fn table(page: &mut String, head: &str, nodes: &[Interval<'_>], row: impl Fn(&Interval<'_>) -> String) {
    page.push_str(head);
    page.push('\n');
    for node in nodes {
        page.push_str(&row(node));
        page.push('\n');
    }
}

/// The five largest values of a label, over all nodes.
fn ranking(page: &mut String, head: &str, nodes: &[Interval<'_>], name: &str, label: &str) {
    let mut sums = BTreeMap::new();
    for (key, value) in nodes.iter().flat_map(|node| node.now.by(name, label)) {
        *sums.entry(key).or_insert(0.0) += value;
    }
    let mut rows: Vec<_> = sums.into_iter().filter(|(_, value)| *value > 0.0).collect();
    rows.sort_by(|one, other| other.1.total_cmp(&one.1));
    if rows.is_empty() {
        return;
    }
    page.push_str(head);
    page.push('\n');
    for (key, value) in rows.iter().take(5) {
        writeln!(page, "{key:<26}{value:>12.0}").ok();
    }
}

fn keys(nodes: &[Interval<'_>], name: &str, label: &str) -> std::collections::BTreeSet<String> {
    nodes.iter().flat_map(|node| node.now.by(name, label).into_keys()).collect()
}

fn shown(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(|| "-".into(), |it| format!("{it:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_by_object() {
        let plan = "plan 1 for VyOS 1.5: 3 to create\n+ set a b  # RouterNetwork lab/a\n+ set c d  # Router gw\n\
            + set a e  # RouterNetwork lab/a\n";
        let digest = plan_digest(plan);
        let lines: Vec<Vec<_>> = digest.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].last(), Some(&"create"));
        assert_eq!(
            lines[1..],
            [vec!["RouterNetwork", "lab/a", "2", "statements"], vec!["Router", "gw", "1", "statements"]]
        );
    }

    #[test]
    fn rates_are_differences_by_time() {
        let before =
            Scrape::parse("weir_interface_packets_total{interface=\"eth0\",direction=\"ingress\"} 100\n");
        let now = Scrape::parse(
            "weir_interface_packets_total{interface=\"eth0\",direction=\"ingress\"} 300\n\
             weir_tcp_rtt_seconds_sum{class=\"db\"} 0.01\nweir_tcp_rtt_seconds_count{class=\"db\"} 20\n\
             weir_drops_total{reason=\"NO_SOCKET\",source=\"kernel\"} 3\n\
             weir_vip_packets_total{vip=\"10.10.50.10\"} 7\n",
        );
        let page = page(&[Interval { node: "node1", before: &before, now: &now, seconds: 2.0 }]);
        let row: Vec<_> = page.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["node1", "100", "0.00", "0", "0.00", "-", "0.50", "0", "3"]);
        assert!(page.contains("NO_SOCKET"));
        let interval = |node| Interval { node, before: &before, now: &now, seconds: 2.0 };
        let two = super::page(&[interval("node1"), interval("node2")]);
        assert!(two.lines().any(|line| line.starts_with("NO_SOCKET") && line.ends_with(" 3")), "{two}");
        assert!(page.lines().any(|line| line.starts_with("10.10.50.10") && line.contains(" 7 ")));
    }
}
