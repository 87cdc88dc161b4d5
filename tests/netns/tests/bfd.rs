//! BFD with FRR at the other end: roles, timers, restarts, link-local addresses, and who is not believed.

#[macro_use]
mod bfd_lab;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bfd_lab::{
    LIMIT, NODE, ROUTER, UP, agent, another_program, await_state, bfd, drops, ensure_no_flap, rejected,
    router, session, uses_node, with_bgp,
};
use nix::sys::signal::Signal;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::wait::until;
use weir_netns::{Agent, Frr, Pair};

#[test]
fn a_session_is_up_within_three_seconds_in_both_roles() -> Result<()> {
    skip_unless_available!("a_session_is_up_within_three_seconds_in_both_roles");
    for (ours, theirs) in [("10.0.0.1", ""), ("10.0.0.1,passive", ""), ("10.0.0.1", "passive-mode")] {
        let pair = Pair::new()?;
        let frr = router(&pair, 300, theirs)?;
        let mut agent = agent(&pair, &["--bfd-peer", ours])?;
        agent.start()?;
        // It may have been up before the agent was ready: how long it took is what the router tells.
        let took = frr.await_bfd(NODE, "up", UP)?;
        await_state(&agent, "10.0.0.1", "up", UP)?;
        until("the router says so, too", LIMIT, || {
            Ok(session(&agent, "10.0.0.1")?["remote"]["state"] == "up")
        })?;
        ensure!(agent.scrape()?.sum("weir_bfd_session_state", &[("peer", "10.0.0.1")]) == 3.0);
        ensure_no_flap(&agent, &frr)?;
        eprintln!("{ours} with {theirs:?}: up {} ms after the agent was ready", took.as_millis());
    }
    Ok(())
}

