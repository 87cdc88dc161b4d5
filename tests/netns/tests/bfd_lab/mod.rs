//! A node with the agent and a router with FRR at the other end of its uplink.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_netns::speaker::Session;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::wait::until;
use weir_netns::{Agent, Frr, Pair, Speaker, built};

/// The node's and the router's addresses.
pub const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
/// See [`NODE`].
pub const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
/// For whatever has no bound of its own in the test, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How soon a session must be up (asked of a machine that is not overloaded; builds may run beside the tests).
pub const UP: Duration = Duration::from_secs(3);

/// Why these tests cannot run here.
pub fn unavailable() -> Option<String> {
    weir_netns::unavailable().or_else(weir_netns::frr::unavailable)
}

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = bfd_lab::unavailable() {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

/// An agent on the pair's node with these options beside its uplink.
pub fn agent<'pair>(pair: &'pair Pair, options: &[&str]) -> Result<Agent<'pair>> {
    let options: Vec<&str> = ["--interface", UPLINK].iter().chain(options).copied().collect();
    Agent::new(&pair.node, &built("weir-agent")?, &options)
}

/// What the agent knows of BFD.
pub fn bfd(agent: &Agent<'_>) -> Result<Value> {
    Ok(serde_json::from_str(&agent.weirctl(&["bfd", "-o", "json"])?)?)
}

/// What the agent knows of its session with a peer; null when it has none.
pub fn session(agent: &Agent<'_>, peer: &str) -> Result<Value> {
    let bfd = bfd(agent)?;
    let mut sessions = bfd["sessions"].as_array().into_iter().flatten();
    Ok(sessions.find(|one| one["peer"] == peer).cloned().unwrap_or(Value::Null))
}

/// Wait until the agent's session with a peer has this state; returns how long that took.
pub fn await_state(agent: &Agent<'_>, peer: &str, state: &str, limit: Duration) -> Result<Duration> {
    until(&format!("the agent's session with {peer} is {state}"), limit, || {
        Ok(session(agent, peer)?["state"] == state)
    })
    .with_context(|| format!("{:?}\n{}", bfd(agent), agent.log_text()))
}

/// How often the agent's sessions left Up.
pub fn drops(agent: &Agent<'_>) -> Result<u64> {
    Ok(agent.scrape()?.count("weir_bfd_session_drops_total", &[]))
}

/// Packets that the agent did not believe, for one reason.
pub fn rejected(agent: &Agent<'_>, reason: &str) -> Result<u64> {
    Ok(agent.scrape()?.count("weir_bfd_rejected_packets_total", &[("reason", reason)]))
}

/// How often the router's session went down.
pub fn router_downs(frr: &Frr<'_>) -> Result<u64> {
    router_downs_of(frr, NODE)
}

/// The same for a session with another address.
pub fn router_downs_of(frr: &Frr<'_>, peer: IpAddr) -> Result<u64> {
    frr.bfd_counters(peer)?["session-down"].as_u64().context("bfdd counts no downs")
}

/// A router that expects the node, with these timers and other lines.
pub fn router<'pair>(pair: &'pair Pair, milliseconds: u32, lines: &str) -> Result<Frr<'pair>> {
    let frr = Frr::start(&pair.peer)?;
    frr.configure(&format!(
        "bfd\npeer {NODE} interface {UPLINK}\nreceive-interval {milliseconds}\ntransmit-interval {milliseconds}\n{lines}"
    ))?;
    Ok(frr)
}

/// A router with BGP towards the node, coupled to BFD by the given lines, and the node's speaker, once both are established and
/// the router uses the node for a virtual address.
pub fn with_bgp<'pair>(pair: &'pair Pair, frr: &Frr<'_>, bgp: &str, hold: u16) -> Result<Speaker<'pair>> {
    // The lab's own route would win against BGP's.
    pair.peer.ip(&format!("route del {VIP4}"))?;
    frr.configure(&format!(
        "router bgp 64512\nno bgp ebgp-requires-policy\nneighbor {NODE} remote-as 64513\nneighbor {NODE} passive\n\
         neighbor {NODE} timers 3 {hold}\n{bgp}"
    ))?;
    let own = [NODE, "fd00::2".parse()?];
    let session = Session { asns: [64513, 64512], router: ROUTER, hold_seconds: hold };
    let speaker = Speaker::start(&pair.node, own, session)?;
    speaker.announce(VIP4.parse()?)?;
    frr.await_bgp(NODE, Duration::from_secs(60))?;
    until("the router uses the node", LIMIT, || uses_node(pair))?;
    Ok(speaker)
}

/// Whether the router's kernel sends the virtual address to the node.
pub fn uses_node(pair: &Pair) -> Result<bool> {
    let arguments = ["-n", pair.peer.name(), "route", "show", VIP4];
    let output = weir_netns::namespace::succeed(std::process::Command::new("ip").args(arguments))?;
    Ok(String::from_utf8_lossy(&output.stdout).contains(&NODE.to_string()))
}

/// A copy of the agent's program, as an upgrade would bring it.
pub fn another_program(folder: &std::path::Path) -> Result<PathBuf> {
    let path = folder.join("weir-agent");
    std::fs::copy(built("weir-agent")?, &path)?;
    std::fs::copy(built("weirctl")?, folder.join("weirctl"))?;
    Ok(path)
}

/// Both ends see the session up, and neither saw it fall.
pub fn ensure_no_flap(agent: &Agent<'_>, frr: &Frr<'_>) -> Result<()> {
    ensure!(frr.bfd(NODE)?["status"] == "up", "the router: {}", frr.bfd(NODE)?);
    ensure!(session(agent, &ROUTER.to_string())?["state"] == "up", "the agent: {}", bfd(agent)?);
    ensure!(router_downs(frr)? == 0, "the router saw it fall: {}\n{}", frr.bfd_counters(NODE)?, bfd(agent)?);
    ensure!(drops(agent)? == 0, "the agent saw it fall: {}\n{}", bfd(agent)?, agent.log_text());
    Ok(())
}
