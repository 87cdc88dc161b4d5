//! When to take a Lease. Expiry is judged by one's own clock and by when the Lease was last seen to change: clocks of other
//! machines are never compared with ours.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) holder: Option<String>,
    pub(super) renewed: Option<Timestamp>,
    pub(super) transitions: i32,
    pub(super) duration: Duration,
}

/// What it says, and since when we have known it.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    word: Word,
    since: Instant,
}

impl Observed {
    /// The newer observation: the clock starts anew only when the Lease says something else.
    pub(super) fn after(before: Option<Self>, word: Word, now: Instant) -> Self {
        match before {
            Some(before) if before.word == word => before,
            _ => Self { word, since: now },
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody holds it, or its holder was silent for too long.
    Take,
    /// We hold it.
    Renew,
    /// Somebody else holds it, at least so long still.
    Wait(Duration),
}

/// The step that follows from what is observed.
pub(super) fn step(observed: Option<&Observed>, me: &str, now: Instant) -> Step {
    let Some(observed) = observed else { return Step::Take };
    match observed.word.holder.as_deref() {
        None => Step::Take,
        Some(holder) if holder == me => Step::Renew,
        Some(_) => {
            let left = (observed.since + observed.word.duration).saturating_duration_since(now);
            if left.is_zero() { Step::Take } else { Step::Wait(left) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(holder: &str, renewed: i64) -> Word {
        Word {
            holder: Some(holder.to_owned()),
            renewed: Timestamp::from_second(renewed).ok(),
            transitions: 1,
            duration: Duration::from_secs(10),
        }
    }

    #[test]
    fn silence_is_measured_by_our_own_clock() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // The other's clock is years behind: that does not matter.
        let first = Observed::after(None, word("a", 5), at(0));
        assert_eq!(step(Some(&first), "b", at(4)), Step::Wait(Duration::from_secs(6)));
        let same = Observed::after(Some(first), word("a", 5), at(8));
        assert_eq!(step(Some(&same), "b", at(10)), Step::Take);
        let renewed = Observed::after(Some(same), word("a", 7), at(9));
        assert_eq!(step(Some(&renewed), "b", at(10)), Step::Wait(Duration::from_secs(9)));
    }

    #[test]
    fn ours_is_renewed_and_nobodys_is_taken() {
        let now = Instant::now();
        let ours = Observed::after(None, word("b", 5), now);
        assert_eq!(step(Some(&ours), "b", now + Duration::from_secs(60)), Step::Renew);
        let free = Observed::after(None, Word { holder: None, ..word("a", 5) }, now);
        assert_eq!((step(Some(&free), "b", now), step(None, "b", now)), (Step::Take, Step::Take));
    }
}