#[test]
fn peers_of_a_prefix_are_answered_and_strangers_are_not() -> Result<()> {
    skip_unless_available!("peers_of_a_prefix_are_answered_and_strangers_are_not");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.0/30,passive"])?;
    agent.start()?;
    frr.await_bfd(NODE, "up", UP)?;
    pair.peer.address(UPLINK, "10.0.0.9/24")?;
    pair.peer.run(|| {
        let socket = std::net::UdpSocket::bind(("10.0.0.9", 0))?;
        socket.set_ttl(255)?;
        socket.send_to(
            &[0x20, 0x40, 3, 24, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            (NODE, 3784),
        )?;
        Ok(())
    })?;
    until("a stranger is counted", LIMIT, || Ok(rejected(&agent, "stranger")? > 0))?;
    ensure!(bfd(&agent)?["sessions"].as_array().is_some_and(|all| all.len() == 1), "{}", bfd(&agent)?);
    ensure_no_flap(&agent, &frr)
}

/// Every pair of 50, 100, 300 ms and 1 s. The agent's own timing is changed by its configuration file, the router's by its
/// command line: each change is a poll, and none is a flap.
#[test]
fn every_pair_of_timers_is_negotiated_without_a_flap() -> Result<()> {
    skip_unless_available!("every_pair_of_timers_is_negotiated_without_a_flap");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weir.yaml");
    let write = |milliseconds: u32| {
        let peer = format!("{ROUTER},tx={milliseconds}ms,rx={milliseconds}ms,mult=3");
        std::fs::write(&file, format!("bfd:\n  peers: ['{peer}']\n"))
    };
    write(300)?;
    let mut agent = agent(&pair, &["--config", &file.to_string_lossy()])?;
    agent.start()?;
    frr.await_bfd(NODE, "up", UP)?;
    for ours in [50, 100, 300, 1000] {
        write(ours)?;
        agent.process()?.signal(Signal::SIGHUP)?;
        for theirs in [1000, 300, 100, 50] {
            frr.configure(&format!(
                "bfd\npeer {NODE} interface {UPLINK}\nreceive-interval {theirs}\ntransmit-interval {theirs}\n"
            ))?;
            let agreed = u64::from(ours.max(theirs));
            until(&format!("{ours} with {theirs} ms is agreed"), LIMIT, || {
                let view = session(&agent, "10.0.0.1")?;
                let told = frr.bfd(NODE)?["remote-transmit-interval"] == ours;
                Ok(told
                    && view["transmit_interval_ns"] == agreed * 1_000_000
                    && view["detection_time_ns"] == 3 * agreed * 1_000_000
                    && view["remote_detection_time_ns"] == 3 * agreed * 1_000_000)
            })
            .with_context(|| format!("{:?} {:?}", bfd(&agent), frr.bfd(NODE)))?;
            // Packets go on in that rhythm.
            let before = session(&agent, "10.0.0.1")?["received"].as_u64().unwrap_or(0);
            until("ten more packets", LIMIT, || {
                Ok(session(&agent, "10.0.0.1")?["received"].as_u64().is_some_and(|now| now >= before + 10))
            })?;
            ensure_no_flap(&agent, &frr).with_context(|| format!("{ours} ms here, {theirs} ms there"))?;
        }
    }
    Ok(())
}

#[test]
fn the_router_takes_its_session_down_and_up_again() -> Result<()> {
    skip_unless_available!("the_router_takes_its_session_down_and_up_again");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    frr.configure(&format!("bfd\npeer {NODE} interface {UPLINK}\nshutdown\n"))?;
    await_state(&agent, "10.0.0.1", "down", LIMIT)?;
    let view = session(&agent, "10.0.0.1")?;
    ensure!(
        view["diagnostic"] == "neighbor-signaled-down" && view["remote"]["state"] == "admin-down",
        "{view}"
    );
    frr.configure(&format!("bfd\npeer {NODE} interface {UPLINK}\nno shutdown\n"))?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    let scrape = agent.scrape()?;
    let labels = [("peer", "10.0.0.1"), ("diagnostic", "neighbor-signaled-down")];
    ensure!(scrape.count("weir_bfd_session_drops_total", &labels) == 1);
    Ok(())
}

/// Only the way to the node is cut. The router must hear of it from the node, before its own detection time is over.
#[test]
fn silence_one_way_is_told_to_the_router() -> Result<()> {
    skip_unless_available!("silence_one_way_is_told_to_the_router");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let table = "table inet cut { chain in { type filter hook input priority -300; udp dport 3784 drop; }; }";
    pair.node.output(std::process::Command::new("nft").arg(table))?;
    await_state(&agent, "10.0.0.1", "down", LIMIT)?;
    frr.await_bfd(NODE, "down", LIMIT)?;
    let told = frr.bfd(NODE)?["diagnostic"].clone();
    ensure!(told == "neighbor signaled session down", "{told}");
    pair.node.output(std::process::Command::new("nft").arg("delete table inet cut"))?;
    await_state(&agent, "10.0.0.1", "up", LIMIT).map(drop)
}

/// A session that is to go waits until the wire shows that the router learns no route of this node any more.
#[test]
fn a_session_goes_once_its_peer_is_drained() -> Result<()> {
    skip_unless_available!("a_session_goes_once_its_peer_is_drained");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weir.yaml");
    let write = |peer: &str| std::fs::write(&file, format!("bfd:\n  peers: ['{peer}']\n"));
    write("10.0.0.1")?;
    let mut agent = agent(&pair, &["--config", &file.to_string_lossy()])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    // Seen from its start, so that all routes are known.
    let speaker = with_bgp(&pair, &frr, "", 30)?;
    let advertised = |agent: &Agent<'_>| {
        let labels = [("peer", "10.0.0.1"), ("direction", "egress")];
        Ok::<_, anyhow::Error>(agent.scrape()?.count("weir_bgp_prefixes", &labels))
    };
    until("the route is seen on the wire", LIMIT, || Ok(advertised(&agent)? > 0))?;
    write("10.0.0.1,admin-down")?;
    agent.process()?.signal(Signal::SIGHUP)?;
    until("the agent waits for the drain", LIMIT, || {
        Ok(session(&agent, "10.0.0.1")?["problem"].as_str().is_some_and(|text| text.contains("drained")))
    })?;
    ensure!(session(&agent, "10.0.0.1")?["state"] == "up", "it waits");
    speaker.withdraw(VIP4.parse()?)?;
    await_state(&agent, "10.0.0.1", "admin-down", LIMIT)?;
    ensure!(!uses_node(&pair)?, "the route was gone before");
    until("the router was told", LIMIT, || {
        Ok(frr.bfd(NODE)?["remote-diagnostic"] == "administratively down")
    })?;
    Ok(())
}

