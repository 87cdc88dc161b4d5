//! From the datapath's clock to time since boot.

use std::time::Duration;

use weir_ebpf::Clock;

/// Ticks a second that kernels are built with (`CONFIG_HZ`).
const RATES: [u64; 5] = [100, 250, 300, 1000, 1024];
/// Where `jiffies64` starts: 300 s before a 32-bit wrap (`INITIAL_JIFFIES` in linux/jiffies.h).
const fn initial(rate: u64) -> u64 {
    (1 << 32) - 300 * rate
}

/// Turns `jiffies64` into time since boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    sample: Clock,
    rate: u64,
}

impl Ticks {
    /// Finds the rate that explains a sample of both clocks best.
    pub(super) fn new(sample: Clock) -> Self {
        let seconds = sample.boottime as f64 / 1e9;
        let miss =
            |rate: u64| (sample.jiffies.saturating_sub(initial(rate)) as f64 / rate as f64 - seconds).abs();
        let rate = RATES.into_iter().min_by(|a, b| miss(*a).total_cmp(&miss(*b))).unwrap_or(RATES[1]);
        Self { sample, rate }
    }

    /// Ticks a second.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Time since boot at a tick.
    pub(super) fn since_boot(&self, jiffies: u64) -> Duration {
        let nanos = |ticks: u64| {
            let (seconds, rest) = (ticks / self.rate, ticks % self.rate);
            seconds.saturating_mul(1_000_000_000).saturating_add(rest * 1_000_000_000 / self.rate)
        };
        let at = if jiffies <= self.sample.jiffies {
            self.sample.boottime.saturating_sub(nanos(self.sample.jiffies - jiffies))
        } else {
            self.sample.boottime.saturating_add(nanos(jiffies - self.sample.jiffies))
        };
        Duration::from_nanos(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_and_times_agree() {
        for rate in [100, 250, 300, 1000] {
            for seconds in [60, 86_400, 400 * 86_400] {
                let sample =
                    Clock { jiffies: initial(rate) + seconds * rate, boottime: seconds * 1_000_000_000 };
                let ticks = Ticks::new(sample);
                assert_eq!(
                    ticks.since_boot(sample.jiffies - 5 * rate),
                    Duration::from_secs(seconds - 5),
                    "{rate}"
                );
            }
        }
    }
}
