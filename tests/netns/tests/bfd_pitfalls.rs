//! The ten places where speakers of BFD stumble over FRR, each as it is on the wire. Where the fault is FRR's own, the test shows
//! what FRR does, because `docs/bfd.md` tells people to expect it.

#[macro_use]
mod bfd_lab;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bfd_lab::{
    LIMIT, NODE, ROUTER, UP, agent, await_state, drops, ensure_no_flap, router, router_downs, session,
    uses_node, with_bgp,
};
use nix::sys::signal::Signal;
use weir_netns::topology::UPLINK;
use weir_netns::wait::until;
use weir_netns::{Agent, Frr, Pair};

const FAST: &str = "10.0.0.1,tx=100ms,rx=100ms";

fn coupled(extra: &str) -> String {
    format!("neighbor {NODE} bfd\n{extra}")
}

fn received(agent: &Agent<'_>) -> Result<u64> {
    session(agent, "10.0.0.1")?["received"].as_u64().context("no session")
}

/// 1: FRR asks for one packet a second until it is up; what waits to be sent then must not wait on.
/// 2: and it sends one a second until its poll is answered.
#[test]
fn pitfalls_1_and_2_the_fast_rate_is_reached_both_ways_without_a_flap() -> Result<()> {
    skip_unless_available!("pitfalls_1_and_2_the_fast_rate_is_reached_both_ways_without_a_flap");
    let pair = Pair::new()?;
    let frr = router(&pair, 100, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", FAST])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let (before, start) = (received(&agent)?, Instant::now());
    until("20 packets of the router", LIMIT, || Ok(received(&agent)? >= before + 20))?;
    ensure!(start.elapsed() < Duration::from_secs(8), "one packet a second: {:?}", start.elapsed());
    ensure_no_flap(&agent, &frr)
}

/// 3: a speaker that begins anew is not understood until its old session expired; one that goes on is not noticed.
#[test]
fn pitfall_3_an_agent_without_memory_flaps_and_ours_has_one() -> Result<()> {
    skip_unless_available!("pitfall_3_an_agent_without_memory_flaps_and_ours_has_one");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    agent.process()?.kill()?;
    agent.start()?;
    ensure_no_flap(&agent, &frr).context("with its memory")?;
    agent.process()?.kill()?;
    std::fs::remove_dir_all(agent.pins().join("memory"))?;
    agent.start()?;
    until("the router saw the session fall", LIMIT, || Ok(router_downs(&frr)? == 1))?;
    frr.await_bfd(NODE, "up", LIMIT)?;
    await_state(&agent, "10.0.0.1", "up", LIMIT).map(drop)
}

/// 4: FRR before 10.7 ends BGP when it is told admin-down. So no end of the agent tells it, and only its owner does.
/// 9: the other way round: the router's admin-down takes our session down, and BGP of the node goes on.
#[test]
fn pitfalls_4_and_9_admin_down_is_never_an_accident() -> Result<()> {
    skip_unless_available!("pitfalls_4_and_9_admin_down_is_never_an_accident");
    let pair = Pair::new()?;
    let frr = Frr::start(&pair.peer)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weir.yaml");
    let write = |peers: &str| std::fs::write(&file, format!("bfd:\n  peers: [{peers}]\n"));
    write("'10.0.0.1'")?;
    let mut agent = agent(&pair, &["--config", &file.to_string_lossy()])?;
    let _speaker = with_bgp(&pair, &frr, &coupled(""), 30)?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    let dropped = frr.bgp_drops(NODE)?;
    agent.process()?.stop()?;
    agent.start()?;
    ensure_no_flap(&agent, &frr).context("an end in order")?;
    // Taken out of the configuration while it is up: kept, and said so.
    write("'10.0.0.77'")?;
    agent.process()?.signal(Signal::SIGHUP)?;
    until("the agent says that the session is kept", LIMIT, || {
        Ok(session(&agent, "10.0.0.1")?["problem"].as_str().is_some_and(|text| text.contains("admin-down")))
    })?;
    ensure_no_flap(&agent, &frr).context("a peer that is taken out")?;
    // Its owner wants it gone, but the peer is not drained.
    write("'10.0.0.1,admin-down'")?;
    agent.process()?.signal(Signal::SIGHUP)?;
    until("the agent waits for the drain", LIMIT, || {
        Ok(session(&agent, "10.0.0.1")?["problem"].as_str().is_some_and(|text| text.contains("drained")))
    })?;
    ensure_no_flap(&agent, &frr).context("a peer that is not drained")?;
    ensure!(frr.bgp_drops(NODE)? == dropped, "BGP fell");
    // Now it is told.
    write("'10.0.0.1,admin-down=now'")?;
    agent.process()?.signal(Signal::SIGHUP)?;
    await_state(&agent, "10.0.0.1", "admin-down", LIMIT)?;
    until(
        "the router was told",
        LIMIT,
        || Ok(frr.bfd(NODE)?["remote-diagnostic"] == "administratively down"),
    )
    .with_context(|| format!("{:?}", frr.bfd(NODE)))?;
    if frr.version()? < (10, 7) {
        until("this FRR ends BGP on it", LIMIT, || Ok(frr.bgp_drops(NODE)? > dropped))?;
    }
    Ok(())
}

/// 9: `no neighbor X bfd` on the router tells us admin-down; the node's own BGP does not care, and neither do we tell it to.
#[test]
fn pitfall_9_the_router_gives_bfd_up() -> Result<()> {
    skip_unless_available!("pitfall_9_the_router_gives_bfd_up");
    let pair = Pair::new()?;
    let frr = Frr::start(&pair.peer)?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    let _speaker = with_bgp(&pair, &frr, &coupled(""), 30)?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    let dropped = frr.bgp_drops(NODE)?;
    frr.configure(&format!("router bgp 64512\nno neighbor {NODE} bfd\n"))?;
    await_state(&agent, "10.0.0.1", "down", LIMIT)?;
    ensure!(frr.bgp(NODE)?["bgpState"] == "Established" && frr.bgp_drops(NODE)? == dropped, "BGP fell");
    ensure!(uses_node(&pair)?);
    Ok(())
}

/// 5: a failure that the agent measures takes the route within a second of being told, but FRR before 10.4 brings BGP back while
/// BFD is still down: the lasting half is the router's (vyos-sync's drain).
#[test]
fn pitfall_5_down_with_a_reason_takes_the_route_at_once() -> Result<()> {
    skip_unless_available!("pitfall_5_down_with_a_reason_takes_the_route_at_once");
    let pair = Pair::new()?;
    // A gateway that can fall silent without BFD's own path.
    pair.peer.address(UPLINK, "10.0.0.254/24")?;
    pair.node.ip("route replace default via 10.0.0.254")?;
    pair.node.ip("-6 route del default")?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1", "--bfd-health", "gateways"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let _speaker = with_bgp(&pair, &frr, &coupled(""), 30)?;
    // The probes have to have seen it alive.
    until("the gateway answers", LIMIT, || {
        Ok(agent
            .scrape()?
            .count("weir_gateway_probe_seconds_count", &[("gateway", "10.0.0.254"), ("kind", "arp")])
            > 2)
    })?;
    pair.peer.ip(&format!("addr del 10.0.0.254/24 dev {UPLINK}"))?;
    await_state(&agent, "10.0.0.1", "down", LIMIT)?;
    let took = until("the route is gone", LIMIT, || Ok(!uses_node(&pair)?))?;
    ensure!(took < Duration::from_secs(2), "{took:?}");
    let told = frr.bfd(NODE)?["remote-diagnostic"].clone();
    ensure!(told == "concatenated path down", "{told}");
    ensure!(session(&agent, "10.0.0.1")?["diagnostic"] == "concatenated-path-down");
    if frr.version()? < (10, 4) {
        frr.await_bgp(NODE, Duration::from_secs(60)).context("this FRR is known to bring BGP back")?;
        ensure!(frr.bfd(NODE)?["status"] != "up", "BFD is still down");
    }
    pair.peer.address(UPLINK, "10.0.0.254/24")?;
    await_state(&agent, "10.0.0.1", "up", Duration::from_secs(60)).map(drop)
}

/// 6: with `check-control-plane-failure` and graceful restart FRR 8.4 ignores every fall of BFD. A trap on the router:
/// `docs/bfd.md` warns of it.
#[test]
fn pitfall_6_check_control_plane_failure_with_graceful_restart_is_a_trap() -> Result<()> {
    skip_unless_available!("pitfall_6_check_control_plane_failure_with_graceful_restart_is_a_trap");
    let pair = Pair::new()?;
    let frr = router(&pair, 100, "")?;
    if frr.version()? != (8, 4) {
        eprintln!(
            "SKIPPED pitfall_6_check_control_plane_failure_with_graceful_restart_is_a_trap: known of FRR 8.4, this is {:?}",
            frr.version()?
        );
        return Ok(());
    }
    let mut agent = agent(&pair, &["--bfd-peer", FAST])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let lines = format!(
        "neighbor {NODE} bfd check-control-plane-failure\nneighbor {NODE} graceful-restart\nbgp graceful-restart\n"
    );
    let _speaker = with_bgp(&pair, &frr, &coupled(&lines), 90)?;
    let dropped = frr.bgp_drops(NODE)?;
    agent.process()?.kill()?;
    frr.await_bfd(NODE, "down", LIMIT)?;
    let log = frr.log_text("bgpd");
    if frr.bgp_drops(NODE)? == dropped {
        ensure!(uses_node(&pair)?, "BGP is up and the route is gone");
        eprintln!("BGP outlived the fall of BFD, as is known of this FRR");
    } else {
        eprintln!("BGP fell with BFD: the speaker offers no graceful restart\n{log}");
    }
    Ok(())
}

/// 7: while a router waits for a graceful restart, a fall of BFD takes no route away: keep restart times short.
#[test]
fn pitfall_7_graceful_restart_hides_a_dead_node() -> Result<()> {
    skip_unless_available!("pitfall_7_graceful_restart_hides_a_dead_node");
    let pair = Pair::new()?;
    let frr = router(&pair, 100, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", FAST])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    // The node's speaker is FRR here: it offers graceful restart.
    pair.peer.ip(&format!("route del {}", weir_netns::topology::VIP4))?;
    let mut node = Frr::without_bfd(&pair.node)?;
    frr.configure(&format!(
        "router bgp 64512\nno bgp ebgp-requires-policy\nbgp graceful-restart\nbgp graceful-restart stalepath-time 10\n\
         neighbor {NODE} remote-as 64513\nneighbor {NODE} bfd\n"
    ))?;
    node.configure(&format!(
        "router bgp 64513\nno bgp ebgp-requires-policy\nbgp graceful-restart\nbgp graceful-restart restart-time 10\n\
         bgp graceful-restart preserve-fw-state\nneighbor {ROUTER} remote-as 64512\naddress-family ipv4 unicast\n\
         network {}/32\n",
        weir_netns::topology::VIP4
    ))?;
    until("the router uses the node", Duration::from_secs(60), || uses_node(&pair))?;
    node.daemon("bgpd")?.kill()?;
    until("BGP is down", LIMIT, || Ok(frr.bgp(NODE)?["bgpState"] != "Established"))?;
    agent.process()?.kill()?;
    frr.await_bfd(NODE, "down", LIMIT)?;
    ensure!(
        uses_node(&pair)?,
        "the stale route is gone at once: this FRR is better than what docs/bfd.md says"
    );
    let took = until("the stale route goes", Duration::from_secs(60), || Ok(!uses_node(&pair)?))?;
    eprintln!("the stale route stayed for {:.1} s after BFD fell", took.as_secs_f64());
    Ok(())
}

/// 8: FRR believes our source port and time to live, and BFD that comes up after BGP does not reset it.
#[test]
fn pitfall_8_bfd_comes_after_bgp() -> Result<()> {
    skip_unless_available!("pitfall_8_bfd_comes_after_bgp");
    let pair = Pair::new()?;
    let frr = Frr::start(&pair.peer)?;
    let _speaker = with_bgp(&pair, &frr, &coupled(""), 30)?;
    let dropped = frr.bgp_drops(NODE)?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    frr.await_bfd(NODE, "up", LIMIT)?;
    let port = session(&agent, "10.0.0.1")?["source_port"].as_u64().context("no port")?;
    ensure!((49152..=65535).contains(&port), "{port}: RFC 5881, 4");
    ensure!(frr.bgp_drops(NODE)? == dropped && uses_node(&pair)?, "BGP was reset");
    Ok(())
}

/// 10: a profile on a neighbour needs the plain line, too, as `docs/bfd.md` has it; giving both again changes nothing.
#[test]
fn pitfall_10_both_lines_of_the_snippet_and_again() -> Result<()> {
    skip_unless_available!("pitfall_10_both_lines_of_the_snippet_and_again");
    let pair = Pair::new()?;
    let frr = Frr::start(&pair.peer)?;
    frr.configure("bfd\nprofile nodes\nreceive-interval 300\ntransmit-interval 300\ndetect-multiplier 3\n")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    let both = format!("neighbor {NODE} bfd\nneighbor {NODE} bfd profile nodes\n");
    let _speaker = with_bgp(&pair, &frr, &both, 30)?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    let (dropped, fell) = (frr.bgp_drops(NODE)?, drops(&agent)?);
    frr.configure(&format!("router bgp 64512\n{both}"))?;
    let before = received(&agent)?;
    until("ten more packets", LIMIT, || Ok(received(&agent)? >= before + 10))?;
    ensure!(drops(&agent)? == fell && frr.bgp_drops(NODE)? == dropped, "a repetition is a flap");
    Ok(())
}