/// The agent ends in order, in disorder, and as another program: the router must not notice.
#[test]
fn a_restart_and_an_upgrade_of_the_agent_do_not_show() -> Result<()> {
    skip_unless_available!("a_restart_and_an_upgrade_of_the_agent_do_not_show");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let folder = tempfile::tempdir()?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let before = session(&agent, "10.0.0.1")?;
    let identity = |view: &serde_json::Value| (view["discriminator"].clone(), view["source_port"].clone());
    for way in ["SIGTERM", "SIGKILL", "upgrade"] {
        match way {
            "SIGKILL" => drop(agent.process()?.kill()?),
            _ => drop(agent.process()?.stop()?),
        }
        if way == "upgrade" {
            agent.run_program(&another_program(folder.path())?);
            // An image is pulled meanwhile: longer than the detection time, shorter than what the peer was asked to wait.
            let patience = frr.bfd(NODE)?["remote-transmit-interval"].clone();
            ensure!(patience == 5000, "the router was not asked for patience: {patience}");
            let gone = Instant::now();
            until("three seconds without an agent", LIMIT, || {
                ensure!(frr.bfd(NODE)?["status"] == "up", "after {:?}", gone.elapsed());
                Ok(gone.elapsed() > Duration::from_secs(3))
            })?;
        }
        agent.start()?;
        ensure_no_flap(&agent, &frr).context(way)?;
        let after = session(&agent, "10.0.0.1")?;
        ensure!(identity(&before) == identity(&after), "{way}: {before} became {after}");
        until("the rate is back", LIMIT, || Ok(frr.bfd(NODE)?["remote-transmit-interval"] == 300))
            .context(way)?;
        ensure_no_flap(&agent, &frr).context(way)?;
    }
    ensure!(!agent.log_text().contains("panicked"), "{}", agent.log_text());
    Ok(())
}

#[test]
fn a_restart_of_the_router_is_one_drop_and_heals() -> Result<()> {
    skip_unless_available!("a_restart_of_the_router_is_one_drop_and_heals");
    let pair = Pair::new()?;
    let mut frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    frr.daemon("bfdd")?.kill()?;
    await_state(&agent, "10.0.0.1", "down", LIMIT)?;
    ensure!(session(&agent, "10.0.0.1")?["diagnostic"] == "detection-time-expired");
    frr.start_daemon("bfdd")?;
    frr.configure(&format!("bfd\npeer {NODE} interface {UPLINK}\n"))?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    ensure!(drops(&agent)? == 1);
    Ok(())
}

#[test]
fn link_local_addresses_have_sessions() -> Result<()> {
    skip_unless_available!("link_local_addresses_have_sessions");
    let pair = Pair::new()?;
    let link_local = |host: &weir_netns::Host| -> Result<IpAddr> {
        let mac = host.mac(UPLINK)?;
        let [a, b, c, d, e, f] = mac.map(u16::from);
        Ok(IpAddr::from([0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f]))
    };
    let (node, peer) = (link_local(&pair.node)?, link_local(&pair.peer)?);
    let frr = Frr::start(&pair.peer)?;
    frr.configure(&format!("bfd\npeer {node} local-address {peer} interface {UPLINK}\n"))?;
    let mut agent = agent(&pair, &["--bfd-peer", &format!("{peer},interface={UPLINK}")])?;
    agent.start()?;
    let label = format!("{peer}%{UPLINK}");
    frr.await_bfd(node, "up", UP)?;
    await_state(&agent, &label, "up", UP)?;
    // And a global one of the same family, to the same router.
    frr.configure("bfd\npeer fd00::2 local-address fd00::1\n")?;
    ensure!(agent.scrape()?.sum("weir_bfd_session_state", &[("peer", &label)]) == 3.0);
    agent.process()?.kill()?;
    agent.start()?;
    ensure!(bfd_lab::router_downs_of(&frr, node)? == 0, "a restart showed");
    Ok(())
}

