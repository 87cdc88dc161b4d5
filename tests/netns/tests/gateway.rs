//! The router follows the demo's manifests: real sessions, routes in the kernel, translated connections, drift put back.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_netns::topology::{PUBLIC, VIP4, VIP6};
use weir_netns::traffic::{self, TCP_PORT};
use weir_netns::wait::until;
use weir_netns::{Gateway, Lab, gateway, speaker};

const LIMIT: Duration = Duration::from_secs(60);
const NODE3: &str = "protocols bgp neighbor 10.10.30.12";

#[test]
fn the_router_follows_the_manifests() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable().or_else(gateway::unavailable) {
        eprintln!("SKIPPED the_router_follows_the_manifests: {reason}");
        return Ok(());
    }
    let lab = Lab::without_vip_routes()?;
    let mut gateway = Gateway::start(&lab)?;
    gateway.validate()?;
    ensure!(gateway.plan()?.contains("to create"), "a fresh router lacks everything");
    gateway.apply()?;
    assert_eq!(gateway.commits()?, 1);
    ensure!(!gateway.plan()?.contains("+ set"), "a second plan is empty");

    let mut speakers = speaker::on_all_nodes(&lab)?;
    gateway.await_next_hops(3)?;
    let _servers = lab
        .nodes
        .iter()
        .map(|node| traffic::start_server(node, &[VIP4, VIP6]))
        .collect::<Result<Vec<_>>>()?;
    reaches_every_node(&lab, &gateway)?;
    a_connection_stays_with_its_node(&lab)?;

    gateway.follow(Duration::from_secs(1))?;
    drift_is_put_back(&gateway)?;

    drop(speakers.pop());
    gateway.await_next_hops(2)?;
    Ok(())
}

/// Connections to the published address arrive on all nodes, and their answers come back.
fn reaches_every_node(lab: &Lab, gateway: &Gateway<'_>) -> Result<()> {
    let before = lab.nodes.iter().map(|node| node.counters("eth0")).collect::<Result<Vec<_>>>()?;
    for target in [PUBLIC, VIP4, VIP6] {
        let server = SocketAddr::new(target.parse::<IpAddr>()?, TCP_PORT);
        for number in 0..32 {
            let asked = lab.client.run(|| Ok(traffic::request(server, &[100])?));
            let bytes = asked.with_context(|| format!("connection {number} to {target}"))?;
            assert_eq!(bytes, 100, "{target}");
        }
    }
    assert_eq!(gateway.translated()?, 32, "each connection to the public address once");
    for (node, before) in lab.nodes.iter().zip(before) {
        let seen = node.counters("eth0")? - before;
        assert!(seen.received_packets > 20, "{} was left out: {seen:?}", node.name());
    }
    Ok(())
}

/// Connections that lose packets and send again go on with the node that they began with: another would reset them.
fn a_connection_stays_with_its_node(lab: &Lab) -> Result<()> {
    let open = |vip: &str| Ok(TcpStream::connect((vip.parse::<IpAddr>()?, TCP_PORT))?);
    let mut streams =
        lab.client.run(|| [VIP4, VIP6].repeat(4).into_iter().map(open).collect::<Result<Vec<_>>>())?;
    let timeouts = || lab.client.counter("TcpExt", "TCPTimeouts");
    let before = timeouts()?;
    lab.lose(100)?;
    streams.iter_mut().try_for_each(|stream| stream.write_all(&100_u32.to_be_bytes()))?;
    let enough = before + 2 * streams.len() as u64;
    until("each connection has sent again", LIMIT, || Ok(timeouts()? >= enough))?;
    lab.lose_nothing()?;
    streams.iter_mut().try_for_each(|stream| Ok(stream.read_exact(&mut [0; 100])?))
}

/// Somebody removes a node's session and a rule by hand: both come back, and what is not ours stays as they left it.
fn drift_is_put_back(gateway: &Gateway<'_>) -> Result<()> {
    let before = gateway.running()?;
    let rules = before.lines().filter(|line| line.contains("nat destination rule")).count();
    ensure!(rules > 0, "{before}");
    let commits = gateway.commits()?;
    gateway.edit(&format!("delete {NODE3}\ndelete nat destination\nset system time-zone Europe/Berlin"))?;
    until("the configuration is as before, with the time zone", LIMIT, || {
        let now = gateway.running()?;
        Ok(now.lines().filter(|line| !line.contains("time-zone")).eq(before.lines())
            && now.contains("Berlin"))
    })?;
    ensure!(gateway.commits()? > commits, "it came back through the router's API");
    gateway.await_next_hops(3)?;
    Ok(())
}
