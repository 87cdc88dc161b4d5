//! What counters have grown by within the last while.

use std::collections::BTreeMap;
use std::time::Duration;

/// Keeps two earlier readings, so that growth is always over at least one `span` and at most two, once there is so much.
#[derive(Clone, Debug)]
pub struct Window<K> {
    span: Duration,
    older: Option<Reading<K>>,
    newer: Option<Reading<K>>,
}

#[derive(Clone, Debug)]
struct Reading<K> {
    at: Duration,
    counts: BTreeMap<K, u64>,
}

/// Growth of each counter, and over how long. A counter that began anew grew by all that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth<K> {
    /// Over how long.
    pub over: Duration,
    /// By how much; counters that did not grow are left out.
    pub counts: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Window<K> {
    /// A window without a reading.
    pub fn new(span: Duration) -> Self {
        Self { span, older: None, newer: None }
    }

    /// Takes a reading and tells what has grown. The first tells nothing: what was counted before is not of now.
    pub fn grown(&mut self, counts: &BTreeMap<K, u64>, now: Duration) -> Growth<K> {
        let reading = || Reading { at: now, counts: counts.clone() };
        match &self.newer {
            None => self.newer = Some(reading()),
            Some(newer) if now.saturating_sub(newer.at) >= self.span => {
                self.older = self.newer.replace(reading());
            }
            Some(_) => {}
        }
        let Some(base) = self.older.as_ref().or(self.newer.as_ref()) else {
            return Growth { over: Duration::ZERO, counts: BTreeMap::new() };
        };
        let grown = counts.iter().filter_map(|(key, count)| {
            let before = base.counts.get(key).copied().unwrap_or(0);
            let grown = count.checked_sub(before).unwrap_or(*count);
            (grown > 0).then(|| (key.clone(), grown))
        });
        Growth { over: now.saturating_sub(base.at), counts: grown.collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_counted_before_the_first_look_is_not_of_now() {
        let mut window = Window::new(at(30));
        assert!(window.grown(&BTreeMap::from([("a", 100)]), at(0)).counts.is_empty());
        let growth = window.grown(&BTreeMap::from([("a", 103), ("b", 7)]), at(10));
        assert_eq!((growth.over, growth.counts), (at(10), BTreeMap::from([("a", 3), ("b", 7)])));
    }

    #[test]
    fn growth_ends_after_two_spans() {
        let mut window = Window::new(at(30));
        window.grown(&BTreeMap::from([("a", 0)]), at(0));
        for second in (2..=200).step_by(2) {
            let growth = window.grown(&BTreeMap::from([("a", 5)]), at(second));
            assert_eq!(growth.counts.is_empty(), second >= 60, "{second}");
        }
    }

    #[test]
    fn a_counter_that_began_anew_grew_by_what_it_shows() {
        let mut window = Window::new(at(30));
        window.grown(&BTreeMap::from([("a", 100)]), at(0));
        assert_eq!(window.grown(&BTreeMap::from([("a", 4)]), at(2)).counts, BTreeMap::from([("a", 4)]));
    }

    proptest! {
        #[test]
        fn growth_is_over_one_to_two_spans_and_no_more_than_was_counted(
            steps in proptest::collection::vec((1_u64..20, 0_u64..100), 1..60),
        ) {
            let mut window = Window::new(at(30));
            let (mut now, mut count) = (0, 0);
            for (pause, more) in steps {
                (now, count) = (now + pause, count + more);
                let growth = window.grown(&BTreeMap::from([(0, count)]), at(now));
                prop_assert!(growth.over <= at(60 + 40));
                prop_assert!(growth.counts.values().sum::<u64>() <= count);
            }
        }
    }
}
