//! The policy of a running agent replaced ten times a second under a flood. A test program of its own: others would take the
//! processors that the flood and the agent need.
#![allow(clippy::print_stderr, reason = "a skip is told")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_netns::packet::Transport;
use weir_netns::topology::UPLINK;
use weir_netns::wait::until;
use weir_netns::{Agent, Pair, built};

const PATIENCE: Duration = Duration::from_secs(30);

/// A port at which nobody listens: the kernel counts every datagram that gets so far.
const CLOSED: u16 = 9_002;
/// Sources of the flood: one that a rule lets pass, two that rules drop, and one that no rule knows.
const SOURCES: [&str; 4] = ["10.9.0.1", "10.9.0.2", "10.9.5.5", "10.9.8.1"];
const SWAPS: u32 = 50;

/// The n-th set: it decides on the flood as all others do, by other rules and prefixes.
fn changing(n: u32) -> String {
    let rule = |name: &str, action: &str, prefixes: &str| {
        format!(
            "  - {{name: {name}, mode: Enforce, action: {action}, match: {{source: {{cidrs: [{prefixes}]}}}}}}\n"
        )
    };
    let other = |k: u32| {
        rule(&format!("other-{k}"), "Deny", &format!("198.{}.{}.0/24", 18 + k % 2, (n * 7 + k) % 256))
    };
    let rules: String = (0..n % 20).map(other).collect();
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {{name: swap}}\nspec:\n  rules:\n{}{rules}{}",
        rule("allow", "Allow", "10.9.0.1"),
        rule("deny", "Deny", "10.9.0.2, 10.9.4.0/22"),
    )
}

/// Replaces a file as a whole.
fn replace(file: &Path, text: &str) -> Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text)?;
    Ok(fs::rename(&fresh, file)?)
}

/// Datagrams that got through to where the node's kernel looks for their sockets.
fn datagrams(pair: &Pair) -> Result<u64> {
    let table = pair.node.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (rows.next().context("no names")?, rows.next().context("no values")?);
    let fields = names.split_whitespace().zip(values.split_whitespace());
    let wanted = fields.filter(|(name, _)| ["InDatagrams", "NoPorts", "InErrors"].contains(name));
    wanted.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
}

fn generation(agent: &Agent<'_>, state: &str) -> Result<u64> {
    Ok(agent.scrape()?.sum("weir_policy_generation", &[("state", state)]) as u64)
}

#[test]
fn sets_change_at_10_hz_under_full_load_without_a_wrong_verdict() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        eprintln!("SKIPPED sets_change_at_10_hz_under_full_load_without_a_wrong_verdict: {reason}");
        return Ok(());
    }
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    let file = folder.path().join("policy.yaml");
    fs::write(&file, changing(0))?;
    let path = folder.path().to_str().context("a plain path")?;
    let options = ["--interface", UPLINK, "--policy", path, "--policy-deadline", "600"];
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &options)?;
    agent.start()?;
    let pends = |set: u64| Ok(generation(&agent, "pending")? == set);
    until("the first set is in force", PATIENCE, || pends(1)).with_context(|| agent.log_text())?;
    agent.weirctl(&["policy", "confirm"])?;
    let frame = |source: &&str| -> Result<Vec<u8>> {
        let transport = Transport::Udp { source: 5, destination: CLOSED };
        let mut packet = pair.to_vip("10.0.0.2", &[], transport, 10)?;
        packet.source = source.parse()?;
        Ok(packet.frame())
    };
    let frames: Vec<Vec<u8>> = SOURCES.iter().map(frame).collect::<Result<_>>()?;
    let (wire, before) = (pair.wire()?, datagrams(&pair)?);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (sent, took) = std::thread::scope(|scope| -> Result<(u64, Duration)> {
        let flood = scope.spawn(|| -> Result<u64> {
            let mut rounds = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                frames.iter().try_for_each(|frame| wire.send(frame))?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let begun = Instant::now();
        // The pace is what is asked for; that the agent follows it, the number of its sets shows.
        let swapping = (1..=SWAPS).try_for_each(|n| {
            std::thread::sleep((Duration::from_millis(100) * n).saturating_sub(begun.elapsed()));
            replace(&file, &changing(n))
        });
        let took = begun.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let rounds = flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?;
        swapping?;
        Ok((rounds?, took))
    })?;
    let all = 1 + u64::from(SWAPS);
    until("the last set is in force", PATIENCE, || Ok(generation(&agent, "active")? >= all * 9 / 10))
        .with_context(|| agent.log_text())?;
    let sets = generation(&agent, "active")?;
    eprintln!("{sent} rounds of 4 packets and {sets} sets in {took:?}");
    ensure!(sent > 5_000, "{sent} rounds are no load");

    let scrape = agent.scrape()?;
    let count = |rule: &str, verdict: &str| {
        scrape.count("weir_policy_packets_total", &[("policy", "swap"), ("rule", rule), ("verdict", verdict)])
    };
    let counted =
        [count("allow", "pass"), count("allow", "drop"), count("deny", "pass"), count("deny", "drop")];
    ensure!(counted == [sent, 0, 0, sent * 2], "{counted:?} of {sent}");
    let arrived = datagrams(&pair)? - before;
    ensure!(arrived == sent * 2, "{arrived} of {} datagrams that no rule drops arrived", sent * 2);
    Ok(())
}
