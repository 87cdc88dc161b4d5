//! `make demo`: the lab, one agent a node, real traffic, and a live view of what the agents measure.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weir_netns::openmetrics::Scrape;
use weir_netns::topology::{CLIENT, UPLINK, VIP4, VIP6};
use weir_netns::traffic::Tally;
use weir_netns::view::{self, Interval};
use weir_netns::{Agent, Host, Lab, Process, agent, reap, relay};

/// Of what the router forwards, so that retransmissions are there to be seen.
const LOSS_PERCENT: u8 = 1;
const REFRESH: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        bail!("the demo cannot run here: {reason}");
    }
    let interrupts = reap::interrupts();
    let shown = demo(seconds()?, &interrupts);
    println!("cleaned up: agents detached, namespaces and control groups removed");
    shown
}

fn seconds() -> Result<Duration> {
    let text = std::env::var("DEMO_SECONDS").unwrap_or_else(|_| "30".into());
    Ok(Duration::from_secs(text.parse().with_context(|| format!("DEMO_SECONDS is {text:?}, not a number"))?))
}

fn demo(length: Duration, interrupts: &Receiver<()>) -> Result<()> {
    println!("building the lab: client, router, three nodes that share {VIP4} and {VIP6}");
    let lab = Lab::new()?;
    lab.lose(LOSS_PERCENT)?;
    let _servers = serve_everywhere(&lab)?;
    let mut agents = agents(&lab)?;
    for (agent, node) in agents.iter_mut().zip(&lab.nodes) {
        ensure!(interrupts.try_recv().is_err(), "interrupted");
        println!("starting weir-agent on {}", node.name());
        agent.start()?;
    }
    let places = publish(&lab)?;
    let before = ledgers(&lab, &agents)?;
    let mut loads = load(&lab)?;
    let shown = watch(&agents, &places, length, interrupts);
    println!();
    loads.iter_mut().try_for_each(report)?;
    shown?;
    println!("\nweirctl status, on {}:\n{}", lab.nodes[0].name(), agents[0].weirctl(&["status"])?);
    compare(&lab, &agents, &before)
}

fn agents(lab: &Lab) -> Result<Vec<Agent<'_>>> {
    let program = agent::built()?;
    let options = ["--interface", UPLINK, "--vip", VIP4, "--vip", VIP6];
    lab.nodes.iter().map(|node| Agent::new(node, &program, &options)).collect()
}

/// The nodes answer on the virtual addresses, the client on its own for what the nodes ask.
fn serve_everywhere(lab: &Lab) -> Result<Vec<Process>> {
    let nodes = lab.nodes.iter().map(|node| serve(node, &[VIP4, VIP6]));
    nodes.chain([serve(&lab.client, &CLIENT)]).collect()
}

fn serve(host: &Host, addresses: &[&str]) -> Result<Process> {
    let mut command = host.command(traffic_program()?);
    command.arg("serve").args(addresses.iter().flat_map(|address| ["--address", *address]));
    let mut process = host.start(command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(process.child().stdout.take().context("the server has no stdout")?)
        .read_line(&mut line)?;
    ensure!(line == "ready\n", "a server did not start; it said {line:?}");
    Ok(process)
}

/// The client asks the virtual addresses, and every node asks the client.
fn load(lab: &Lab) -> Result<Vec<Process>> {
    let nodes = lab.nodes.iter().map(|node| ask(node, &CLIENT, 400));
    [ask(&lab.client, &[VIP4, VIP6], 20)].into_iter().chain(nodes).collect()
}

fn ask(host: &Host, targets: &[&str], pace: u64) -> Result<Process> {
    let mut command = host.command(traffic_program()?);
    command.args(["load", "--pace", &pace.to_string()]);
    command.args(targets.iter().flat_map(|target| ["--target", *target]));
    host.start(command.stdout(Stdio::piped()))
}

fn traffic_program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("weir-traffic");
    ensure!(path.is_file(), "{} is missing: cargo build -p weir-netns --bins", path.display());
    Ok(path)
}

/// Make each agent's metrics reachable from this machine's loopback.
fn publish(lab: &Lab) -> Result<Vec<SocketAddr>> {
    let ports = Agent::METRICS.port()..;
    lab.nodes.iter().zip(ports).map(|(node, port)| relay::open(node, Agent::METRICS, port)).collect()
}

