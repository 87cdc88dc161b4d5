//! The lab itself: it is wired as it says, it counts right, and it leaves nothing behind.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_netns::packet::Transport;
use weir_netns::topology::{VIP4, VIP6};
use weir_netns::traffic::{self, TCP_PORT, Tally};
use weir_netns::{Host, Lab, Namespace, Packet, Wire};

macro_rules! skip_unless_available {
    ($name:literal) => {
        if let Some(reason) = weir_netns::unavailable() {
            eprintln!("SKIPPED {}: {reason}", $name);
            return Ok(());
        }
    };
}

#[test]
fn frames_sent_are_frames_counted() -> Result<()> {
    skip_unless_available!("frames_sent_are_frames_counted");
    let (left, right) = (Namespace::new("left")?, Namespace::new("right")?);
    left.veth("a0", &right, "b0")?;
    let macs = (right.mac("b0")?, left.mac("a0")?);
    let (wire, before) = (Wire::open(&left, "a0")?, right.counters("b0")?);
    let mut bytes = 0;
    for (source, destination, tags) in [("10.0.0.1", "10.0.0.2", vec![]), ("fd00::1", "fd00::2", vec![40])] {
        let packet = Packet {
            macs,
            tags,
            source: source.parse()?,
            destination: destination.parse()?,
            transport: Transport::Udp { source: 1, destination: 2 },
            payload: 100,
        };
        let frame = packet.frame();
        wire.repeat(&frame, 500)?;
        bytes += 500 * frame.len() as u64;
    }
    let seen = right.counters("b0")? - before;
    // The two ends also solicit routers and report multicast groups by themselves.
    ensure!((1000..1010).contains(&seen.received_packets), "{seen:?}");
    ensure!((bytes..bytes + 1000).contains(&seen.received_bytes), "{seen:?}");
    Ok(())
}

#[test]
fn crafted_packets_are_taken_by_the_kernel() -> Result<()> {
    skip_unless_available!("crafted_packets_are_taken_by_the_kernel");
    let (left, right) = (Namespace::new("left")?, Namespace::new("right")?);
    left.veth("a0", &right, "b0")?;
    let macs = (right.mac("b0")?, left.mac("a0")?);
    let wire = Wire::open(&left, "a0")?;
    for (source, destination, prefix) in [("10.0.0.1", "10.0.0.2", 24), ("fd00::1", "fd00::2", 64)] {
        right.address("b0", &format!("{destination}/{prefix}"))?;
        let socket = right.run(|| Ok(std::net::UdpSocket::bind((destination.parse::<IpAddr>()?, 2000))?))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let packet = Packet {
            macs,
            tags: vec![],
            source: source.parse()?,
            destination: destination.parse()?,
            transport: Transport::Udp { source: 1000, destination: 2000 },
            payload: 1000,
        };
        wire.send(&packet.frame())?;
        packet.fragments(400).iter().try_for_each(|fragment| wire.send(fragment))?;
        let mut buffer = [0; 2000];
        // The socket only gets what passed the checksums, and fragments only once they are whole.
        for _ in 0..2 {
            let (length, from) = socket.recv_from(&mut buffer)?;
            assert_eq!((length, from), (1000, SocketAddr::new(source.parse()?, 1000)));
            assert!(buffer[..1000].iter().enumerate().all(|(index, byte)| *byte == index as u8));
        }
    }
    Ok(())
}

#[test]
fn the_router_spreads_both_families_over_all_nodes() -> Result<()> {
    skip_unless_available!("the_router_spreads_both_families_over_all_nodes");
    let lab = Lab::new()?;
    let _servers = lab
        .nodes
        .iter()
        .map(|node| traffic::start_server(node, &[VIP4, VIP6]))
        .collect::<Result<Vec<_>>>()?;
    let before = lab.nodes.iter().map(|node| node.counters("eth0")).collect::<Result<Vec<_>>>()?;
    let mut load = Command::new(env!("CARGO_BIN_EXE_weir-traffic"));
    load.args(["load", "--rounds", "16", "--pace", "0", "--target", VIP4, "--target", VIP6]);
    let output = lab.client.output(&mut load)?;
    let tally: Tally = serde_json::from_slice(&output.stdout)?;
    assert_eq!((tally.connections, tally.failed, tally.refused), (32, 0, 4), "{tally:?}");
    assert_eq!(tally.answered_bytes, 8 * (200 + 4_000 + 60_000 + 500_000) + 32 * 100);
    assert_eq!(tally.datagrams, 32 * 20 + 4);
    for (node, before) in lab.nodes.iter().zip(before) {
        let seen = node.counters("eth0")? - before;
        assert!(seen.received_packets > 20, "{} was left out: {seen:?}", node.name());
    }
    Ok(())
}

#[test]
fn the_router_loses_what_it_is_told_to() -> Result<()> {
    skip_unless_available!("the_router_loses_what_it_is_told_to");
    let lab = Lab::new()?;
    lab.lose(100)?;
    let target = SocketAddr::new(VIP4.parse()?, TCP_PORT);
    let result =
        lab.client.run(|| Ok(std::net::TcpStream::connect_timeout(&target, Duration::from_millis(200))))?;
    assert!(result.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
    Ok(())
}

#[test]
fn a_dropped_host_leaves_nothing() -> Result<()> {
    skip_unless_available!("a_dropped_host_leaves_nothing");
    let host = Host::new("short")?;
    let (namespace, group) = (Path::new("/run/netns").join(host.name()), host.cgroup().path().to_owned());
    host.address("lo", "10.9.9.9/32")?;
    // A process that outlives its owner's memory of it.
    let mut process = traffic::start_server(&host, &["10.9.9.9"])?;
    assert!(namespace.exists() && group.exists());
    drop(host);
    assert!(!namespace.exists() && !group.exists());
    assert!(process.wait(Duration::from_secs(10)).is_some(), "the group was removed but its process lives");
    Ok(())
}

#[test]
fn what_a_dead_process_left_is_swept() -> Result<()> {
    skip_unless_available!("what_a_dead_process_left_is_swept");
    let mut short = Command::new("true").spawn()?;
    let dead = short.id();
    short.wait()?;
    let name = format!("weir-{dead}-1-left");
    weir_netns::namespace::succeed(Command::new("ip").args(["netns", "add", &name]))?;
    weir_netns::reap::sweep(|pid| pid == dead);
    assert!(!Path::new("/run/netns").join(&name).exists());
    Ok(())
}
