//! What nobody should send to a speaker of BFD: counted, never believed, and the session with the router stays.

#[macro_use]
mod bfd_lab;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bfd_lab::{LIMIT, NODE, ROUTER, UP, agent, await_state, bfd, ensure_no_flap, rejected, router, session};
use weir_netns::topology::UPLINK;
use weir_netns::wait::until;
use weir_netns::{Agent, Pair};

const FLOOD: Duration = Duration::from_secs(5);

/// A packet that would take the session down, were it the router's.
fn down(my: u32, your: u32) -> Vec<u8> {
    let mut packet = vec![0x20, 0x40, 3, 24];
    for word in [my, your, 1_000_000, 1_000_000, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet
}

fn number(agent: &Agent<'_>) -> Result<u32> {
    Ok(u32::try_from(session(agent, "10.0.0.1")?["discriminator"].as_u64().context("no number")?)?)
}

/// A socket at the router's end, one hop away as the packets say.
fn neighbour(pair: &Pair, source: IpAddr) -> Result<UdpSocket> {
    pair.peer.run(|| {
        let socket = UdpSocket::bind((source, 0))?;
        socket.set_ttl(255)?;
        Ok(socket)
    })
}

#[test]
fn malformed_packets_are_counted_by_reason() -> Result<()> {
    skip_unless_available!("malformed_packets_are_counted_by_reason");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let good = down(9, number(&agent)?);
    let with = |at: usize, octet: u8| {
        let mut packet = good.clone();
        packet[at] = octet;
        packet
    };
    let mut authenticated = with(1, 0x44);
    authenticated[3] = 28;
    authenticated.extend([1, 4, 0, 0]);
    let stranger = down(9, number(&agent)? ^ 1);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("version", with(0, 0x40)),
        ("length", with(3, 25)),
        ("length", with(3, 23)),
        ("length", good[..23].to_vec()),
        ("length", Vec::new()),
        ("multiplier", with(2, 0)),
        ("multipoint", with(1, 0x41)),
        ("poll-and-final", with(1, 0x70)),
        ("my-discriminator", with(7, 0)),
        ("authentication", authenticated),
        ("unknown-session", stranger),
        (
            "your-discriminator",
            down(9, 0)
                .into_iter()
                .enumerate()
                .map(|(at, octet)| if at == 1 { 0xc0 } else { octet })
                .collect(),
        ),
    ];
    let socket = neighbour(&pair, ROUTER)?;
    for (reason, packet) in &cases {
        let before = rejected(&agent, reason)?;
        socket.send_to(packet, (NODE, 3784))?;
        until(&format!("{reason} is counted"), LIMIT, || Ok(rejected(&agent, reason)? == before + 1))?;
    }
    // Every length of garbage, and every first octet.
    for length in 0..=64 {
        socket.send_to(&vec![length * 3; length.into()], (NODE, 3784))?;
    }
    ensure_no_flap(&agent, &frr)?;
    ensure!(!agent.log_text().contains("panicked"), "{}", agent.log_text());
    Ok(())
}

#[test]
fn a_replay_of_a_session_before_is_not_believed() -> Result<()> {
    skip_unless_available!("a_replay_of_a_session_before_is_not_believed");
    let pair = Pair::new()?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let old = down(9, number(&agent)?);
    // A session with another number, as after a reboot of the node.
    agent.process()?.kill()?;
    std::fs::remove_dir_all(agent.pins().join("memory"))?;
    agent.start()?;
    frr.await_bfd(NODE, "up", LIMIT)?;
    await_state(&agent, "10.0.0.1", "up", LIMIT)?;
    let (downs, before) = (bfd_lab::router_downs(&frr)?, bfd_lab::drops(&agent)?);
    let socket = neighbour(&pair, ROUTER)?;
    for _ in 0..20 {
        socket.send_to(&old, (NODE, 3784))?;
    }
    until("all are counted", LIMIT, || Ok(rejected(&agent, "unknown-session")? >= 20))?;
    ensure!(bfd_lab::router_downs(&frr)? == downs && bfd_lab::drops(&agent)? == before, "{}", bfd(&agent)?);
    Ok(())
}

/// As fast as one CPU can send, for five seconds each: from a stranger, and in the router's own name with numbers of no session.
#[test]
fn a_flood_takes_no_session_down() -> Result<()> {
    skip_unless_available!("a_flood_takes_no_session_down");
    let pair = Pair::new()?;
    pair.peer.address(UPLINK, "10.0.0.77/24")?;
    let frr = router(&pair, 300, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let other = number(&agent)? ^ 1;
    for (source, reason) in [("10.0.0.77".parse()?, "stranger"), (ROUTER, "unknown-session")] {
        let socket = neighbour(&pair, source)?;
        socket.connect((NODE, 3784))?;
        let (packet, start, mut sent) = (down(9, other), Instant::now(), 0_u64);
        while start.elapsed() < FLOOD {
            for _ in 0..100 {
                sent += u64::from(socket.send(&packet).is_ok());
            }
        }
        let counted = rejected(&agent, reason)? + rejected(&agent, "queue-full")?;
        eprintln!(
            "{reason}: {sent} packets in {FLOOD:?}, {counted} counted ({} for want of room)",
            rejected(&agent, "queue-full")?
        );
        ensure!(rejected(&agent, reason)? > 1000, "nothing of the flood was seen: {}", bfd(&agent)?);
        ensure_no_flap(&agent, &frr).with_context(|| format!("a flood from {source}"))?;
    }
    Ok(())
}
