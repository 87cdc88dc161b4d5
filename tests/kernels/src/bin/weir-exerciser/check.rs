//! The checks, in the order in which they run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_netns::foreign::{Foreign, Place, Verdict};
use weir_netns::openmetrics::Scrape;
use weir_netns::topology::{VIP4, VIP6};
use weir_netns::wait::until;
use weir_netns::{Agent, Host, namespace};

use crate::rules;
use crate::shape::{Built, PORT, SHAPES, Shape};

/// What a check that did not fail says.
pub(crate) enum Told {
    Passed(String),
    Skipped(String),
}

type Check = fn() -> Result<Told>;

pub(crate) const ALL: [(&str, Check); 11] = [
    ("check", report),
    (SHAPES[0].name, || counted(&SHAPES[0])),
    (SHAPES[1].name, || counted(&SHAPES[1])),
    (SHAPES[2].name, || counted(&SHAPES[2])),
    (SHAPES[3].name, || counted(&SHAPES[3])),
    (SHAPES[4].name, || counted(&SHAPES[4])),
    ("tcp", tcp),
    ("drops", drops),
    ("policy", rules::policy),
    ("pace", rules::pace),
    ("chain", chain),
];

pub(crate) const DATAGRAMS: usize = 200;
/// Emulated machines are slow.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn passed(text: impl Into<String>) -> Result<Told> {
    Ok(Told::Passed(text.into()))
}

/// What `weir-agent check` says of this kernel. Whatever does not work is named; what every kernel has must work.
fn report() -> Result<Told> {
    let output = namespace::succeed(Command::new("/bin/weir-agent").args(["check", "-o", "json"]))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let features = report["features"].as_array().context("no features in the report")?;
    let (mut works, mut less) = (0, Vec::new());
    for feature in features {
        let (name, state) = (&feature["name"], &feature["state"]);
        if state == "works" {
            works += 1;
        } else {
            less.push(format!("{} {state}", name.as_str().unwrap_or("?")));
        }
    }
    for name in ["maps", "packet-programs", "pins", "btf", "kernel-drops", "tcp-health", "netlink"] {
        let lacks = less.iter().find(|one| one.starts_with(&format!("{name} ")));
        ensure!(lacks.is_none(), "{lacks:?}");
    }
    let less = if less.is_empty() { String::new() } else { format!("; {}", less.join("; ")) };
    passed(format!("{works} of {} features work{less}", features.len()).replace(['{', '}', '"'], ""))
}

/// Whether this kernel has TCX, by its number (6.6).
fn has_tcx() -> bool {
    let name = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let mut numbers = name.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 6)
}

/// An agent that finds its uplinks by itself.
fn agent<'a>(node: &'a Host, watched: &[&str]) -> Result<Agent<'a>> {
    let mut agent = Agent::new(node, Path::new("/bin/weir-agent"), &["--vip", VIP4, "--vip", VIP6])?;
    agent.start()?;
    for interface in watched {
        agent.await_interface(interface)?;
        agent.await_hook(interface, if has_tcx() { "head" } else { "legacy-tc" })?;
    }
    Ok(agent)
}

pub(crate) fn vip(scrape: &Scrape, vip: &str) -> u64 {
    let port = PORT.to_string();
    let labels = [("vip", vip), ("port", &port), ("protocol", "udp"), ("direction", "ingress")];
    scrape.count("weir_vip_packets_total", &labels)
}

/// Datagrams through an uplink are counted exactly, each once, also while no agent runs; then all of it is removed again.
fn counted(shape: &Shape) -> Result<Told> {
    let built = shape.build()?;
    let mut agent = agent(&built.node, shape.watched)?;
    let first = agent.scrape()?;
    let hooks = first.by("weir_interface_packets_total", "interface");
    let hooks: Vec<_> = hooks.keys().map(String::as_str).collect();
    ensure!(hooks == shape.watched, "measures {hooks:?} and not {:?}", shape.watched);
    exact(shape, &built, &agent, &first, 1)?;
    agent.process()?.kill()?;
    built.send(DATAGRAMS)?;
    agent.start()?;
    exact(shape, &built, &agent, &first, 3)?;
    agent.process()?.stop()?;
    agent.detach()?;
    for interface in shape.watched {
        let filters = filters(&built.node, interface)?;
        ensure!(filters.is_empty(), "filters are left on {interface}: {filters}");
    }
    ensure!(!agent.pins().exists(), "pins are left in {}", agent.pins().display());
    passed(format!(
        "{} datagrams and the links' own counters agree on {}, through a crash and a restart; detached without remains",
        6 * DATAGRAMS,
        hooks.join(" and "),
    ))
}

