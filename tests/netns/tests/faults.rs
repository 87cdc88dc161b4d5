//! What goes wrong on a node: a clear error, or a visible degradation; never a panic, never a stuck interface.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_netns::packet::Transport;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::{Agent, Host, Pair, built, http, namespace};

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
fn an_agent_that_is_told_to_stop_ends_all_its_tasks() -> Result<()> {
    skip_unless_available!("an_agent_that_is_told_to_stop_ends_all_its_tasks");
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    ensure!(agent.process()?.stop()?.success());
    let words = agent.log_text();
    ensure!(words.contains("stopped;") && !words.contains("did not end"), "{words}");
    Ok(())
}

#[test]
fn an_unknown_interface_is_named() -> Result<()> {
    skip_unless_available!("an_unknown_interface_is_named");
    let pair = Pair::new()?;
    let words = refused(&mut Agent::new(&pair.node, &built("weir-agent")?, &["--interface", "eth7"])?)?;
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
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK])?;
    agent.pin_to("/proc/weir-pins".as_ref());
    let words = refused(&mut agent)?;
    ensure!(words.contains("/proc/weir-pins"), "{words}");
    Ok(())
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named_before_anything_is_in_the_kernel() -> Result<()> {
    skip_unless_available!("a_kubeconfig_that_cannot_be_used_is_named_before_anything_is_in_the_kernel");
    let pair = Pair::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, "apiVersion: v1\nkind: Config\nclusters: []\n")?;
    let options = ["--interface", UPLINK, "--kubeconfig", &file.to_string_lossy()];
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &options)?;
    let words = refused(&mut agent)?;
    ensure!(words.contains(&*file.to_string_lossy()) && words.contains("current context"), "{words}");
    ensure!(!agent.pins().join("links").exists(), "something is in the kernel");
    Ok(())
}

#[test]
fn a_second_agent_on_the_same_pins_leaves_the_first_alone() -> Result<()> {
    skip_unless_available!("a_second_agent_on_the_same_pins_leaves_the_first_alone");
    let pair = Pair::new()?;
    let mut first = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
    first.start()?;
    first.await_interface(UPLINK)?;
    let mut second = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK])?;
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
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
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
    let Pair { node, peer, .. } = Pair::new()?;
    let mut agent = Agent::new(&node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
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
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
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

/// 2,500 links at a time, four times over: 10,000 made, changed and gone.
fn noise(node: &Host) -> Result<()> {
    const PAIRS: usize = 1_250;
    let batch = |lines: &mut dyn Iterator<Item = String>| -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", node.name(), "-batch", "-"]).stdin(std::process::Stdio::piped());
        let mut child = ip.spawn()?;
        let text = lines.collect::<Vec<_>>().join("\n");
        std::io::Write::write_all(&mut child.stdin.take().context("no stdin")?, text.as_bytes())?;
        ensure!(child.wait()?.success(), "ip -batch failed");
        Ok(())
    };
    for _ in 0..4 {
        batch(&mut (0..PAIRS).map(|n| format!("link add s{n} group 7 type veth peer name p{n} group 7")))?;
        batch(&mut (0..PAIRS).map(|n| format!("link set s{n} mtu 1400")))?;
        batch(&mut std::iter::once("link del group 7".to_owned()))?;
    }
    Ok(())
}

#[test]
fn ten_thousand_links_come_and_go_and_every_packet_is_counted() -> Result<()> {
    skip_unless_available!("ten_thousand_links_come_and_go_and_every_packet_is_counted");
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    agent.await_hook(UPLINK, "head")?;
    let packet = pair.to_vip(VIP4, &[], Transport::Udp { source: 1, destination: 2 }, 10)?.frame();
    let wire = pair.wire()?;
    let before = pair.quiet(|| agent.scrape())?;
    let sent = std::thread::scope(|scope| {
        let noise = scope.spawn(|| noise(&pair.node));
        let mut sent = 0_u64;
        while !noise.is_finished() {
            wire.repeat(&packet, 100)?;
            sent += 100;
            // It answers meanwhile, and within its usual time.
            agent.scrape()?;
        }
        noise.join().map_err(|_| anyhow::anyhow!("the noise panicked"))??;
        anyhow::Ok(sent)
    })?;
    let seen = |scrape: &weir_netns::openmetrics::Scrape| {
        scrape.count("weir_vip_packets_total", &[("vip", VIP4), ("direction", "ingress"), ("port", "2")])
    };
    let after = pair.quiet(|| agent.scrape())?;
    ensure!(
        seen(&after.0) - seen(&before.0) == sent,
        "{sent} sent, {} counted",
        seen(&after.0) - seen(&before.0)
    );
    agent.await_links(2)?;
    agent.await_hook(UPLINK, "head")?;
    lives(&pair.node, &mut agent)?;
    let resident = resident(agent.process()?.id())?;
    ensure!(resident < 64 << 20, "{resident} octets are resident after the noise");
    Ok(())
}

fn resident(process: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

#[test]
fn the_cost_of_programs_is_told_when_asked_for() -> Result<()> {
    skip_unless_available!("the_cost_of_programs_is_told_when_asked_for");
    let pair = Pair::new()?;
    let options = ["--interface", UPLINK, "--vip", VIP4, "--program-stats"];
    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &options)?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    let labels = [("program", "weir_ingress")];
    let cost = |agent: &Agent<'_>| -> Result<(u64, f64)> {
        let scrape = agent.scrape()?;
        let seconds = scrape.sum("weir_program_run_seconds_total", &labels);
        Ok((scrape.count("weir_program_runs_total", &labels), seconds))
    };
    let before = cost(&agent)?;
    counts(&pair, &agent)?;
    let after = cost(&agent)?;
    let (runs, seconds) = (after.0 - before.0, after.1 - before.1);
    ensure!(runs >= 50, "{runs} runs");
    ensure!(seconds > 0.0 && seconds / (runs as f64) < 0.001, "{seconds} s in {runs} runs");
    let shown = agent.weirctl(&["status"])?;
    ensure!(shown.contains("weir_ingress"), "{shown}");
    agent.process()?.stop()?;
    // The statistics end with the agent that asked for them.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled")?;
    ensure!(kernel.trim() == "0", "kernel.bpf_stats_enabled is {kernel}");
    Ok(())
}

#[test]
fn without_types_of_the_kernel_packets_are_counted_and_drops_are_not() -> Result<()> {
    skip_unless_available!("without_types_of_the_kernel_packets_are_counted_and_drops_are_not");
    let pair = Pair::new()?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("weir-agent");
    // In a mount namespace of its own, where the kernel tells nothing of its types.
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let agent = built("weir-agent")?;
    std::fs::write(
        &script,
        format!("#!/bin/sh\nexec unshare -m sh -c '{hide}' {} \"$@\"\n", agent.display()),
    )?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut agent = Agent::new(&pair.node, &script, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    counts(&pair, &agent)?;
    let scrape = agent.scrape()?;
    for feature in ["btf", "kernel-drops"] {
        let labels = [("feature", feature), ("state", "works")];
        ensure!(scrape.count("weir_capability", &labels) == 0, "{feature} is said to work");
    }
    ensure!(scrape.select("weir_drops_total", &[("source", "kernel")]).count() == 0, "drops without types");
    let words = agent.log_text();
    ensure!(words.contains("kernel drops are not counted"), "{words}");
    Ok(())
}
