//! The real agent on a real link: what was sent is what it counts, also across crashes and upgrades.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use weir_netns::openmetrics::Scrape;
use weir_netns::packet::{ACK, RST, SYN, Transport};
use weir_netns::topology::{UPLINK, VIP4, VIP6};
use weir_netns::{Agent, Counters, Pair, built};

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable() {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

const OPTIONS: [&str; 6] = ["--interface", UPLINK, "--vip", VIP4, "--vip", VIP6];

fn measured(pair: &Pair) -> Result<Agent<'_>> {
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &OPTIONS)?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    Ok(agent)
}

fn interface(scrape: &Scrape, what: &str, direction: &str) -> u64 {
    scrape.count(&format!("weir_interface_{what}_total"), &[("interface", UPLINK), ("direction", direction)])
}

/// Into the node, to one virtual address.
fn vip(scrape: &Scrape, vip: &str, more: &[(&str, &str)]) -> [u64; 2] {
    let labels = [&[("vip", vip), ("direction", "ingress")], more].concat();
    ["weir_vip_packets_total", "weir_vip_bytes_total"].map(|name| scrape.count(name, &labels))
}

/// The agent's interface counters grew exactly as the kernel's, packet by packet.
fn agree(before: &(Scrape, Counters), after: &(Scrape, Counters)) -> Result<()> {
    let kernel = after.1 - before.1;
    let grown =
        |direction| interface(&after.0, "packets", direction) - interface(&before.0, "packets", direction);
    ensure!(grown("ingress") == kernel.received_packets, "in: {} of {kernel:?}", grown("ingress"));
    ensure!(grown("egress") == kernel.sent_packets, "out: {} of {kernel:?}", grown("egress"));
    Ok(())
}

#[test]
fn crafted_packets_are_counted_one_by_one() -> Result<()> {
    skip_unless_available!("crafted_packets_are_counted_one_by_one");
    const TIMES: usize = 150;
    let pair = Pair::new()?;
    let (agent, wire) = (measured(&pair)?, pair.wire()?);
    let transports = [
        (Transport::Udp { source: 4000, destination: 5000 }, "udp", "5000"),
        (Transport::Tcp { source: 4000, destination: 5001, flags: SYN }, "tcp", "5001"),
        (Transport::Tcp { source: 4000, destination: 5002, flags: RST | ACK }, "tcp", "5002"),
    ];
    let tags: [&[u16]; 3] = [&[], &[40], &[50, 60]];
    for address in [VIP4, VIP6] {
        for (tags, (transport, protocol, port)) in
            tags.iter().flat_map(|tags| transports.map(|it| (tags, it)))
        {
            let frame = pair.to_vip(address, tags, transport, 100)?.frame();
            let labels = [("protocol", protocol), ("port", port)];
            let before = pair.quiet(|| agent.scrape())?;
            wire.repeat(&frame, TIMES)?;
            let after = pair.quiet(|| agent.scrape())?;
            agree(&before, &after)?;
            let (old, new) = (vip(&before.0, address, &labels), vip(&after.0, address, &labels));
            // The outermost tag travels beside the frame, as metadata: it is no part of its octets.
            let length = frame.len() - if tags.is_empty() { 0 } else { 4 };
            ensure!(
                [new[0] - old[0], new[1] - old[1]] == [TIMES as u64, (TIMES * length) as u64],
                "{address} {protocol} {tags:?}: {TIMES} packets of {length} became {old:?} to {new:?}"
            );
        }
    }
    let scrape = agent.scrape()?;
    for (vlan, expected) in [("none", 3 * TIMES), ("40", 3 * TIMES), ("50", 3 * TIMES)] {
        for address in [VIP4, VIP6] {
            let labels = [("vip", address), ("vlan", vlan), ("direction", "ingress")];
            assert_eq!(
                scrape.count("weir_vip_vlan_packets_total", &labels),
                expected as u64,
                "{address} {vlan}"
            );
        }
    }
    let flags = [("vip", VIP4), ("direction", "ingress")];
    assert_eq!(scrape.count("weir_vip_tcp_syn_packets_total", &flags), 3 * TIMES as u64);
    assert_eq!(scrape.count("weir_vip_tcp_rst_packets_total", &flags), 3 * TIMES as u64);
    for address in [VIP4, VIP6] {
        // One flow for each transport and outermost tag, and nothing else.
        let flows = flows(&agent, address)?;
        assert_eq!(flows.len(), 9, "{flows:?}");
        assert!(flows.iter().all(|flow| flow["packets"] == TIMES as u64), "{flows:?}");
    }
    Ok(())
}

