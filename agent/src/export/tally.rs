//! How serving goes: what the agent counts about its own answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::loss::LossBook;

/// Counts shared by all that serve, and the loss ledger that all of them add their readings to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Scrapes answered.
    pub scrapes: Count,
    /// Scrapes refused.
    pub refused: Count,
    /// Times the datapath's counters could not be read.
    pub datapath_errors: Count,
    /// Times the kernel's own counters could not be read.
    pub host_errors: Count,
    /// Times the flow table could not be read.
    pub flow_errors: Count,
    /// gRPC streams begun.
    pub streams_begun: Count,
    /// gRPC streams ended.
    pub streams_ended: Count,
    /// Intervals that gRPC streams left out.
    pub skipped: Count,
    losses: Mutex<LossBook>,
}

impl Tally {
    /// The loss ledger. Hold it while reading what goes into it: it must see readings in the order in which they were
    /// made.
    pub fn losses(&self) -> MutexGuard<'_, LossBook> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds some.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
