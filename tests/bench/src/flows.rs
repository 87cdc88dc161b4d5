//! The cost of our program when packets belong to many flows.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Array;

use crate::Effort;
use crate::kernel::{load, pin_to_last_cpu, segment, time};
use crate::stats::Rounds;

/// Length of the sequence of sources that the programs walk through.
pub(crate) const SEQUENCE: usize = 1 << 20;
const NAMES: [&str; 3] = ["bench_parse_flows", "bench_parse_flows", "bench_count_flows"];
const LABELS: [&str; 3] = ["headers parsed", "headers parsed again (A/A)", "counted"];

pub(crate) fn measure(effort: Effort) -> Result<()> {
    pin_to_last_cpu()?;
    for (title, flows, skew) in [
        ("1,000 flows, uniform", 1_000, 0.0),
        ("10,000 flows, Zipf 1.0", 10_000, 1.0),
        ("100,000 flows, uniform", 100_000, 0.0),
    ] {
        println!("  {title}");
        let mut ebpf = load(&["bench_parse_flows", "bench_count_flows"])?;
        fill(&mut ebpf, &sources(flows, skew))?;
        let packet = segment();
        // Every flow is there before the clock runs.
        time(&mut ebpf, "bench_count_flows", &packet, SEQUENCE as u32)?;
        let rounds =
            Rounds::run(&LABELS, effort.rounds, |n| time(&mut ebpf, NAMES[n], &packet, effort.repeat))?;
        rounds.print("ns/packet");
        rounds.ratio(1, 0).judge_same();
        if skew > 0.0 {
            rounds.ratio(2, 0).judge("Zipf 10k, counted / parsed", 1.9);
        }
    }
    Ok(())
}

/// Makes the programs walk through these sources.
pub(crate) fn fill(ebpf: &mut Ebpf, sources: &[u32]) -> Result<()> {
    let map = ebpf.map_mut("BENCH_SOURCES").context("no map BENCH_SOURCES")?;
    let mut map: Array<_, u32> = map.try_into()?;
    for (index, source) in sources.iter().enumerate() {
        map.set(index as u32, source, 0)?;
    }
    Ok(())
}

/// Addresses drawn from so many, the n-th with weight `n^-skew`; the same sequence every time.
fn sources(flows: u32, skew: f64) -> Vec<u32> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=flows)
        .map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        })
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..SEQUENCE)
        .map(|_| {
            // xorshift64: even enough to draw flows.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let drawn = (state >> 11) as f64 / (1u64 << 53) as f64 * sum;
            let flow = cumulative.partition_point(|&edge| edge < drawn) as u32;
            (0x0b00_0000 + flow).to_be()
        })
        .collect()
}