/// The flows into the node to one virtual address, as `weirctl` shows them.
fn flows(agent: &Agent<'_>, vip: &str) -> Result<Vec<serde_json::Value>> {
    let text =
        agent.weirctl(&["flows", "-o", "json", "--vip", vip, "--direction", "ingress", "--limit", "1000"])?;
    let mut flows = Vec::new();
    for message in serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>() {
        flows.extend(message?["flows"].as_array().cloned().unwrap_or_default());
    }
    Ok(flows)
}

#[test]
fn echoes_and_fragments_are_counted() -> Result<()> {
    skip_unless_available!("echoes_and_fragments_are_counted");
    const TIMES: usize = 100;
    let pair = Pair::new()?;
    let (agent, wire) = (measured(&pair)?, pair.wire()?);
    for address in [VIP4, VIP6] {
        let echo = pair.to_vip(address, &[], Transport::Echo { identifier: 7, sequence: 1 }, 56)?;
        let large = pair.to_vip(address, &[], Transport::Udp { source: 4000, destination: 5000 }, 3000)?;
        let frames = [vec![echo.frame()], large.fragments(1400)].concat();
        assert_eq!(frames.len(), 4);
        let before = pair.quiet(|| agent.scrape())?;
        (0..TIMES).try_for_each(|_| frames.iter().try_for_each(|frame| wire.send(frame)))?;
        let after = pair.quiet(|| agent.scrape())?;
        agree(&before, &after)?;
        let bytes: usize = frames.iter().map(Vec::len).sum();
        let (old, new) = (vip(&before.0, address, &[]), vip(&after.0, address, &[]));
        assert_eq!(
            [new[0] - old[0], new[1] - old[1]],
            [4 * TIMES as u64, (bytes * TIMES) as u64],
            "{address}"
        );
        // Every echo was answered, and the answers left through the hook, too.
        let out = |scrape: &Scrape| {
            scrape.count("weir_vip_packets_total", &[("vip", address), ("direction", "egress")])
        };
        let answers = out(&after.0) - out(&before.0);
        assert!(answers >= TIMES as u64, "{address}: {answers} packets left, {TIMES} echoes came");
    }
    Ok(())
}

#[test]
fn sockets_of_both_families_are_counted_as_the_kernel_does() -> Result<()> {
    skip_unless_available!("sockets_of_both_families_are_counted_as_the_kernel_does");
    let pair = Pair::new()?;
    let agent = measured(&pair)?;
    let mut serve = pair.node.command(env!("CARGO_BIN_EXE_weir-traffic"));
    serve.args(["serve", "--address", VIP4, "--address", VIP6]).stdout(std::process::Stdio::piped());
    let mut server = pair.node.start(&mut serve)?;
    let mut line = String::new();
    let stdout = server.child().stdout.take().ok_or_else(|| anyhow::anyhow!("no stdout"))?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let before = pair.quiet(|| agent.scrape())?;
    let mut load = Command::new(env!("CARGO_BIN_EXE_weir-traffic"));
    load.args(["load", "--rounds", "24", "--pace", "0", "--target", VIP4, "--target", VIP6]);
    pair.peer.output(&mut load)?;
    let after = pair.quiet(|| agent.scrape())?;
    agree(&before, &after)?;
    // Requests to the open port, one of eight to a closed one, each begins with one SYN.
    for address in [VIP4, VIP6] {
        let syn = |port| {
            after.0.count(
                "weir_vip_tcp_syn_packets_total",
                &[("vip", address), ("port", port), ("direction", "ingress")],
            )
        };
        assert_eq!((syn("5432"), syn("81")), (24, 3), "{address}");
        let refused = [("vip", address), ("port", "81"), ("direction", "egress")];
        assert_eq!(after.0.count("weir_vip_tcp_rst_packets_total", &refused), 3, "{address}");
    }
    assert!(after.0.count("weir_tcp_accepts_total", &[]) >= 48, "sock_ops saw the connections");
    Ok(())
}