#[test]
fn a_packet_from_more_than_a_hop_away_is_not_believed() -> Result<()> {
    skip_unless_available!("a_packet_from_more_than_a_hop_away_is_not_believed");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let number = session(&agent, "10.0.0.1")?["discriminator"].as_u64().context("no number")?;
    // All is right with this packet but its time to live: it would take the session down.
    let mut down = [0x20, 0x40, 3, 24].to_vec();
    down.extend(9_u32.to_be_bytes());
    down.extend(u32::try_from(number)?.to_be_bytes());
    down.extend([0, 1, 0x86, 0xa0].repeat(2));
    down.extend([0; 4]);
    for ttl in [254, 64, 1] {
        pair.peer.run(|| {
            let socket = std::net::UdpSocket::bind((ROUTER, 0))?;
            socket.set_ttl(ttl)?;
            socket.send_to(&down, (NODE, 3784))?;
            Ok(())
        })?;
    }
    until("all three are counted", LIMIT, || Ok(rejected(&agent, "ttl")? == 3))?;
    ensure_no_flap(&agent, &frr)
}

/// Echoes come back to FRR in both families. It addresses them to itself, so that the node's kernel forwards them.
#[test]
fn echoes_are_sent_back() -> Result<()> {
    skip_unless_available!("echoes_are_sent_back");
    let pair = Pair::new()?;
    pair.node.sysctl("ipv4/ip_forward", "1")?;
    let echo = "echo transmit-interval 50\necho receive-interval 50\necho-mode\n";
    let frr = router(&pair, 300, echo)?;
    frr.configure(&format!("bfd\npeer fd00::2 local-address fd00::1 interface {UPLINK}\n{echo}"))?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1,echo=50ms", "--bfd-peer", "fd00::1,echo=50ms"])?;
    agent.start()?;
    for (peer, node) in [("10.0.0.1", NODE), ("fd00::1", "fd00::2".parse()?)] {
        await_state(&agent, peer, "up", UP)?;
        until("the router gets its echoes", LIMIT, || {
            Ok(frr.bfd_counters(node)?["echo-packet-input"].as_u64().is_some_and(|count| count > 20))
        })
        .with_context(|| format!("{:?} {:?}", frr.bfd_counters(node), bfd(&agent)))?;
        ensure!(bfd_lab::router_downs_of(&frr, node)? == 0, "{}", frr.bfd_counters(node)?);
    }
    Ok(())
}

/// Echoes that a peer addresses to the node come back from the agent as they were, no faster than it was told; those of a stranger
/// do not.
#[test]
fn echoes_to_the_node_are_sent_back_by_the_agent() -> Result<()> {
    skip_unless_available!("echoes_to_the_node_are_sent_back_by_the_agent");
    let pair = Pair::new()?;
    pair.node.sysctl("ipv4/ip_forward", "1")?;
    pair.peer.ip("address add 10.0.0.3/24 dev eth0")?;
    let _frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1,echo=100ms"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let ear = |address: &str| {
        pair.peer.run(|| {
            let socket = UdpSocket::bind((address, 3785))?;
            socket.set_ttl(255)?;
            socket.set_read_timeout(Some(LIMIT))?;
            Ok(socket)
        })
    };
    let (socket, mut buffer) = (ear("10.0.0.1")?, [0; 64]);
    for n in 0..5_u8 {
        let echo = [n; 24];
        let sent = Instant::now();
        socket.send_to(&echo, (NODE, 3785))?;
        let (length, from) = socket.recv_from(&mut buffer)?;
        ensure!(buffer[..length] == echo && from.ip() == NODE, "{length} octets from {from}");
        println!("echo {n} came back after {:?}", sent.elapsed());
        // The next is due.
        std::thread::sleep(Duration::from_millis(100));
    }
    until("they are counted", LIMIT, || {
        Ok(agent.scrape()?.count("weir_bfd_echoes_total", &[("peer", "10.0.0.1")]) == 5)
    })?;

    // A hundred at once, and as many of a stranger: one is answered.
    let stranger = ear("10.0.0.3")?;
    for _ in 0..100 {
        socket.send_to(&[9; 24], (NODE, 3785))?;
        stranger.send_to(&[8; 24], (NODE, 3785))?;
    }
    until("all are counted", LIMIT, || {
        let answered = agent.scrape()?.count("weir_bfd_echoes_total", &[]) - 5;
        Ok(rejected(&agent, "echo")? + answered == 200)
    })?;
    let answered = agent.scrape()?.count("weir_bfd_echoes_total", &[]) - 5;
    ensure!((1..10).contains(&answered), "{answered} of a hundred within a moment");
    stranger.set_nonblocking(true)?;
    ensure!(stranger.recv_from(&mut buffer).is_err(), "a stranger had an answer");
    Ok(())
}

