//! Enforcement on a node: rules from a folder, confirmed by the agent's own checks, and undone by the kernel when they cut
//! the agent off.
#![allow(clippy::print_stderr, reason = "a skip is told")]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_netns::topology::UPLINK;
use weir_netns::wait::until;
use weir_netns::{Agent, Pair, built};

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable() {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

/// The API server of these tests: at a port that the failsafe does not know.
const API: &str = "10.0.0.1:7777";
/// The peer's own port for its datagrams, and the node's.
const PLAIN: &str = "10.0.0.2:9001";
const PATIENCE: Duration = Duration::from_secs(30);

/// A policy of one rule that drops what comes from a prefix.
fn deny(prefix: &str, more: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {{name: test}}\nspec:\n  rules:\n  \
         - {{name: block, mode: Enforce, action: Deny, match: {{source: {{cidrs: ['{prefix}']}}{more}}}}}\n"
    )
}

/// A server in the peer that takes connections for as long as the test runs.
fn serve(pair: &Pair) -> Result<()> {
    let listener = pair.peer.run(|| Ok(TcpListener::bind(API)?))?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

/// Whether a new connection from the node to the API server works.
fn reaches_api(pair: &Pair) -> Result<bool> {
    let api: SocketAddr = API.parse()?;
    pair.node.run(|| Ok(TcpStream::connect_timeout(&api, Duration::from_millis(200)).is_ok()))
}

fn generation(agent: &Agent<'_>, state: &str) -> Result<u64> {
    Ok(agent.scrape()?.sum("weir_policy_generation", &[("state", state)]) as u64)
}

fn agent<'a>(pair: &'a Pair, policies: &Path, deadline: &str) -> Result<Agent<'a>> {
    let path = policies.to_str().context("a plain path")?;
    let options =
        ["--interface", UPLINK, "--policy", path, "--policy-deadline", deadline, "--policy-check", API];
    Agent::new(&pair.node, &built("weir-agent")?, &options)
}

#[test]
fn a_harmless_policy_is_confirmed_by_the_agents_own_checks_and_outlives_it() -> Result<()> {
    skip_unless_available!("a_harmless_policy_is_confirmed_by_the_agents_own_checks_and_outlives_it");
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    serve(&pair)?;
    fs::write(folder.path().join("policy.yaml"), deny("10.0.0.1", ", protocol: UDP, ports: [9001]"))?;
    let mut agent = agent(&pair, folder.path(), "20")?;
    agent.start()?;
    until("the policy is confirmed", PATIENCE, || Ok(generation(&agent, "confirmed")? == 1))
        .with_context(|| agent.log_text())?;
    let arrives = || -> Result<bool> {
        let receiver = pair.node.run(|| Ok(UdpSocket::bind(PLAIN)?))?;
        let sender = pair.peer.run(|| Ok(UdpSocket::bind("10.0.0.1:0")?))?;
        receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
        sender.send_to(b"datagram", PLAIN)?;
        Ok(receiver.recv(&mut [0; 16]).is_ok())
    };
    ensure!(!arrives()?, "the rule does not drop");
    ensure!(reaches_api(&pair)?);
    let dropped = |agent: &Agent<'_>| -> Result<u64> {
        let labels = [("policy", "test"), ("rule", "block"), ("verdict", "drop"), ("mode", "enforce")];
        Ok(agent.scrape()?.count("weir_policy_packets_total", &labels))
    };
    ensure!(dropped(&agent)? == 1, "{}", dropped(&agent)?);

    agent.process()?.kill()?;
    ensure!(!arrives()?, "without an agent the rule goes on");
    // The pins are gone, as after a reboot: the state folder alone brings the rules back, before any hook is attached.
    agent.detach()?;
    until("nothing is left in the kernel", PATIENCE, arrives)?;
    fs::remove_file(folder.path().join("policy.yaml"))?;
    fs::write(folder.path().join("policy.yaml"), "not: [a policy")?;
    agent.start()?;
    ensure!(!arrives()?, "the confirmed rules are not back: {}", agent.log_text());
    Ok(())
}

