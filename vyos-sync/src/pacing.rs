//! When to try again, and when to stop fighting. Pure: time is an argument.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Growing waits after failures of one router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    until: Option<Timestamp>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(300);

    /// Notes a failure.
    pub fn failed(&mut self, now: Timestamp) {
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures += 1;
        self.until = now.checked_add(wait).ok();
    }

    /// Notes that all is well.
    pub fn recovered(&mut self) {
        *self = Self::default();
    }

    /// How long to wait still.
    pub fn wait(&self, now: Timestamp) -> Duration {
        let left = self.until.map(|until| until.duration_since(now)).filter(|left| left.is_positive());
        left.map_or(Duration::ZERO, SignedDuration::unsigned_abs)
    }
}

/// Repairs of drift. Somebody who puts their own back each time is not fought: the pauses double up to an hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fight {
    repairs: u32,
    last: Option<Timestamp>,
}

impl Fight {
    const FIRST: SignedDuration = SignedDuration::from_mins(2);
    const LONGEST: SignedDuration = SignedDuration::from_hours(1);
    /// So long without drift, and it is forgotten.
    const PEACE: SignedDuration = SignedDuration::from_hours(2);

    /// Whether drift may be repaired now, or else when.
    ///
    /// # Errors
    /// The moment from which on it may.
    pub fn may_repair(&self, now: Timestamp) -> Result<(), Timestamp> {
        let Some(last) = self.last else { return Ok(()) };
        let doubled =
            Self::FIRST.checked_mul(1 << self.repairs.saturating_sub(1).min(10)).unwrap_or(Self::LONGEST);
        // The first repair is free, the second one waits.
        match last.checked_add(doubled.min(Self::LONGEST)) {
            Ok(next) if next > now => Err(next),
            _ => Ok(()),
        }
    }

    /// Notes a repair.
    pub fn repaired(&mut self, now: Timestamp) {
        let peace = self.last.is_some_and(|last| now.duration_since(last) > Self::PEACE);
        self.repairs = if peace { 1 } else { self.repairs + 1 };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn waits_grow_to_a_limit_and_end_with_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(at(0)), Duration::ZERO);
        let waits: Vec<u64> = (0..10)
            .map(|_| {
                backoff.failed(at(0));
                backoff.wait(at(0)).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.wait(at(299)), Duration::from_secs(1));
        backoff.recovered();
        assert_eq!(backoff.wait(at(0)), Duration::ZERO);
    }

    #[test]
    fn a_fight_gets_slower_until_there_is_peace() {
        let mut fight = Fight::default();
        assert_eq!(fight.may_repair(at(0)), Ok(()));
        fight.repaired(at(0));
        assert_eq!(fight.may_repair(at(10)), Err(at(120)));
        fight.repaired(at(120));
        assert_eq!(fight.may_repair(at(130)), Err(at(360)));
        (0..10).for_each(|_| fight.repaired(at(400)));
        assert_eq!(fight.may_repair(at(400)), Err(at(4_000)));
        fight.repaired(at(400 + 7_201));
        assert_eq!(fight.may_repair(at(7_601)), Err(at(7_601 + 120)));
    }
}
