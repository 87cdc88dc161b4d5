//! Checks of enforcement.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_netns::topology::{VIP4, VIP6};
use weir_netns::wait::until;
use weir_netns::{Agent, Host};

use crate::check::{DATAGRAMS, LIMIT, Told, passed, vip};
use crate::shape::{Built, PORT, SHAPES};

const POLICY: &str = "/tmp/policy.yaml";
/// Datagrams that are paced, and how many a second.
const PACED: u32 = 41;
const PACE: u32 = 50;

/// An agent with one rule about datagrams to our port, once that is in force.
fn enforcing<'a>(node: &'a Host, rule: &str, options: &[&str]) -> Result<Agent<'a>> {
    let rule = format!("{{name: one, mode: Enforce, {rule}, match: {{protocol: UDP, ports: [{PORT}]}}}}");
    let head = "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {name: test}";
    fs::write(POLICY, format!("{head}\nspec: {{rules: [{rule}]}}\n"))?;
    let always = ["--policy", POLICY, "--policy-deadline", "600", "--vip", VIP4, "--vip", VIP6];
    let mut agent = Agent::new(node, Path::new("/bin/weir-agent"), &[&always, options].concat())?;
    agent.start()?;
    let pending =
        |agent: &Agent<'_>| Ok(agent.scrape()?.sum("weir_policy_generation", &[("state", "pending")]) > 0.0);
    until("the policy is in force", LIMIT, || pending(&agent)).with_context(|| agent.log_text())?;
    Ok(agent)
}

/// A rule drops at the hook, and before it where XDP is asked for.
pub(crate) fn policy() -> Result<Told> {
    let shape = &SHAPES[0];
    let mut told = Vec::new();
    for xdp in [false, true] {
        let built = shape.build()?;
        let options: &[&str] = if xdp { &["--policy-xdp", shape.uplink] } else { &[] };
        let agent = enforcing(&built.node, "action: Deny", options)?;
        ensure!(agent.log_text().contains("drops early") == xdp, "{}", agent.log_text());
        built.send(DATAGRAMS)?;
        let expected = 2 * DATAGRAMS as u64;
        let dropped = || {
            let labels = [("rule", "one"), ("verdict", "drop")];
            anyhow::Ok(agent.scrape()?.count("weir_policy_packets_total", &labels))
        };
        until("all datagrams are dropped", LIMIT, || Ok(dropped()? >= expected))?;
        ensure!(dropped()? == expected, "{} packets dropped and not {expected}", dropped()?);
        let at_hook = vip(&agent.scrape()?, VIP4);
        ensure!(at_hook == if xdp { 0 } else { DATAGRAMS as u64 }, "{at_hook} packets came to the hook");
        told.push(format!("{expected} packets {}", if xdp { "before it, by XDP" } else { "at the hook" }));
    }
    passed(format!("a rule drops {}", told.join(" and ")))
}

/// Packets of a rule leave at its rate where the link has `fq`, and at once where it has not.
pub(crate) fn pace() -> Result<Told> {
    let shape = &SHAPES[0];
    let built = shape.build()?;
    let rule = format!("direction: Egress, action: Pace, rate: {{packets: {PACE}}}");
    let _agent = enforcing(&built.node, &rule, &[])?;
    let at_once = spread(&built)?;
    let mut tc = Command::new("tc");
    built.node.output(tc.args(["qdisc", "replace", "dev", shape.uplink, "root", "fq"]))?;
    let paced = spread(&built)?;
    let expected = Duration::from_secs(1) * (PACED - 1) / PACE;
    let tolerance = Duration::from_millis(30);
    ensure!(paced + tolerance > expected, "{PACED} packets left within {paced:?}, and {PACE} a second may");
    ensure!(paced < expected * 2, "{PACED} packets took {paced:?}, and {expected:?} is enough");
    ensure!(at_once < expected / 2, "without fq they took {at_once:?}");
    passed(format!(
        "{PACED} packets at {PACE} a second take {} ms with fq, and {} without",
        paced.as_millis(),
        at_once.as_millis()
    ))
}

/// From the first to the last of the datagrams from the node, as the peer gets them.
fn spread(built: &Built) -> Result<Duration> {
    let to = ("10.0.0.1", PORT);
    let receiver = built.peer.run(|| Ok(UdpSocket::bind(to)?))?;
    receiver.set_read_timeout(Some(LIMIT))?;
    let sender = built.node.run(|| Ok(UdpSocket::bind("10.0.0.2:0")?))?;
    (0..PACED).try_for_each(|_| sender.send_to(&[7; 64], to).map(drop))?;
    let one = || receiver.recv(&mut [0; 64]).context("a datagram is missing");
    one()?;
    let first = Instant::now();
    (1..PACED).try_for_each(|_| one().map(drop))?;
    Ok(first.elapsed())
}