#[test]
fn echo_without_forwarding_is_refused_at_the_start() -> Result<()> {
    skip_unless_available!("echo_without_forwarding_is_refused_at_the_start");
    let pair = Pair::new()?;
    pair.node.sysctl("ipv4/ip_forward", "0")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1,echo=50ms"])?;
    agent.launch()?;
    let status = agent.process()?.wait(LIMIT).context("it should have ended")?;
    ensure!(!status.success() && agent.log_text().contains("ip_forward"), "{status}: {}", agent.log_text());
    Ok(())
}

#[test]
fn multihop_sessions_cross_a_router() -> Result<()> {
    skip_unless_available!("multihop_sessions_cross_a_router");
    let pair = Pair::new()?;
    pair.peer.address("lo", "10.9.9.9/32")?;
    let frr = Frr::start(&pair.peer)?;
    frr.configure(&format!("bfd\npeer {NODE} multihop local-address 10.9.9.9\n"))?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.9.9.9,multihop,min-ttl=254"])?;
    agent.start()?;
    frr.await_bfd(NODE, "up", UP)?;
    await_state(&agent, "10.9.9.9", "up", UP)?;
    ensure!(session(&agent, "10.9.9.9")?["multihop"] == true);
    Ok(())
}

/// Another program on the node has BFD: the agent leaves the port to it, and shows its sessions.
#[test]
fn where_another_program_has_the_port_the_agent_only_watches() -> Result<()> {
    skip_unless_available!("where_another_program_has_the_port_the_agent_only_watches");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let other = Frr::start(&pair.node)?;
    other.configure(&format!("bfd\npeer {ROUTER} interface {UPLINK}\n"))?;
    frr.await_bfd(NODE, "up", UP)?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    let seen = bfd(&agent)?;
    ensure!(seen["mode"] == "observing", "{seen}");
    ensure!(
        seen["reason"].as_str().is_some_and(|why| why.contains("bfdd") && why.contains("3784")),
        "{seen}"
    );
    ensure!(agent.scrape()?.sum("weir_bfd_mode", &[("mode", "observing")]) == 1.0);
    let check = pair.node.run(|| {
        Ok(std::process::Command::new(weir_netns::built("weir-agent")?)
            .args(["check", "-o", "json"])
            .output()?)
    })?;
    let check: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    let mut features = check["features"].as_array().into_iter().flatten();
    let port = features.find(|one| one["name"] == "bfd-port").context("check says nothing of BFD")?;
    // `check` looks with the rights that the agent keeps: enough to tell the user, not the name.
    let told = port["reason"].as_str().is_some_and(|why| why.contains("program of user"));
    ensure!(port["state"] == "degraded" && told, "{port}");
    // Both ways of the other's session are seen, and its fall.
    ensure!(session(&agent, "10.0.0.1")?["sent"].as_u64().is_some_and(|sent| sent > 0));
    frr.configure(&format!("bfd\npeer {NODE} interface {UPLINK}\nshutdown\n"))?;
    await_state(&agent, "10.0.0.1", "down", LIMIT)?;
    ensure!(drops(&agent)? == 1);
    Ok(())
}