/// A rule that cuts the agent off from gateway and API server, after one that was confirmed.
fn cut_off(pair: &Pair, agent: &mut Agent<'_>, file: &Path, kill: bool) -> Result<Duration> {
    fs::write(file, deny("192.0.2.0/24", ""))?;
    agent.start()?;
    until("the first policy is confirmed", PATIENCE, || Ok(generation(agent, "confirmed")? == 1))
        .with_context(|| agent.log_text())?;
    fs::write(file, deny("10.0.0.0/24", ""))?;
    until("the API server is out of reach", PATIENCE, || Ok(!reaches_api(pair)?))
        .with_context(|| agent.log_text())?;
    let begun = Instant::now();
    if kill {
        agent.process()?.kill()?;
    }
    until("the kernel goes back", PATIENCE, || reaches_api(pair)).with_context(|| agent.log_text())?;
    Ok(begun.elapsed())
}

#[test]
fn a_rule_that_cuts_the_agent_off_is_undone_within_its_deadline() -> Result<()> {
    skip_unless_available!("a_rule_that_cuts_the_agent_off_is_undone_within_its_deadline");
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    serve(&pair)?;
    let mut agent = agent(&pair, folder.path(), "5")?;
    let took = cut_off(&pair, &mut agent, &folder.path().join("policy.yaml"), false)?;
    ensure!(took <= Duration::from_secs(6), "{took:?}");
    until("the agent tells", PATIENCE, || {
        Ok(agent.scrape()?.sum("weir_policy_reverts_total", &[("cause", "deadline")]) == 1.0)
    })
    .with_context(|| agent.log_text())?;
    ensure!(generation(&agent, "active")? == 1 && generation(&agent, "pending")? == 0);
    // It is not tried again: what failed stays out until it changes.
    ensure!(reaches_api(&pair)?);
    let list = agent.weirctl(&["policy", "list", "-o", "json"])?;
    let list: serde_json::Value = serde_json::from_str(&list)?;
    ensure!(list["reverts"][0]["cause"] == "deadline" && list["confirmed"] == 1, "{list}");
    Ok(())
}

#[test]
fn a_rule_that_cuts_a_killed_agent_off_is_undone_by_the_kernel_alone() -> Result<()> {
    skip_unless_available!("a_rule_that_cuts_a_killed_agent_off_is_undone_by_the_kernel_alone");
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    serve(&pair)?;
    let mut agent = agent(&pair, folder.path(), "5")?;
    let took = cut_off(&pair, &mut agent, &folder.path().join("policy.yaml"), true)?;
    ensure!(took <= Duration::from_secs(6), "{took:?}");
    // The next agent sees what happened, and does not try the same again.
    agent.start()?;
    ensure!(agent.scrape()?.sum("weir_policy_reverts_total", &[("cause", "deadline")]) == 1.0);
    ensure!(generation(&agent, "active")? == 1, "{}", agent.log_text());
    ensure!(reaches_api(&pair)?);
    Ok(())
}

