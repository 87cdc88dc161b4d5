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
        let late = left_out(self.last, self.interval, Instant::now());
        tokio::time::sleep_until(self.last + self.interval).await;
        self.last = Instant::now();
        late
    }
}

/// How many whole intervals have passed since the next look was due.
fn left_out(last: Instant, interval: Duration, now: Instant) -> u64 {
    let late = now.saturating_duration_since(last + interval);
    late.as_nanos()
        .checked_div(interval.as_nanos())
        .map_or(0, |times| u64::try_from(times).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_looks_are_counted_not_made_up_for() {
        let (last, interval) = (Instant::now(), Duration::from_millis(100));
        let after = |milliseconds| left_out(last, interval, last + Duration::from_millis(milliseconds));
        assert_eq!([0, 100, 199, 370].map(after), [0, 0, 0, 2]);
        assert!(Pace::new(99).is_err());
    }
}
