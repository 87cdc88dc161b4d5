//! Reads everything for a scrape.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Scrape, Serving, SourceReading, encode};
use crate::export::tally::{Count, Tally};
use crate::model::loss::LossBook;
use crate::model::measurement::{Source, SourceError};
use crate::state::Snapshot;

/// Answers scrapes from what the agent knows and what it reads at that moment.
#[derive(Clone)]
pub struct Exposition {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    source: Arc<dyn Source>,
    tally: Arc<Tally>,
    losses: Arc<Mutex<LossBook>>,
}

impl Exposition {
    /// An exposition of a source; `tally` is shared with all that serve.
    pub fn new(snapshot: watch::Receiver<Arc<Snapshot>>, source: Arc<dyn Source>, tally: Arc<Tally>) -> Self {
        Self { snapshot, source, tally, losses: Arc::default() }
    }

    /// Reads and writes everything. It blocks for as long as reading the maps takes: call it where blocking is allowed.
    pub fn render(&self) -> String {
        encode(&Arc::new(self.scrape()))
    }

    /// Reads everything. A source that fails is counted and left out.
    pub fn scrape(&self) -> Scrape {
        self.tally.scrapes.one();
        // Held while reading: the ledger must see readings in the order in which they were made.
        let mut book = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let (host, kernel) = read("host", &self.tally.host_errors, || self.source.host());
        let (measurement, datapath) = read("datapath", &self.tally.datapath_errors, || self.source.measure());
        let loss = measurement.as_ref().zip(host.as_ref()).map(|(measurement, host)| {
            book.see(&host.links, &measurement.drops, &host.softnet);
            book.losses()
        });
        drop(book);
        let snapshot = Arc::clone(&self.snapshot.borrow());
        Scrape { snapshot, measurement, host, loss, serving: self.serving(vec![datapath, kernel]) }
    }

    /// What counts the scrapes.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn serving(&self, mut sources: Vec<SourceReading>) -> Serving {
        let tally = &self.tally;
        sources.push(SourceReading { source: "flows", took: None, errors: tally.flow_errors.read() });
        Serving {
            sources,
            scrapes: tally.scrapes.read(),
            refused: tally.refused.read(),
            streams: tally.streams_begun.read().saturating_sub(tally.streams_ended.read()),
            skipped: tally.skipped.read(),
            resident_bytes: resident_bytes(),
            cpu_time: cpu_time(),
        }
    }
}

fn read<T>(
    source: &'static str,
    errors: &Count,
    read: impl FnOnce() -> Result<T, SourceError>,
) -> (Option<T>, SourceReading) {
    let begun = Instant::now();
    let result = read().inspect_err(|error| {
        errors.one();
        let cause = &error.source;
        tracing::warn!(source, %error, %cause, "left out of this scrape");
    });
    (result.ok(), SourceReading { source, took: Some(begun.elapsed()), errors: errors.read() })
}

/// The second number of `/proc/self/statm` (proc_pid_statm(5)), in pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

fn cpu_time() -> Option<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).ok().map(Duration::from)
}