/// Sends, and compares with what was counted since `first`: so many rounds of datagrams, this one included.
fn exact(shape: &Shape, built: &Built, agent: &Agent<'_>, first: &Scrape, rounds: usize) -> Result<()> {
    let kernel = || shape.watched.iter().map(|name| built.node.counters(name)).collect::<Result<Vec<_>>>();
    let quiet = || -> Result<_> {
        let mut read = None;
        until("a moment without packets", LIMIT, || {
            let before = kernel()?;
            let scrape = agent.scrape()?;
            read = (kernel()? == before).then_some((scrape, before));
            Ok(read.is_some())
        })?;
        read.context("nothing was read")
    };
    let (before, links_before) = quiet()?;
    built.send(DATAGRAMS)?;
    let (after, links_after) = quiet()?;
    let expected = (rounds * DATAGRAMS) as u64;
    for address in [VIP4, VIP6] {
        let counted = vip(&after, address) - vip(first, address);
        ensure!(counted == expected, "{address}: {counted} packets and not {expected}");
        let labels = [("vip", address), ("vlan", shape.vlan), ("direction", "ingress")];
        let tagged = after.count("weir_vip_vlan_packets_total", &labels);
        ensure!(tagged >= expected, "{address}: {tagged} packets in VLAN {} and not {expected}", shape.vlan);
    }
    for ((name, before_link), after_link) in shape.watched.iter().zip(links_before).zip(links_after) {
        let grown = |direction| {
            let labels = [("interface", *name), ("direction", direction)];
            after.count("weir_interface_packets_total", &labels)
                - before.count("weir_interface_packets_total", &labels)
        };
        let link = after_link - before_link;
        ensure!(
            (grown("ingress"), grown("egress")) == (link.received_packets, link.sent_packets),
            "{name}: {} in, {} out, and the link says {link:?}",
            grown("ingress"),
            grown("egress")
        );
    }
    Ok(())
}

/// Legacy filters of ours on an interface, as tc prints them.
fn filters(node: &Host, interface: &str) -> Result<String> {
    let mut all = String::new();
    for hook in ["ingress", "egress"] {
        let mut tc = Command::new("tc");
        tc.args(["filter", "show", "dev", interface, hook]);
        // Without a clsact qdisc tc says so and fails: there is no filter then.
        let output = node.run(|| Ok(tc.output()?))?;
        all += &String::from_utf8_lossy(&output.stdout);
    }
    Ok(all.lines().filter(|line| line.contains("weir")).collect::<Vec<_>>().join(" "))
}

/// Connections of local sockets are measured.
fn tcp() -> Result<Told> {
    let shape = &SHAPES[0];
    let built = shape.build()?;
    let agent = agent(&built.node, shape.watched)?;
    let mut serve = built.node.command("/bin/weir-traffic");
    serve.args(["serve", "--address", VIP4, "--address", VIP6]).stdout(Stdio::piped());
    let mut server = built.node.start(&mut serve)?;
    let mut line = String::new();
    let stdout = server.child().stdout.take().context("no stdout")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let mut load = Command::new("/bin/weir-traffic");
    load.args(["load", "--rounds", "8", "--pace", "0", "--target", VIP4, "--target", VIP6]);
    built.peer.output(&mut load)?;
    let scrape = agent.scrape()?;
    let accepts = scrape.count("weir_tcp_accepts_total", &[]);
    let samples = scrape.count("weir_tcp_rtt_seconds_count", &[]);
    // Those of the load, and ours to /metrics.
    ensure!(accepts >= 16, "{accepts} connections accepted and not 16");
    ensure!(samples > 0, "no round-trip time");
    let syn = scrape.count("weir_vip_tcp_syn_packets_total", &[("port", "5432"), ("direction", "ingress")]);
    ensure!(syn == 16, "{syn} SYN and not 16");
    passed(format!("{syn} connections to the virtual addresses, {samples} round-trip samples"))
}

/// Drops have the running kernel's own names.
fn drops() -> Result<Told> {
    let shape = &SHAPES[0];
    let built = shape.build()?;
    let agent = agent(&built.node, shape.watched)?;
    let labels = [("reason", "no_socket")];
    let before = agent.scrape()?.count("weir_drops_total", &labels);
    built.send(DATAGRAMS)?;
    let expected = 2 * DATAGRAMS as u64;
    let dropped = || anyhow::Ok(agent.scrape()?.count("weir_drops_total", &labels) - before);
    until("all datagrams are dropped", LIMIT, || Ok(dropped()? >= expected))?;
    passed(format!("{} packets for which there was no socket, by that name", dropped()?))
}

/// With a program before us and one at the tail that ends the chain.
fn chain() -> Result<Told> {
    if !has_tcx() {
        return Ok(Told::Skipped("this kernel has no TCX".to_owned()));
    }
    let shape = &SHAPES[0];
    let built = shape.build()?;
    let tail = Foreign::attach(&built.node, shape.uplink, Place::Tail, Verdict::Pass)?;
    let agent = agent(&built.node, shape.watched)?;
    let head = Foreign::attach(&built.node, shape.uplink, Place::Head, Verdict::Next)?;
    let (first, runs) = (agent.scrape()?, (head.runs()?, tail.runs()?));
    built.send(DATAGRAMS)?;
    let after = agent.scrape()?;
    let expected = DATAGRAMS as u64;
    for address in [VIP4, VIP6] {
        let counted = vip(&after, address) - vip(&first, address);
        ensure!(counted == expected, "{address}: {counted} packets and not {expected}");
    }
    let (before_us, after_us) = (head.runs()? - runs.0, tail.runs()? - runs.1);
    ensure!(
        before_us >= 2 * expected && after_us >= 2 * expected,
        "{before_us} before us, {after_us} at the tail"
    );
    agent.await_hook(shape.uplink, "not-head")?;
    passed("a program before us and one that ends the chain see all packets, and so do we")
}
