//! The reference of all metrics, `docs/metrics.md`, written from the families themselves.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Family, families};

/// What bounds each label.
const BOUNDS: &[(&str, &str)] = &[
    ("about", "6 facts of a BGP session"),
    ("afi", "2: `ipv4`, `ipv6`"),
    (
        "cause",
        "7 causes by which a BGP session is lost; 3 by which a policy set is: `deadline`, `person`, `superseded`",
    ),
    ("class", "the class table, plus `other`; a name is at most 64 plain characters"),
    ("counter", "a fixed list of 35 counters in `export/metrics/kernel.rs`"),
    ("cpu", "the node's CPUs"),
    ("diagnostic", "the 10 words of RFC 5880, 4.1"),
    ("direction", "2: `ingress`, `egress`, seen from the node"),
    ("event", "4 events that change routes"),
    ("family", "2: `ipv4`, `ipv6`"),
    ("feature", "the features of `weir-agent check`"),
    (
        "gateway",
        "the gateways of the watched interfaces; for neighbours the next hops of the main tables, at most 64",
    ),
    ("hop", "16 link-layer addresses for each virtual address and direction"),
    (
        "interface",
        "256 of the node's interfaces, watched ones first; for hooks, losses and gateways the watched ones; 256 that LinkMonitors name",
    ),
    ("kernel", "1"),
    (
        "kind",
        "of links: the kernel's kinds; of probes: `arp` or `nd`, and `echo`; of events: the kernel's tables",
    ),
    ("layer", "5: `nic`, `softnet`, `qdisc`, `policy`, `kernel`"),
    ("local_asn", "1 for each BGP session, or `unknown`"),
    ("lockdown", "1"),
    ("map", "the agent's maps"),
    ("master", "1 for each interface"),
    ("mode", "of policies: `audit`, `enforce`; of BFD: `speaking`, `observing`"),
    ("node", "1"),
    ("parent", "1 for each interface"),
    (
        "peer",
        "256 BGP sessions; those that never came up are forgotten after ten minutes, others after a day; of BFD: the sessions, at most 64",
    ),
    ("peer_node", "the 8 other nodes that this one probes"),
    ("peer_asn", "1 for each BGP session, or `unknown`"),
    ("place", "2: `here`, `all`"),
    ("policy", "the policies of the node"),
    ("port", "the ledger's rows for one virtual address; ports beyond them are `other`"),
    ("prefix", "64 prefixes, those with the most trouble"),
    ("program", "the agent's programs"),
    ("protocol", "of virtual addresses: IANA's names or numbers; of routes: 11 makers"),
    (
        "reason",
        "of drops: the running kernel's drop reasons, plus 7 of devices and one of softnet; of policies: 20 words; of BFD: 15; of calls: 10",
    ),
    ("result", "of certificates: `taken`, `refused`; of keys: `ok`, `failed`"),
    ("rule", "the rules of the node, at most 4096 since the maps were pinned"),
    ("security", "2: `mtls`, `plain`"),
    ("side", "2: `here`, `there`"),
    ("source", "of drops: `kernel`, `nic`, `softnet`, `qdisc`; of readings: `datapath`, `host`, `flows`"),
    ("state", "the fixed words of each state"),
    ("table", "a fixed list, see `counter`"),
    ("type", "the 5 types of BGP messages"),
    ("verdict", "3: `pass`, `drop`, `saved`"),
    ("version", "1"),
    ("vip", "the virtual addresses given to the agent and those of Services, at most 4096"),
    (
        "vlan",
        "the VLAN identifiers seen with a virtual address, within the ledger's rows; `none` is untagged",
    ),
    ("wanted", "5: `here`, `elsewhere`, `somewhere`, `no`, `unknown`"),
    (
        "workload",
        "the node's workloads in Istio's ambient mesh as `namespace/name`; of more than 2,000 pairs the rest is `unknown`",
    ),
];

const INTRODUCTION: &str = "\
# Metrics of weir-agent

`/metrics` answers in the OpenMetrics text format 1.0. All values are read at the scrape. A series ends when its object
goes. A source that cannot be read leaves its series out, and `weir_source_errors_total` rises. Counters count since the
agent's programs were first loaded; restarts and upgrades of the agent keep them. No label holds a connection.

This file is written from the code: `WRITE_DOCS=1 cargo test -p weir-agent --test metrics` updates it.
";

/// Writes the reference as Markdown.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Families\n");
    families().for_each(|family| section(&mut text, family));
    text.push_str("\n## Bounds of labels\n\n| label | bound |\n|---|---|\n");
    for (label, bound) in BOUNDS {
        let _ = writeln!(text, "| `{label}` | {bound} |");
    }
    text
}

/// Labels in use that have no documented bound, and documented ones that are not in use.
pub fn unmatched_labels() -> Vec<&'static str> {
    let used: BTreeSet<&str> = families().flat_map(|family| family.labels).copied().collect();
    let bound: BTreeSet<&str> = BOUNDS.iter().map(|(label, _)| *label).collect();
    used.symmetric_difference(&bound).copied().collect()
}

fn section(text: &mut String, family: &Family) {
    let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    let labels = if labels.is_empty() { "no labels".to_owned() } else { format!("labels {labels}") };
    let _ = writeln!(text, "\n### `{}`\n", family.sample_name());
    let _ = writeln!(text, "{}, {labels}. {}.\n", capitalised(family.kind.as_str()), family.help);
    let _ = writeln!(text, "What to do: {}", family.advice);
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
