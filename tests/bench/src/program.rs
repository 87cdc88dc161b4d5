//! The cost of our ingress program for one flow.

use anyhow::Result;

use crate::Effort;
use crate::kernel::{load, pin_to_last_cpu, segment, time};
use crate::stats::Rounds;

const NAMES: [&str; 4] = ["bench_empty", "bench_empty", "bench_parse", "weir_ingress"];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    pin_to_last_cpu()?;
    let mut ebpf = load(&["bench_empty", "bench_parse", "weir_ingress"])?;
    let packet = segment();
    let labels = ["empty", "empty again (A/A)", "headers parsed", "weir_ingress"];
    let rounds = Rounds::run(&labels, effort.rounds, |n| time(&mut ebpf, NAMES[n], &packet, effort.repeat))?;
    rounds.print("ns/packet");
    rounds.ratio(1, 0).judge_same();
    rounds.ratio(3, 0).judge("our program / empty", 1.7);
    Ok(())
}
