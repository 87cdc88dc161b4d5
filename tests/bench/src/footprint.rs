//! Memory and CPU of the real agent when nothing happens, and with many flows.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_netns::packet::Transport;
use weir_netns::topology::{UPLINK, VIP4};
use weir_netns::{Agent, Pair};

use crate::Effort;
use crate::stats::judge;

const FLOWS: u16 = 50_000;

pub(crate) fn measure(effort: Effort) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("weir-agent");
    let pair = Pair::new()?;
    let mut agent = Agent::new(&pair.node, &program, &["--interface", UPLINK, "--vip", VIP4])?;
    agent.start()?;
    agent.await_interface(UPLINK)?;
    let process = agent.process()?.id();

    let before = cpu(process)?;
    // What is measured is that nothing happens for this long.
    std::thread::sleep(Duration::from_secs(effort.idle));
    let share = (cpu(process)? - before).as_secs_f64() / effort.idle as f64 * 100.0;
    judge("CPU of a core, idle", share, 0.1, "%");
    judge("resident memory, idle", memory(process, "VmRSS")?, 16.0, "MB");
    println!(
        "  highest resident memory so far (the kernel's types are read at the start): {:.1} MB",
        memory(process, "VmHWM")?
    );

    let wire = pair.wire()?;
    for address in [VIP4, weir_netns::topology::VIP6] {
        for port in 1..=FLOWS {
            let packet = pair.to_vip(address, &[], Transport::Udp { source: port, destination: 5000 }, 8)?;
            wire.send(&packet.frame())?;
        }
    }
    let flows = agent.weirctl(&["flows", "-o", "json"])?;
    agent.scrape()?;
    let known = agent.scrape()?.sum("weir_map_entries", &[("map", "flow_table")]);
    println!(
        "  after {} flows: {known} in the table behind the front cache, {} KiB of JSON to weirctl",
        u32::from(FLOWS) * 2,
        flows.len() / 1024
    );
    judge("resident memory, 100,000 flows", memory(process, "VmRSS")?, 80.0, "MB");
    println!("  highest resident memory: {:.1} MB", memory(process, "VmHWM")?);
    agent.process()?.stop()?;
    agent.detach()?;
    Ok(())
}

/// CPU time of all threads (`/proc/PID/task/TID/schedstat`, first field, ns).
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().context("empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// A field of `/proc/PID/status` in MB.
pub(crate) fn memory(process: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("no such field")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
