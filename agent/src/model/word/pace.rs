//! When a word is written: when it has changed, but not too often; and now and then though it has not.

use std::time::Duration;

use weir_api::NodeDatapathStatus;

use super::REPORT_SECONDS;

/// Two writes are at least so far apart.
const LEAST: Duration = Duration::from_secs(5);
/// After failures the next attempt waits so long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Says when to write.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    written: Option<NodeDatapathStatus>,
    /// Not before then, since boot.
    earliest: Duration,
    /// Then at the latest.
    heartbeat: Duration,
    failures: u32,
}

impl Pace {
    /// Whether a word is to be written now.
    pub fn is_due(&self, word: &NodeDatapathStatus, now: Duration) -> bool {
        let changed = self.written.as_ref() != Some(&essence(word));
        now >= self.earliest && (changed || now >= self.heartbeat)
    }

    /// It was written. `chance` is from 0 to 1: the nodes of a cluster must not all write at once.
    pub fn wrote(&mut self, word: &NodeDatapathStatus, now: Duration, chance: f64) {
        let period = Duration::from_secs(REPORT_SECONDS.into());
        self.written = Some(essence(word));
        self.earliest = now + LEAST;
        self.heartbeat = now + period.mul_f64(0.8 + 0.15 * chance.clamp(0.0, 1.0));
        self.failures = 0;
    }

    /// It could not be written: after each failure the next attempt waits twice as long.
    pub fn failed(&mut self, now: Duration, chance: f64) {
        let wait = LEAST.saturating_mul(1 << self.failures.min(8)).min(LONGEST_WAIT);
        self.earliest = now + wait.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
        self.failures += 1;
    }
}

/// What makes a word another one. Of the rate of new flows only whether there are any: that is what a drain waits for.
fn essence(word: &NodeDatapathStatus) -> NodeDatapathStatus {
    let mut word = word.clone();
    word.reported_at = None;
    if let Some(vips) = &mut word.vips {
        vips.new_flows_per_kilosecond = vips.new_flows_per_kilosecond.map(|rate| rate.min(1));
    }
    word
}

#[cfg(test)]
mod tests {
    use weir_api::{Carries, VipsWord};

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn word(carries: Carries, flows: u64) -> NodeDatapathStatus {
        let vips = VipsWord { new_flows_per_kilosecond: Some(flows), ..VipsWord::default() };
        NodeDatapathStatus { carries, vips: Some(vips), ..NodeDatapathStatus::default() }
    }

    #[test]
    fn changes_are_written_soon_and_the_same_again_only_as_a_heartbeat() {
        let mut pace = Pace::default();
        let good = word(Carries::Yes, 70);
        assert!(pace.is_due(&good, at(100)));
        pace.wrote(&good, at(100), 0.0);
        let later = NodeDatapathStatus { reported_at: Some("now".into()), ..word(Carries::Yes, 90) };
        assert!(!pace.is_due(&later, at(147)), "only numbers that always move have moved");
        assert!(pace.is_due(&later, at(148)), "the heartbeat, before the time that was promised is over");
        assert!(!pace.is_due(&word(Carries::No, 70), at(104)), "too soon");
        assert!(pace.is_due(&word(Carries::No, 70), at(105)));
        assert!(pace.is_due(&word(Carries::Yes, 0), at(105)), "that nothing comes any more is news");
    }

    #[test]
    fn failures_wait_longer_each_time() {
        let (mut pace, good) = (Pace::default(), word(Carries::Yes, 0));
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            pace.failed(now, 1.0);
            waits.push((pace.earliest - now).as_secs());
            now = pace.earliest;
            assert!(!pace.is_due(&good, now - at(1)) && pace.is_due(&good, now));
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    }
}
