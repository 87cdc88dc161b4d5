//! Medians, ratios within a round, and what they are worth.

/// Samples of several variants, taken in rounds; the first variant is what the others are compared with.
pub(crate) struct Rounds {
    names: Vec<&'static str>,
    samples: Vec<Vec<f64>>,
}

/// The median of ratios within rounds, with its 95 % confidence interval.
#[derive(Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Rounds {
    /// Runs every variant once a round, in turn, the order reversed every other round. The first round warms up.
    pub(crate) fn run<E>(
        names: &[&'static str],
        rounds: usize,
        mut sample: impl FnMut(usize) -> Result<f64, E>,
    ) -> Result<Self, E> {
        let mut samples = vec![Vec::with_capacity(rounds); names.len()];
        for round in 0..=rounds {
            for step in 0..names.len() {
                let variant = if round % 2 == 0 { step } else { names.len() - 1 - step };
                let value = sample(variant)?;
                if round > 0 {
                    samples[variant].push(value);
                }
            }
        }
        Ok(Self { names: names.to_vec(), samples })
    }

    /// The median of a variant.
    pub(crate) fn median(&self, variant: usize) -> f64 {
        let mut sorted = self.samples[variant].clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// A variant against another.
    pub(crate) fn ratio(&self, variant: usize, against: usize) -> Ratio {
        let pairs = self.samples[variant].iter().zip(&self.samples[against]);
        let mut ratios: Vec<f64> = pairs.map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        // Binomial interval of a median, by its normal approximation.
        let reach = (0.98 * (ratios.len() as f64).sqrt()).ceil() as usize;
        let (low, high) = (middle.saturating_sub(reach), (middle + reach).min(ratios.len() - 1));
        Ratio { median: ratios[middle], low: ratios[low], high: ratios[high] }
    }

    /// A row a variant: median, and ratio to the first.
    pub(crate) fn print(&self, unit: &str) {
        for (variant, name) in self.names.iter().enumerate() {
            let (median, ratio) = (self.median(variant), self.ratio(variant, 0));
            println!(
                "  {name:<28} {median:>9.1} {unit}   x {:.3}  [{:.3} {:.3}]",
                ratio.median, ratio.low, ratio.high
            );
        }
        println!(
            "  {} rounds; ratios to the first row within a round: median [95 % interval]",
            self.samples[0].len()
        );
    }
}

impl Ratio {
    /// Says whether the same thing measured twice is the same.
    pub(crate) fn judge_same(&self) {
        if self.low > 1.0 || self.high < 1.0 {
            println!(
                "  NOT VALID: the same variant against itself gives {:.3}; the machine was too noisy",
                self.median
            );
        }
    }

    /// Holds a ratio against its bar.
    pub(crate) fn judge(&self, what: &str, bar: f64) {
        let word = if self.median <= bar { "meets" } else { "MISSES" };
        println!("  {what}: {:.3} [{:.3} {:.3}] {word} the bar of {bar}", self.median, self.low, self.high);
    }

    /// Holds a ratio against the least that it should be.
    pub(crate) fn judge_least(&self, what: &str, bar: f64) {
        let word = if self.median >= bar { "meets" } else { "MISSES" };
        println!(
            "  {what}: {:.3} [{:.3} {:.3}] {word} the bar of at least {bar}",
            self.median, self.low, self.high
        );
    }

    /// Says a ratio that has no bar.
    pub(crate) fn tell(&self, what: &str) {
        println!("  {what}: {:.3} [{:.3} {:.3}]", self.median, self.low, self.high);
    }
}

/// Holds a plain figure against its bar.
pub(crate) fn judge(what: &str, value: f64, bar: f64, unit: &str) {
    let word = if value <= bar { "meets" } else { "MISSES" };
    println!("  {what}: {value:.3} {unit} {word} the bar of {bar} {unit}");
}

/// CPU time of this process in ns.
pub(crate) fn cpu_nanos() -> f64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(0.0, |time| time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}
