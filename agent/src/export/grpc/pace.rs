//! The pace of a stream.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

/// Looks at an interval, and tells how many were left out because nobody took the last one.
pub(super) struct Pace {
    interval: Duration,
    last: Instant,
}

impl Pace {
    /// A pace by a request's milliseconds; zero is one second.
    pub(super) fn new(milliseconds: u32) -> Result<Self, Status> {
        let interval = match milliseconds {
            0 => Duration::from_secs(1),
            100..=60_000 => Duration::from_millis(milliseconds.into()),
            other => {
                let text = format!("interval_ms is {other}; choose 100 to 60000, or 0 for one second");
                return Err(Status::invalid_argument(text));
            }
        };
        Ok(Self { interval, last: Instant::now() })
    }

    /// Waits for the next look; returns how many were left out.
    pub(super) async fn wait(&mut self) -> u64 {
        let due = self.last + self.interval;
        let late = Instant::now().saturating_duration_since(due);
        tokio::time::sleep_until(due).await;
        self.last = Instant::now();
        u64::try_from(late.as_nanos() / self.interval.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn late_looks_are_counted_not_made_up_for() {
        let mut pace = Pace::new(100).unwrap();
        assert_eq!(pace.wait().await, 0);
        tokio::time::advance(Duration::from_millis(370)).await;
        assert_eq!(pace.wait().await, 2);
        assert_eq!(pace.wait().await, 0);
        assert!(Pace::new(99).is_err());
    }
}
