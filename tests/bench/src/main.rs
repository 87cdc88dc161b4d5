//! Measures Weir, as ratios within one run, each with the spread of its rounds and an A/A check.
//!
//! Absolute times hold for the machine of the run only. A row whose A/A ratio strays from 1 says so: its figures are not
//! to be used.

mod clusters;
mod crowd;
mod detect;
mod drain;
mod flood;
mod flows;
mod footprint;
mod kernel;
mod path;
mod plan;
#[path = "../../../vyos-sync/tests/compile/platform.rs"]
mod platform;
mod policy;
mod program;
mod requests;
mod rules;
mod scrape;
mod stats;
mod tcp;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Measures Weir.
#[derive(Parser)]
struct Args {
    /// Measurements to run, by name [default: all]
    names: Vec<String>,
    /// Fewer and shorter rounds: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Rounds of short measurements.
    rounds: usize,
    /// Slices of measurements of the whole path.
    slices: usize,
    /// Runs of a program a round.
    repeat: u32,
    /// Seconds of idling.
    idle: u64,
}

type Measurement = fn(Effort) -> Result<()>;

const MEASUREMENTS: [(&str, &str, Measurement); 13] = [
    (
        "program",
        "accounting hot path: our ingress program against an empty one (bar 1: at most 1.7)",
        program::measure,
    ),
    (
        "flows",
        "many flows: our program against headers parsed only (bar 2: Zipf 10k at most 1.9)",
        flows::measure,
    ),
    ("path", "CPU a UDP packet, whole path (bar 3: at most 1.03 for 1 flow, 1.06 for 1,000)", path::measure),
    ("drain", "snapshot of 100,000 flows against a key at a time (bar 6: at most 0.25)", drain::measure),
    (
        "scrape",
        "a scrape of 50,000 series against a bare encode of the same (bar 7: at most 1.25)",
        scrape::measure,
    ),
    (
        "footprint",
        "memory and CPU of an idle agent (bars 8 and 9: 16 MB, 0.1 % of a core)",
        footprint::measure,
    ),
    ("tcp", "CPU a TCP round trip with sockets measured (bar 10: at most 1.045)", tcp::measure),
    (
        "drop",
        "a packet dropped by XDP and TCX, against nft and iptables (bar 4: XDP at most 1/2.1 of nft ingress)",
        flood::measure,
    ),
    (
        "policy",
        "a packet judged, by size of lists and number of rules (bar 5: a miss at most 1.7 of headers parsed)",
        policy::measure,
    ),
    (
        "plan",
        "vyos-sync at its target size (bars: a full plan in 1 s and 200 MiB; nothing to do 1 request; one peer 5 requests)",
        plan::measure,
    ),
    (
        "detect",
        "from a cut to the next hop's end on the router, BFD coupled to BGP (bar: detection time + 150 ms)",
        detect::measure,
    ),
    (
        "clusters",
        "vyos-sync with 100 clusters and 2,000 nodes, a tenth of them replaced each minute (bar: a commit in 5 s at most)",
        clusters::measure,
    ),
    (
        "crowd",
        "the agent in a cluster of 10,000 Pods and 5,000 Services (bars: 64 MB; 1 % of a core, 5 % while 20 slices change a second)",
        crowd::measure,
    ),
];

fn main() -> ExitCode {
    let args = Args::parse();
    let effort = if args.quick {
        Effort { rounds: 5, slices: 20, repeat: 50_000, idle: 5 }
    } else {
        Effort { rounds: 21, slices: 200, repeat: 300_000, idle: 60 }
    };
    let unknown = args.names.iter().find(|name| !MEASUREMENTS.iter().any(|(known, ..)| known == name));
    if let Some(name) = unknown {
        let known: Vec<_> = MEASUREMENTS.iter().map(|(name, ..)| *name).collect();
        println!("no measurement {name}; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let mut failed = 0;
    for (name, title, measure) in MEASUREMENTS {
        if !args.names.is_empty() && !args.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n{name}: {title}");
        if let Err(error) = measure(effort) {
            println!("  not measured: {error:#}");
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
