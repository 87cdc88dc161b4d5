//! Misbehaviour on demand: each kind for the next N requests, or until it is cleared.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A change is refused at `set` time with bare `Set failed`; nothing is applied.
    Refuse,
    /// Another commit holds the lock: a change is refused, and discarded.
    Busy,
    /// The script of the subtree committed last fails although its content is right; the others are live.
    HalfApply,
    /// No answer, and nothing is done, until the fault is cleared.
    Hang,
    /// The change is made, and no answer comes until the fault is cleared.
    HangChange,
    /// The change is made, and the connection cut before the answer.
    DropReply,
    /// The change is made, and then nobody reaches the router until it has rolled back or the fault is cleared.
    LoseLink,
    /// The change is made, then the router restarts with its saved configuration, without an answer.
    Reboot,
    /// nginx answers 502 with a page of HTML; nothing is done.
    Html,
    /// The API server answers 500; nothing is done.
    Error500,
    /// The answer comes later, by so many milliseconds.
    Slow {
        /// The delay.
        millis: u64,
    },
}

/// A kind and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// To how many requests it still happens; `None`: to all, until cleared.
    pub times: Option<u32>,
}

/// Words that name no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "fault {0:?}: give KIND or KIND=TIMES, KIND one of refuse, busy, half-apply, hang, hang-change, drop-reply, \
     lose-link, reboot, html, error-500, or slow=MILLISECONDS"
)]
pub struct UnknownFault(String);

impl Fault {
    /// For every request, until cleared.
    pub const fn lasting(kind: Kind) -> Self {
        Self { kind, times: None }
    }

    /// For the next request only.
    pub const fn once(kind: Kind) -> Self {
        Self { kind, times: Some(1) }
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault(text.to_owned());
        let (word, number) = text.split_once('=').map_or((text, None), |(word, n)| (word, Some(n)));
        let number = number.map(str::parse::<u32>).transpose().map_err(|_| unknown())?;
        if word == "slow" {
            return number.map(|ms| Self::lasting(Kind::Slow { millis: ms.into() })).ok_or_else(unknown);
        }
        Ok(Self { kind: kind(word).ok_or_else(unknown)?, times: number })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Slow { millis } => write!(f, "slow={millis}"),
            kind => {
                let word = WORDS.iter().find(|(_, k)| *k == kind).map_or("?", |(word, _)| word);
                f.write_str(word)?;
                self.times.map_or(Ok(()), |times| write!(f, "={times}"))
            }
        }
    }
}

const WORDS: [(&str, Kind); 10] = [
    ("refuse", Kind::Refuse),
    ("busy", Kind::Busy),
    ("half-apply", Kind::HalfApply),
    ("hang", Kind::Hang),
    ("hang-change", Kind::HangChange),
    ("drop-reply", Kind::DropReply),
    ("lose-link", Kind::LoseLink),
    ("reboot", Kind::Reboot),
    ("html", Kind::Html),
    ("error-500", Kind::Error500),
];

fn kind(word: &str) -> Option<Kind> {
    WORDS.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    now: Mutex<Vec<Fault>>,
    cleared: Notify,
}

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self { now: Mutex::new(faults), cleared: Notify::new() }
    }

    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.cleared.notify_waiters();
    }

    /// Waits until they are cleared.
    pub(crate) async fn cleared(&self) {
        self.cleared.notified().await;
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    /// Whether this kind strikes now; counts it down.
    pub(crate) fn strikes(&self, kind: Kind) -> bool {
        self.strike(|k| k == kind).is_some()
    }

    /// The delay of this request.
    pub(crate) fn delay(&self) -> std::time::Duration {
        let slow = self.strike(|kind| matches!(kind, Kind::Slow { .. }));
        let millis = if let Some(Kind::Slow { millis }) = slow { millis } else { 0 };
        std::time::Duration::from_millis(millis)
    }

    fn strike(&self, wanted: impl Fn(Kind) -> bool) -> Option<Kind> {
        let mut faults = self.lock();
        let fault = faults.iter_mut().find(|fault| wanted(fault.kind))?;
        let kind = fault.kind;
        fault.times = fault.times.map(|times| times.saturating_sub(1));
        faults.retain(|fault| fault.times != Some(0));
        Some(kind)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_down() {
        let faults = Faults::new(vec!["refuse=2".parse().unwrap()]);
        assert!(faults.strikes(Kind::Refuse) && faults.strikes(Kind::Refuse));
        assert!(!faults.strikes(Kind::Refuse));
    }

    #[test]
    fn words_round_trip_and_wrong_ones_say_what_is_right() {
        for word in ["refuse=3", "busy", "slow=250", "error-500=1"] {
            assert_eq!(word.parse::<Fault>().unwrap().to_string(), word);
        }
        assert!("slow".parse::<Fault>().is_err());
        assert!("nope".parse::<Fault>().unwrap_err().to_string().contains("half-apply"));
    }
}
