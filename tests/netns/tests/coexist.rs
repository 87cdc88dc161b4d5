//! The agent beside programs of others on the same hook: all see what they should, and nobody is touched.

use anyhow::{Result, ensure};
use weir_netns::foreign::{Foreign, Place, Verdict};
use weir_netns::packet::Transport;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::{Agent, Pair, built};

const TIMES: usize = 300;

/// Send to the virtual address, and compare what each program and the kernel saw of it.
fn all_see(pair: &Pair, programs: &[&Foreign], agent: Option<&Agent<'_>>) -> Result<()> {
    let packet = pair.to_vip(VIP4, &[], Transport::Udp { source: 4000, destination: 5000 }, 64)?;
    let runs = || -> Result<Vec<u64>> {
        let mut seen = programs.iter().map(|program| program.runs()).collect::<Result<Vec<_>>>()?;
        if let Some(agent) = agent {
            let labels = [("interface", UPLINK), ("direction", "ingress")];
            seen.push(agent.scrape()?.count("weir_interface_packets_total", &labels));
        }
        Ok(seen)
    };
    let before = pair.quiet(runs)?;
    pair.wire()?.repeat(&packet.frame(), TIMES)?;
    let after = pair.quiet(runs)?;
    let received = (after.1 - before.1).received_packets;
    ensure!(received >= TIMES as u64, "only {received} arrived");
    for (number, (before, after)) in before.0.iter().zip(&after.0).enumerate() {
        ensure!(after - before == received, "program {number} saw {} of {received}", after - before);
    }
    Ok(())
}

#[test]
fn a_program_before_us_and_cilium_at_the_tail() -> Result<()> {
    if let Some(reason) = weir_netns::unavailable() {
        eprintln!("SKIPPED a_program_before_us_and_cilium_at_the_tail: {reason}");
        return Ok(());
    }
    let pair = Pair::new()?;
    let cilium = Foreign::attach(&pair.node, UPLINK, Place::Tail, Verdict::Pass)?;
    all_see(&pair, &[&cilium], None)?;

    let mut agent = Agent::new(&pair.node, &built("weir-agent")?, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    all_see(&pair, &[&cilium], Some(&agent))?;

    agent.await_hook(UPLINK, "head")?;

    let first = Foreign::attach(&pair.node, UPLINK, Place::Head, Verdict::Next)?;
    all_see(&pair, &[&cilium, &first], Some(&agent))?;
    agent.await_hook(UPLINK, "not-head")?;

    // A new version of ours takes the pinned links over.
    agent.process()?.stop()?;
    all_see(&pair, &[&cilium, &first], None)?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    all_see(&pair, &[&cilium, &first], Some(&agent))?;

    agent.process()?.stop()?;
    agent.detach()?;
    ensure!(!agent.pins().exists() || agent.pins().read_dir()?.next().is_none(), "pins are left");
    all_see(&pair, &[&cilium, &first], None)
}
