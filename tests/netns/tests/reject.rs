//! What a rule rejects is answered, so that nobody waits for silence: by the programs themselves, from addresses that the node's
//! kernel does not even know.
#![allow(clippy::print_stderr, reason = "a skip is told")]

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_netns::packet::Transport;
use weir_netns::topology::{UPLINK, VIP4, VIP6};
use weir_netns::wait::until;
use weir_netns::{Agent, Pair, built};

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for an answer, and short enough to wait for one that does not come.
const MOMENT: Duration = Duration::from_millis(500);
const SERVED: u16 = 80;

fn policy() -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {{name: test}}\nspec:\n  vipGuard:\n    \
         mode: Enforce\n    reject: true\n    services:\n    \
         - {{vips: ['{VIP4}', '{VIP6}'], protocol: TCP, ports: [{SERVED}]}}\n"
    )
}

/// How a connection from the peer ends.
fn connection(pair: &Pair, vip: &str, port: u16) -> Result<ErrorKind> {
    let to = SocketAddr::new(vip.parse()?, port);
    let ended = pair.peer.run(|| Ok(TcpStream::connect_timeout(&to, MOMENT)))?;
    Ok(ended.err().context("a connection to nobody")?.kind())
}

/// What a datagram from the peer meets.
fn datagram(pair: &Pair, vip: &str, port: u16) -> Result<ErrorKind> {
    let to = SocketAddr::new(vip.parse()?, port);
    pair.peer.run(|| {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(MOMENT))?;
        socket.send(b"anybody?")?;
        Ok(socket.recv(&mut [0; 16]).err().context("an answer of nobody")?.kind())
    })
}

#[test]
fn what_a_guard_rejects_is_answered() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        eprintln!("SKIPPED what_a_guard_rejects_is_answered: {reason}");
        return Ok(());
    }
    let (pair, folder) = (Pair::new()?, tempfile::tempdir()?);
    // The kernel of the node must not answer itself.
    pair.node.ip(&format!("addr del {VIP4}/32 dev lo"))?;
    pair.node.ip(&format!("addr del {VIP6}/128 dev lo"))?;
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy())?;
    let path = file.to_str().context("a plain path")?;
    let options =
        ["--interface", UPLINK, "--vip", VIP4, "--vip", VIP6, "--policy", path, "--policy-deadline", "600"];
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &options)?;
    for vip in [VIP4, VIP6] {
        ensure!(connection(&pair, vip, 81)? == ErrorKind::TimedOut, "somebody else answers for {vip}");
    }
    agent.start()?;
    let pending = || Ok(agent.scrape()?.sum("weir_policy_generation", &[("state", "pending")]) == 1.0);
    until("the policy is pending", PATIENCE, pending).with_context(|| agent.log_text())?;
    agent.weirctl(&["policy", "confirm"])?;

    let resets = pair.node.counter("Tcp", "OutRsts")?;
    for vip in [VIP4, VIP6] {
        let ended = connection(&pair, vip, 81)?;
        ensure!(ended == ErrorKind::ConnectionRefused, "a connection to {vip} ends with {ended}");
        let ended = datagram(&pair, vip, 81)?;
        ensure!(ended == ErrorKind::ConnectionRefused, "a datagram to {vip} meets {ended}");
        ensure!(
            connection(&pair, vip, SERVED)? == ErrorKind::TimedOut,
            "what is served at {vip} is not rejected"
        );
    }
    ensure!(pair.node.counter("Tcp", "OutRsts")? == resets, "the node's kernel answered");
    let labels = [("rule", "guard-vip"), ("verdict", "drop")];
    ensure!(agent.scrape()?.count("weir_policy_packets_total", &labels) >= 4, "{}", agent.log_text());

    // A flood gets a few answers a moment, not a flood of them.
    const FLOOD: usize = 20_000;
    let frame = pair.to_vip(VIP4, &[], Transport::Udp { source: 5, destination: 81 }, 10)?.frame();
    let before = pair.peer.counter("Icmp", "InDestUnreachs")?;
    pair.wire()?.repeat(&frame, FLOOD)?;
    let answers = pair.peer.counter("Icmp", "InDestUnreachs")? - before;
    ensure!(answers > 0 && answers < FLOOD as u64 / 2, "{answers} answers to {FLOOD} packets");
    Ok(())
}