/// Show the view each second, until the time is over or Ctrl-C.
fn watch(
    agents: &[Agent<'_>],
    places: &[SocketAddr],
    length: Duration,
    interrupts: &Receiver<()>,
) -> Result<()> {
    let start = Instant::now();
    let terminal = std::io::stdout().is_terminal();
    let mut before = scrapes(agents)?;
    let mut at = start;
    while start.elapsed() < length {
        if !matches!(interrupts.recv_timeout(REFRESH), Err(RecvTimeoutError::Timeout)) {
            println!("interrupted");
            break;
        }
        let (now, seconds) = (scrapes(agents)?, at.elapsed().as_secs_f64());
        at = Instant::now();
        if terminal {
            print!("\x1b[H\x1b[J");
        }
        println!("Weir demo, {} of {} s. Ctrl-C ends it.", start.elapsed().as_secs(), length.as_secs());
        for (index, place) in places.iter().enumerate() {
            println!("  node{} metrics: curl http://{place}/metrics", index + 1);
        }
        println!("\n{}", view::page(&intervals(&before, &now, seconds)));
        before = now;
    }
    Ok(())
}

fn scrapes(agents: &[Agent<'_>]) -> Result<Vec<Scrape>> {
    agents.iter().map(Agent::scrape).collect()
}

fn intervals<'a>(before: &'a [Scrape], now: &'a [Scrape], seconds: f64) -> Vec<Interval<'a>> {
    let names = ["node1", "node2", "node3"];
    let pairs = names.into_iter().zip(before.iter().zip(now));
    pairs.map(|(node, (before, now))| Interval { node, before, now, seconds }).collect()
}

/// End a client and say what it did by its own count.
fn report(load: &mut Process) -> Result<()> {
    load.stop()?;
    let mut text = String::new();
    load.child().stdout.take().context("the client has no stdout")?.read_to_string(&mut text)?;
    let tally: Tally =
        serde_json::from_str(&text).with_context(|| format!("the client's tally: {text:?}"))?;
    println!(
        "a client: {} answered connections ({} bytes), {} refused, {} failed; {} datagrams, {} echoes",
        tally.connections, tally.answered_bytes, tally.refused, tally.failed, tally.datagrams, tally.echoes
    );
    Ok(())
}

/// Packets in and out of a node's uplink, as one source counts them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ledger {
    ingress: u64,
    egress: u64,
}

impl std::ops::Sub for Ledger {
    type Output = Ledger;

    fn sub(self, before: Ledger) -> Ledger {
        Ledger { ingress: self.ingress - before.ingress, egress: self.egress - before.egress }
    }
}

/// The agent's count and the kernel's own, for every node.
fn ledgers(lab: &Lab, agents: &[Agent<'_>]) -> Result<Vec<[Ledger; 2]>> {
    lab.nodes.iter().zip(agents).map(|(node, agent)| ledger(node, agent)).collect()
}

/// Both counts at a moment in which no packet passed between the readings.
fn ledger(node: &Host, agent: &Agent<'_>) -> Result<[Ledger; 2]> {
    for _ in 0..100 {
        let before = node.counters(UPLINK)?;
        let scrape = agent.scrape()?;
        if node.counters(UPLINK)? == before {
            let count = |direction| {
                scrape
                    .count("weir_interface_packets_total", &[("interface", UPLINK), ("direction", direction)])
            };
            let agent = Ledger { ingress: count("ingress"), egress: count("egress") };
            return Ok([agent, Ledger { ingress: before.received_packets, egress: before.sent_packets }]);
        }
    }
    bail!("{} never stops talking", node.name())
}

/// Say how the agents' counts compare with the kernel's once the traffic has stopped.
fn compare(lab: &Lab, agents: &[Agent<'_>], before: &[[Ledger; 2]]) -> Result<()> {
    println!("packets since the agents started, agent / kernel's own counter of the interface:");
    for (index, (now, before)) in ledgers(lab, agents)?.iter().zip(before).enumerate() {
        let [agent, kernel] = [now[0] - before[0], now[1] - before[1]];
        println!(
            "  node{}  in {} / {}  out {} / {}{}",
            index + 1,
            agent.ingress,
            kernel.ingress,
            agent.egress,
            kernel.egress,
            if agent == kernel { "" } else { "  DIFFERENT" },
        );
    }
    Ok(())
}
