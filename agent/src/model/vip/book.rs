//! Since when a finding holds. What has just come up may be a change that is still under way, so it is named only once it has
//! held for a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::judge::Row;
use super::state::VipState;

/// Remembers findings.
#[derive(Debug)]
pub struct Book {
    settle: Duration,
    since: BTreeMap<(IpAddr, VipState), Duration>,
}

impl Book {
    /// An empty book; findings are named after they have held for `settle`.
    pub fn new(settle: Duration) -> Self {
        Self { settle, since: BTreeMap::new() }
    }

    /// Tells each finding since when it holds, and leaves out those that are too new. What is not found any more is forgotten.
    pub fn keep(&mut self, rows: &mut [Row], now: Duration) {
        let known = std::mem::take(&mut self.since);
        for row in rows {
            for finding in &mut row.findings {
                let key = (row.vip, finding.state);
                finding.since = known.get(&key).copied().unwrap_or(now);
                self.since.insert(key, finding.since);
            }
            row.findings.retain(|finding| now.saturating_sub(finding.since) >= self.settle);
        }
    }

    /// When the next finding is named, if one waits.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let due = self.since.values().map(|since| *since + self.settle);
        due.filter(|due| *due > now).min()
    }
}
