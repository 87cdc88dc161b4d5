//! Server and client programs of the lab. `serve` says `ready` on stdout once it listens; `load` prints what it did.

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use weir_netns::traffic::{self, Tally};

/// Traffic for the lab.
#[derive(Parser)]
enum Arguments {
    /// Answer requests over TCP and echo datagrams.
    Serve {
        /// Where to listen; repeated.
        #[arg(long = "address", required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Ask, until SIGTERM or for a number of rounds, and print a tally as JSON.
    Load {
        /// Whom to ask; one thread each.
        #[arg(long = "target", required = true)]
        targets: Vec<IpAddr>,
        /// Rounds of requests against each target.
        #[arg(long)]
        rounds: Option<u64>,
        /// Milliseconds from the start of one round to the start of the next.
        #[arg(long, default_value_t = 50)]
        pace: u64,
    },
}

static ENDED: AtomicBool = AtomicBool::new(false);

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Serve { addresses } => traffic::serve(&addresses, || {
            println!("ready");
            Ok(std::io::stdout().flush()?)
        }),
        Arguments::Load { targets, rounds, pace } => {
            end_on_signal()?;
            let tally = load(&targets, rounds.unwrap_or(u64::MAX), Duration::from_millis(pace))?;
            println!("{}", serde_json::to_string(&tally)?);
            Ok(())
        }
    }
}

/// All threads started from here on leave the signal to one that waits for it.
fn end_on_signal() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    std::thread::spawn(move || {
        signals.wait().ok();
        ENDED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn load(targets: &[IpAddr], rounds: u64, pace: Duration) -> Result<Tally> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            targets.iter().map(|target| scope.spawn(move || ask(*target, rounds, pace))).collect();
        let mut sum = Tally::default();
        for thread in threads {
            sum += thread.join().map_err(|_| anyhow!("a client thread panicked"))?;
        }
        Ok(sum)
    })
}

fn ask(target: IpAddr, rounds: u64, pace: Duration) -> Tally {
    let mut sum = Tally::default();
    for number in 0..rounds {
        if ENDED.load(Ordering::Relaxed) {
            break;
        }
        let next = Instant::now() + pace;
        sum += traffic::round(target, number);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sum
}
