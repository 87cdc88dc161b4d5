//! What goes wrong on a node: a clear error, or a visible degradation; never a panic, never a stuck interface.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_netns::packet::Transport;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::{Agent, Host, Pair, agent, http, namespace};

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable() {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

/// Start an agent that must refuse; return its last words.
fn refused(agent: &mut Agent<'_>) -> Result<String> {
    agent.launch()?;
    let status = agent.process()?.wait(Duration::from_secs(30)).context("it should have ended")?;
    let words = agent.log_text();
    ensure!(!status.success(), "it ended well: {words}");
    ensure!(!words.contains("panicked"), "it panicked: {words}");
    Ok(words)
}

#[test]
fn an_unknown_interface_is_named() -> Result<()> {
    skip_unless_available!("an_unknown_interface_is_named");
    let pair = Pair::new()?;
    let words = refused(&mut Agent::new(&pair.node, &agent::built()?, &["--interface", "eth7"])?)?;
    ensure!(
        words.contains("eth7") && words.contains(UPLINK),
        "it names neither what is wrong nor what is there: {words}"
    );
    Ok(())
}

#[test]
fn a_pin_folder_that_cannot_be_written_is_named() -> Result<()> {
    skip_unless_available!("a_pin_folder_that_cannot_be_written_is_named");
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &agent::built()?, &["--interface", UPLINK])?;
    agent.pin_to("/proc/weir-pins".as_ref());
    let words = refused(&mut agent)?;
    ensure!(words.contains("/proc/weir-pins"), "{words}");
    Ok(())
}

#[test]
fn a_second_agent_on_the_same_pins_leaves_the_first_alone() -> Result<()> {
    skip_unless_available!("a_second_agent_on_the_same_pins_leaves_the_first_alone");
    let pair = Pair::new()?;
    let mut first = Agent::new(&pair.node, &agent::built()?, &["--interface", UPLINK, "--vip", VIP4])?;
    first.start()?;
    first.await_interface(UPLINK)?;
    let mut second = Agent::new(&pair.node, &agent::built()?, &["--interface", UPLINK])?;
    let own = second.pins().to_owned();
    second.pin_to(first.pins());
    let words = refused(&mut second)?;
    ensure!(
        words.contains(&first.pins().display().to_string()),
        "it does not say where the other is: {words}"
    );
    // What it leaves behind on drop must not be the first one's.
    second.pin_to(&own);
    drop(second);
    counts(&pair, &first)
}

#[test]
fn a_removed_interface_leaves_a_living_agent() -> Result<()> {
    skip_unless_available!("a_removed_interface_leaves_a_living_agent");
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &agent::built()?, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    pair.peer.ip(&format!("link del {UPLINK}"))?;
    agent.await_no_interface(UPLINK)?;
    lives(&pair.node, &mut agent)?;
    // It comes back under its name, and is measured again.
    pair.node.veth(UPLINK, &pair.peer, UPLINK)?;
    agent.await_interface(UPLINK)?;
    counts(&pair, &agent)
}

#[test]
fn a_namespace_that_goes_away_takes_its_link_but_not_the_agent() -> Result<()> {
    skip_unless_available!("a_namespace_that_goes_away_takes_its_link_but_not_the_agent");
    let Pair { node, peer } = Pair::new()?;
    let mut agent = Agent::new(&node, &agent::built()?, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    drop(peer);
    agent.await_no_interface(UPLINK)?;
    lives(&node, &mut agent)?;
    // The name of the agent's own namespace goes, too: it keeps what it has, and ends in order.
    namespace::succeed(Command::new("ip").args(["netns", "del", node.name()]))?;
    let status = agent.process()?.stop()?;
    ensure!(status.success(), "{status}: {}", agent.log_text());
    Ok(())
}

fn lives(node: &Host, agent: &mut Agent<'_>) -> Result<()> {
    ensure!(http::get(node, Agent::METRICS, "/livez")?.0 == 200, "not alive");
    ensure!(agent.process()?.ended().is_none(), "it ended: {}", agent.log_text());
    ensure!(!agent.log_text().contains("panicked"), "{}", agent.log_text());
    Ok(())
}

fn counts(pair: &Pair, agent: &Agent<'_>) -> Result<()> {
    let packet = pair.to_vip(VIP4, &[], Transport::Udp { source: 1, destination: 2 }, 10)?;
    let labels = [("vip", VIP4), ("direction", "ingress"), ("port", "2")];
    let before = agent.scrape()?.count("weir_vip_packets_total", &labels);
    pair.wire()?.repeat(&packet.frame(), 50)?;
    ensure!(agent.scrape()?.count("weir_vip_packets_total", &labels) - before == 50, "packets are missing");
    Ok(())
}

#[test]
fn garbage_on_the_link_is_counted_as_such() -> Result<()> {
    skip_unless_available!("garbage_on_the_link_is_counted_as_such");
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &agent::built()?, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    let (wire, packet) =
        (pair.wire()?, pair.to_vip(VIP4, &[], Transport::Udp { source: 1, destination: 2 }, 40)?);
    let frame = packet.frame();
    let before = pair.quiet(|| agent.scrape())?;
    // Every length from a bare Ethernet header to the whole: cut in the IP header, in the ports, in the payload.
    (14..=frame.len()).try_for_each(|length| wire.send(&frame[..length]))?;
    let after = pair.quiet(|| agent.scrape())?;
    let grown = |name: &str| {
        let labels = [("interface", UPLINK), ("direction", "ingress")];
        after.0.count(name, &labels) - before.0.count(name, &labels)
    };
    ensure!(
        grown("weir_interface_packets_total") == (after.1 - before.1).received_packets,
        "some were not counted"
    );
    ensure!(grown("weir_interface_malformed_packets_total") >= 20, "cut headers were taken for whole ones");
    ensure!(agent.process()?.ended().is_none());
    Ok(())
}
