//! BFD of 3 x 100 ms on a node whose CPUs are all busy: 10 minutes with `make soak`, 20 seconds else.

#[macro_use]
mod bfd_lab;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bfd_lab::{UP, agent, await_state, bfd, ensure_no_flap, router, session};
use weir_netns::{Pair, Process};

/// For each CPU.
const HOGS: usize = 2;

/// Processes that never sleep, in the node's namespace and group.
fn hogs(pair: &Pair) -> Result<Vec<Process>> {
    let cpus = std::thread::available_parallelism()?.get();
    (0..HOGS * cpus)
        .map(|_| {
            let mut command = pair.node.command("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            pair.node.start(&mut command)
        })
        .collect()
}

#[test]
fn no_flap_while_all_cpus_are_busy() -> Result<()> {
    skip_unless_available!("no_flap_while_all_cpus_are_busy");
    let given = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(given.unwrap_or(20));
    if given.is_none() {
        eprintln!("shortened to {} s; `make soak` takes 10 minutes", length.as_secs());
    }
    let pair = Pair::new()?;
    let frr = router(&pair, 100, "")?;
    let mut agent = agent(&pair, &["--bfd-peer", "10.0.0.1,tx=100ms,rx=100ms,mult=3"])?;
    agent.start()?;
    await_state(&agent, "10.0.0.1", "up", UP)?;
    let busy = hogs(&pair)?;
    let (start, mut worst, mut late) = (Instant::now(), 1.0_f64, 0);
    while start.elapsed() < length {
        // The agent remembers its worst moments for half a minute: nothing is missed between two looks.
        std::thread::sleep(Duration::from_secs(5).min(length.saturating_sub(start.elapsed())));
        worst = worst.min(session(&agent, "10.0.0.1")?["margin"].as_f64().unwrap_or(1.0));
        late = late.max(bfd(&agent)?["lateness_ns"].as_u64().unwrap_or(0));
        ensure_no_flap(&agent, &frr)?;
    }
    drop(busy);
    eprintln!(
        "{} s with {} busy processes: no flap; worst margin {:.0} % of 300 ms, own packets late by {:.1} ms at worst",
        start.elapsed().as_secs(),
        HOGS * std::thread::available_parallelism()?.get(),
        worst * 100.0,
        late as f64 / 1e6,
    );
    ensure!(session(&agent, "10.0.0.1")?["received"].as_u64().is_some_and(|all| all > 5 * length.as_secs()));
    Ok(())
}