#[test]
fn a_crash_and_an_upgrade_under_load_lose_no_packet() -> Result<()> {
    skip_unless_available!("a_crash_and_an_upgrade_under_load_lose_no_packet");
    let pair = Pair::new()?;
    let mut agent = measured(&pair)?;
    let frame = pair.to_vip(VIP4, &[], Transport::Udp { source: 4000, destination: 5000 }, 100)?.frame();
    let wire = pair.wire()?;
    let before = pair.quiet(|| agent.scrape())?;
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                wire.send(&frame)?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let survived = survive(&mut agent, &sent);
        ended.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        survived
    })?;
    let after = pair.quiet(|| agent.scrape())?;
    agree(&before, &after)?;
    let sent = sent.into_inner();
    let counted = vip(&after.0, VIP4, &[("port", "5000")])[0] - vip(&before.0, VIP4, &[("port", "5000")])[0];
    assert_eq!(counted, sent, "of {sent} packets sent while the agent died and came back");
    Ok(())
}

/// SIGKILL, then a while without an agent, then a new one; after that an orderly change of agents. Packets flow throughout.
fn survive(agent: &mut Agent<'_>, sent: &AtomicU64) -> Result<()> {
    let pass = |count| {
        let until = sent.load(Ordering::Relaxed) + count;
        while sent.load(Ordering::Relaxed) < until {
            std::thread::yield_now();
        }
    };
    pass(2_000);
    agent.process()?.kill()?;
    pass(2_000);
    agent.start()?;
    pass(2_000);
    agent.process()?.stop()?;
    pass(2_000);
    agent.start()?;
    pass(2_000);
    Ok(())
}

#[test]
fn super_packets_count_once_and_as_their_segments() -> Result<()> {
    skip_unless_available!("super_packets_count_once_and_as_their_segments");
    const TIMES: u64 = 50;
    const SEGMENTS: usize = 10;
    const SIZE: usize = 1_000;
    let pair = Pair::new()?;
    let agent = measured(&pair)?;
    for (address, any, headers) in [(VIP4, "0.0.0.0:0", 14 + 20 + 8), (VIP6, "[::]:0", 14 + 40 + 8)] {
        let before = pair.quiet(|| agent.scrape())?;
        pair.peer.run(|| {
            let socket = std::net::UdpSocket::bind(any)?;
            // One call, one packet through the stack, ten datagrams (udp(7), UDP_SEGMENT).
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &(SIZE as i32))?;
            (0..TIMES).try_for_each(|_| socket.send_to(&[7; SEGMENTS * SIZE], (address, 5000)).map(drop))?;
            Ok(())
        })?;
        let after = pair.quiet(|| agent.scrape())?;
        agree(&before, &after)?;
        let labels = [("port", "5000"), ("protocol", "udp")];
        let (old, new) = (vip(&before.0, address, &labels), vip(&after.0, address, &labels));
        let length = (headers + SEGMENTS * SIZE) as u64;
        assert_eq!([new[0] - old[0], new[1] - old[1]], [TIMES, TIMES * length], "{address}: super-packets");
        let grown = |what| interface(&after.0, what, "ingress") - interface(&before.0, what, "ingress");
        let others = grown("packets") - TIMES;
        assert_eq!(grown("segments"), TIMES * SEGMENTS as u64 + others, "{address}: datagrams");
    }
    Ok(())
}

#[test]
fn jumbo_frames_are_counted_whole() -> Result<()> {
    skip_unless_available!("jumbo_frames_are_counted_whole");
    const TIMES: usize = 50;
    let pair = Pair::new()?;
    for host in [&pair.node, &pair.peer] {
        host.ip(&format!("link set {UPLINK} mtu 9000"))?;
    }
    let (agent, wire) = (measured(&pair)?, pair.wire()?);
    for address in [VIP4, VIP6] {
        let frame =
            pair.to_vip(address, &[], Transport::Udp { source: 4000, destination: 5000 }, 8_900)?.frame();
        let before = pair.quiet(|| agent.scrape())?;
        wire.repeat(&frame, TIMES)?;
        let after = pair.quiet(|| agent.scrape())?;
        agree(&before, &after)?;
        let (old, new) = (vip(&before.0, address, &[]), vip(&after.0, address, &[]));
        assert_eq!(
            [new[0] - old[0], new[1] - old[1]],
            [TIMES as u64, (TIMES * frame.len()) as u64],
            "{address}"
        );
    }
    Ok(())
}