#[test]
fn a_person_sees_traces_compares_and_settles() -> Result<()> {
    skip_unless_available!("a_person_sees_traces_compares_and_settles");
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    let file = folder.path().join("policy.yaml");
    fs::write(&file, deny("192.0.2.0/24", ", protocol: TCP, ports: ['8000-8100']"))?;
    // Nobody serves the API: only a person can confirm.
    let mut agent = agent(&pair, folder.path(), "600")?;
    agent.start()?;
    until("the policy is pending", PATIENCE, || Ok(generation(&agent, "pending")? == 1))?;
    let trace = |port: &str| -> Result<serde_json::Value> {
        let packet = ["policy", "trace", "--interface", UPLINK, "--from", "192.0.2.7", "--to", "10.0.0.2"];
        let text = agent.weirctl(&[&packet[..], &["--port", port, "-o", "json"]].concat())?;
        Ok(serde_json::from_str(&text)?)
    };
    let (hit, miss) = (trace("8050")?, trace("22")?);
    ensure!(hit["agree"] == true && hit["kernel"]["verdict"] == "drop", "{hit}");
    ensure!(hit["kernel"]["rule"] == "test/block" && hit["reference"]["rule"] == "test/block", "{hit}");
    ensure!(miss["agree"] == true && miss["kernel"]["verdict"] == "pass", "{miss}");
    ensure!(agent.weirctl(&["policy", "confirm"])?.contains("confirmed set 1"));
    ensure!(generation(&agent, "confirmed")? == 1 && generation(&agent, "pending")? == 0);
    ensure!(agent.weirctl(&["policy", "revert"]).is_err(), "nothing is pending");

    let flows = |agent: &Agent<'_>| agent.weirctl(&["flows", "--host", "10.0.0.1", "-o", "json"]);
    pair.wire()?.repeat(
        &pair
            .to_vip(
                "10.0.0.2",
                &[],
                weir_netns::packet::Transport::Udp { source: 5, destination: 9_001 },
                10,
            )?
            .frame(),
        7,
    )?;
    until("the flow is known", PATIENCE, || Ok(flows(&agent)?.contains("9001")))?;
    let other = folder.path().join("other");
    fs::create_dir(&other)?;
    fs::write(other.join("policy.yaml"), deny("10.0.0.1", ", protocol: UDP, ports: [9001]"))?;
    let other = other.to_str().context("a plain path")?;
    let text = agent.weirctl(&["policy", "diff", other, "-o", "json"])?;
    let difference: serde_json::Value = serde_json::from_str(&text)?;
    let changes = difference["changes"].as_array().context("changes")?;
    // The packet that was traced has gone through the hook, too, and is a flow.
    ensure!(changes.len() == 2, "{difference}");
    let change = changes.iter().find(|change| change["flow"]["destination_port"] == 9_001);
    let change = change.context("the flow does not change")?;
    ensure!(
        change["before"] == "pass" && change["after"] == "drop" && change["flow"]["packets"] == 7,
        "{change}"
    );
    ensure!(change["after_rule"] == "test/block", "{change}");

    fs::write(&file, deny("198.51.100.0/24", ""))?;
    until("the next is pending", PATIENCE, || Ok(generation(&agent, "pending")? == 2))?;
    ensure!(agent.weirctl(&["policy", "revert"])?.contains('1'));
    ensure!(generation(&agent, "active")? == 1);
    Ok(())
}

#[test]
fn rules_follow_an_interface_that_comes_back() -> Result<()> {
    skip_unless_available!("rules_follow_an_interface_that_comes_back");
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    let policy = deny("10.0.0.1", ", protocol: UDP, ports: [9001]")
        .replace("spec:\n", "spec:\n  interfaces: ['eth*']\n");
    fs::write(folder.path().join("policy.yaml"), policy)?;
    let mut agent = agent(&pair, folder.path(), "600")?;
    agent.start()?;
    until("the policy is pending", PATIENCE, || Ok(generation(&agent, "pending")? == 1))?;
    agent.weirctl(&["policy", "confirm"])?;
    let labels = [("rule", "block"), ("verdict", "drop")];
    let dropped = |agent: &Agent<'_>| -> Result<u64> {
        Ok(agent.scrape()?.count("weir_policy_packets_total", &labels))
    };
    pair.peer.ip(&format!("link del {UPLINK}"))?;
    agent.await_no_interface(UPLINK)?;
    pair.node.veth(UPLINK, &pair.peer, UPLINK)?;
    agent.await_interface(UPLINK)?;
    let again = weir_netns::packet::Transport::Udp { source: 5, destination: 9_001 };
    let frame = pair.to_vip("10.0.0.2", &[], again, 10)?.frame();
    until("the rule drops again", PATIENCE, || {
        pair.wire()?.send(&frame)?;
        Ok(dropped(&agent)? > 0)
    })
    .with_context(|| agent.log_text())?;
    Ok(())
}
