//! How close a session came to its end: the share of the detection time that was left when a packet came.

use std::time::Duration;

/// How long a worst value is remembered, at least; at most twice as long.
const WINDOW: Duration = Duration::from_secs(30);

/// The worst share that was left, over the last half to one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Margin {
    now: Option<f64>,
    before: Option<f64>,
    since: Duration,
}

impl Margin {
    /// Takes in the gap before a packet that came in time.
    pub fn gap(&mut self, gap: Duration, detection: Duration, now: Duration) {
        if detection.is_zero() {
            return;
        }
        self.turn(now);
        let left = (1.0 - gap.as_secs_f64() / detection.as_secs_f64()).clamp(0.0, 1.0);
        self.now = Some(self.now.map_or(left, |worst| worst.min(left)));
    }

    /// The worst share, 0 to 1; `None` before the second packet.
    pub fn worst(&self) -> Option<f64> {
        match (self.now, self.before) {
            (Some(now), Some(before)) => Some(now.min(before)),
            (now, before) => now.or(before),
        }
    }

    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.since);
        if age >= WINDOW {
            self.before = self.now.take().filter(|_| age < 2 * WINDOW);
            self.since = now;
        }
    }
}

/// By how much something was late at worst, over the last half to one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lateness {
    now: Duration,
    before: Duration,
    since: Duration,
}

impl Lateness {
    /// Takes in what was due at a time and happened at another.
    pub(super) fn see(&mut self, due: Duration, now: Duration) {
        if now.saturating_sub(self.since) >= WINDOW {
            self.before = std::mem::take(&mut self.now);
            self.since = now;
        }
        self.now = self.now.max(now.saturating_sub(due));
    }

    /// The worst.
    pub(super) fn worst(&self) -> Duration {
        self.now.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_kept_for_a_while_and_forgotten() {
        let (mut margin, ms) = (Margin::default(), Duration::from_millis);
        assert_eq!(margin.worst(), None);
        margin.gap(ms(100), ms(1000), ms(1000));
        margin.gap(ms(600), ms(1000), ms(2000));
        margin.gap(ms(200), ms(1000), ms(3000));
        assert_eq!(margin.worst(), Some(0.4));
        margin.gap(ms(100), ms(1000), ms(31_500));
        assert_eq!(margin.worst(), Some(0.4), "the window before still counts");
        margin.gap(ms(100), ms(1000), ms(62_000));
        assert_eq!(margin.worst(), Some(0.9));
        margin.gap(ms(5000), ms(1000), ms(62_100));
        assert_eq!(margin.worst(), Some(0.0), "late is no margin, not a negative one");
    }
}
