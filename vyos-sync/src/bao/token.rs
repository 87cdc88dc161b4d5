//! A token and its lease. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// A token that was given for a while. It is never printed.
pub(super) struct Token {
    value: String,
    since: Instant,
    lease: Duration,
    renewable: bool,
}

/// What to do with a token before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It serves.
    Use,
    /// It serves, and should be renewed.
    Renew,
    /// It has ended, or is about to.
    Login,
}

impl Token {
    pub(super) fn new(value: String, since: Instant, lease: Duration, renewable: bool) -> Self {
        Self { value, since, lease, renewable }
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }

    /// Renewed from two thirds of its lease on, as agents of OpenBAO do. A lease of nothing has no end: root's.
    pub(super) fn next(&self, now: Instant) -> Next {
        let age = now.saturating_duration_since(self.since);
        if self.lease.is_zero() || age < self.lease / 3 * 2 {
            return Next::Use;
        }
        match self.renewable && age < self.lease {
            true => Next::Renew,
            false if age < self.lease / 10 * 9 => Next::Use,
            false => Next::Login,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_renewed_and_given_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let token = |lease, renewable| Token::new("t".into(), start, Duration::from_secs(lease), renewable);
        let renewable = token(3600, true);
        assert_eq!(
            [2399, 2400, 3599, 3600].map(|t| renewable.next(at(t))),
            [Next::Use, Next::Renew, Next::Renew, Next::Login]
        );
        let batch = token(3600, false);
        assert_eq!([2400, 3239, 3240].map(|t| batch.next(at(t))), [Next::Use, Next::Use, Next::Login]);
        assert_eq!(token(0, false).next(at(1_000_000)), Next::Use);
    }
}
