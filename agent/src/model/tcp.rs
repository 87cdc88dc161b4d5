//! Health of the node's TCP sockets.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What sockets of one class went through since the programs were first loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpCounters {
    /// The class.
    pub class: String,
    /// Connections opened by a socket of this node.
    pub connects: u64,
    /// Connections accepted by a socket of this node.
    pub accepts: u64,
    /// Connections that never got an answer or were refused.
    pub failed_connects: u64,
    /// Connections that ended by a reset or a time-out instead of FIN.
    pub resets: u64,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// Smoothed round-trip times, a sample for each update of the kernel's estimate.
    pub rtt: Histogram,
    /// Times from SYN to established, for connections opened here.
    pub connect: Histogram,
}

/// The same for the peers in one prefix; the least recently active prefixes make room for new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpPeer {
    /// The peers' prefix.
    pub prefix: IpNet,
    /// Round-trip time as last smoothed by any socket to it.
    pub rtt: Duration,
    /// The smallest smoothed round-trip time seen.
    pub rtt_min: Duration,
    /// Connections opened or accepted.
    pub connections: u64,
    /// Connections that never got an answer or were refused.
    pub failed_connects: u64,
    /// Connections that ended by a reset or a time-out instead of FIN.
    pub resets: u64,
    /// Retransmitted segments.
    pub retransmits: u64,
}

/// Durations in buckets of powers of two microseconds: bucket `n` holds what is below `2^n` µs and in no lower bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Samples a bucket, not cumulative; the last bucket also holds all that is longer.
    pub buckets: Vec<u64>,
    /// Sum of all samples.
    pub sum: Duration,
}

impl Histogram {
    /// An empty histogram of that many buckets.
    pub fn with_buckets(buckets: usize) -> Self {
        Self { buckets: vec![0; buckets], sum: Duration::ZERO }
    }

    /// Takes in one sample.
    pub fn record(&mut self, sample: Duration) {
        let wanted = (u128::BITS - sample.as_micros().leading_zeros()) as usize;
        let last = self.buckets.len().saturating_sub(1);
        if let Some(bucket) = self.buckets.get_mut(wanted.min(last)) {
            *bucket += 1;
            self.sum += sample;
        }
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of a bucket; `None` for the last, which has none.
    pub fn bound(&self, bucket: usize) -> Option<Duration> {
        (bucket + 1 < self.buckets.len()).then(|| Duration::from_micros(1 << bucket))
    }

    /// The upper bound of the bucket that holds the given share (0 to 1) of the samples.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|n| {
            seen += n;
            wanted > 0 && seen >= wanted
        })?;
        Some(Duration::from_micros(1 << bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_land_below_their_bucket_s_bound() {
        let mut histogram = Histogram::with_buckets(4);
        for micros in [0, 1, 3, 4, 1_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.buckets, [1, 1, 1, 2]);
        assert_eq!(histogram.sum, Duration::from_micros(1_000_008));
    }

    #[test]
    fn quantiles_are_bucket_bounds() {
        let histogram = Histogram { buckets: vec![0, 0, 0, 90, 0, 10], sum: Duration::ZERO };
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(8)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_micros(32)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
