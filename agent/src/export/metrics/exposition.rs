//! Reads everything for a scrape.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weir_tls::Identity;

use super::{Scrape, Serving, SourceReading, encode};
use crate::export::tally::{Count, Tally};
use crate::model::measurement::{Source, SourceError};
use crate::oidc::Gate;
use crate::state::Snapshot;

/// Answers scrapes from what the agent knows and what it reads at that moment.
#[derive(Clone)]
pub struct Exposition {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    source: Arc<dyn Source>,
    tally: Arc<Tally>,
    identity: Option<Arc<Identity>>,
    gate: Option<Arc<Gate>>,
}

impl Exposition {
    /// An exposition of a source; `tally` is shared with all that serve.
    pub fn new(snapshot: watch::Receiver<Arc<Snapshot>>, source: Arc<dyn Source>, tally: Arc<Tally>) -> Self {
        Self { snapshot, source, tally, identity: None, gate: None }
    }

    /// The same with the certificate of the listeners, where they have one.
    pub fn with_identity(self, identity: Option<Arc<Identity>>) -> Self {
        Self { identity, ..self }
    }

    /// The same with the gate of the gRPC interface, where it has one.
    pub fn with_gate(self, gate: Option<Arc<Gate>>) -> Self {
        Self { gate, ..self }
    }

    /// Reads and writes everything. It blocks for as long as reading the maps takes: call it where blocking is allowed.
    pub fn render(&self) -> String {
        encode(&Arc::new(self.scrape()))
    }

    /// Makes the reading that the loss ledger counts from. It blocks as [`Self::render`] does.
    pub fn begin(&self) {
        let mut book = self.tally.losses();
        let begun = self.source.host().and_then(|host| Ok((host, self.source.measure()?)));
        match begun {
            Ok((host, measurement)) => {
                book.see(&host.links, &measurement.drops, &host.softnet);
                book.see_rules(&measurement.rule_drops);
            }
            Err(error) => tracing::warn!(%error, "the loss ledger begins with the first scrape"),
        }
    }

    /// Reads everything. A source that fails is counted and left out.
    pub fn scrape(&self) -> Scrape {
        self.tally.scrapes.one();
        let mut book = self.tally.losses();
        let (host, kernel) = read("host", &self.tally.host_errors, || self.source.host());
        let (measurement, datapath) = read("datapath", &self.tally.datapath_errors, || self.source.measure());
        let loss = measurement.as_ref().zip(host.as_ref()).map(|(measurement, host)| {
            book.see(&host.links, &measurement.drops, &host.softnet);
            book.see_rules(&measurement.rule_drops);
            book.losses()
        });
        drop(book);
        let policy = self.source.policy().and_then(|read| {
            let warn = |error: &SourceError| tracing::warn!(%error, cause = %error.source, "left out of this scrape");
            read.inspect_err(warn).ok()
        });
        let snapshot = Arc::clone(&self.snapshot.borrow());
        Scrape { snapshot, measurement, host, loss, policy, serving: self.serving(vec![datapath, kernel]) }
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
            tls: self.identity.as_ref().map(|identity| identity.reading()),
            access: self.gate.as_ref().map(|gate| gate.reading()),
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
