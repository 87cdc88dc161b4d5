//! Rules that act by XDP where it is asked for: what they drop does not reach the hook, what must be counted does, and where XDP
//! has no room the hook does it all.
#![allow(clippy::print_stderr, reason = "a skip is told")]

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_netns::foreign::Foreign;
use weir_netns::openmetrics::Scrape;
use weir_netns::packet::Transport;
use weir_netns::topology::UPLINK;
use weir_netns::wait::until;
use weir_netns::{Agent, Pair, built};

const POLICY: &str = "apiVersion: weir.dev/v1alpha1
kind: DatapathPolicy
metadata: {name: test}
spec:
  rules:
  - {name: look, mode: Audit, action: Deny, match: {protocol: UDP, ports: [9003]}}
  - {name: block, mode: Enforce, action: Deny, match: {protocol: UDP, ports: [9001]}}
  - {name: some, mode: Enforce, action: Rate, rate: {packets: 1, burst: 3, per: Minute}, match: {protocol: UDP, ports: [9002]}}
";
/// Datagrams to each port.
const TIMES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends to all ports and compares what rules and hook have seen.
fn check(pair: &Pair, agent: &Agent<'_>, early: bool) -> Result<()> {
    let frame = |port| -> Result<Vec<u8>> {
        Ok(pair.to_vip("10.0.0.2", &[], Transport::Udp { source: 5, destination: port }, 10)?.frame())
    };
    let before = pair.quiet(|| agent.scrape())?.0;
    for port in [9001, 9002, 9003, 9004] {
        pair.wire()?.repeat(&frame(port)?, TIMES)?;
    }
    let rule = |scrape: &Scrape, rule: &str, verdict: &str| {
        scrape.count("weir_policy_packets_total", &[("rule", rule), ("verdict", verdict)])
    };
    let hook = |scrape: &Scrape| {
        scrape.count("weir_interface_packets_total", &[("interface", UPLINK), ("direction", "ingress")])
    };
    let after = pair.quiet(|| agent.scrape())?.0;
    let grown = |name, verdict| rule(&after, name, verdict) - rule(&before, name, verdict);
    let times = TIMES as u64;
    ensure!(grown("block", "drop") == times, "dropped by the rule: {}", grown("block", "drop"));
    ensure!(grown("look", "drop") == times, "counted twice, or not: {}", grown("look", "drop"));
    ensure!(grown("some", "drop") + grown("some", "pass") == times, "budgets are the hook's alone");
    let at_hook = hook(&after) - hook(&before);
    let dropped_before = if early { times } else { 0 };
    // Neighbour discovery and the like come in between.
    let wanted = times * 4 - dropped_before;
    ensure!((wanted..wanted + 10).contains(&at_hook), "{at_hook} came to the hook, not {wanted}");
    Ok(())
}

fn confirmed(agent: &Agent<'_>) -> Result<()> {
    let pending = |agent: &Agent<'_>| {
        agent.scrape().map(|all| all.sum("weir_policy_generation", &[("state", "pending")]))
    };
    until("the policy is pending", PATIENCE, || Ok(pending(agent)? == 1.0))
        .with_context(|| agent.log_text())?;
    agent.weirctl(&["policy", "confirm"]).map(drop)
}

#[test]
fn rules_drop_by_xdp_where_it_is_asked_for() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        eprintln!("SKIPPED rules_drop_by_xdp_where_it_is_asked_for: {reason}");
        return Ok(());
    }
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    let file = folder.path().join("policy.yaml");
    fs::write(&file, POLICY)?;
    let path = file.to_str().context("a plain path")?;
    let options = ["--interface", UPLINK, "--policy", path, "--policy-deadline", "600"];
    let early = [&options[..], &["--policy-xdp", UPLINK]].concat();
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &early)?;
    agent.start()?;
    confirmed(&agent)?;
    let list = agent.weirctl(&["policy", "list"])?;
    ensure!(list.contains("by XDP on eth0 (native)"), "{list}");
    check(&pair, &agent, true)?;
    // The link outlives the agent, and goes with `detach`.
    agent.process()?.stop()?;
    agent.start()?;
    check(&pair, &agent, true)?;
    agent.process()?.stop()?;
    agent.detach()?;

    let foreign = Foreign::attach_xdp(&pair.node, UPLINK)?;
    agent.start()?;
    let list = agent.weirctl(&["policy", "list"])?;
    ensure!(!list.contains("XDP"), "{list}");
    ensure!(agent.log_text().contains("no XDP: the hook judges everything"), "{}", agent.log_text());
    let before = foreign.runs()?;
    check(&pair, &agent, false)?;
    ensure!(foreign.runs()? - before >= 4 * TIMES as u64, "the stranger's program was taken off");
    Ok(())
}
