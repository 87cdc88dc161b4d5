//! Which release and which generation of the API answers. Probed without side effects.

use super::error::ApiError;

/// The release line, as far as the configuration's dialect goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version's own text, such as `1.5-rolling-202410210024` or `2026.03`.
    pub version: String,
}

impl Release {
    /// Finds the version in the text of `show version`.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|l| l.strip_prefix("Version:"))?;
        let version = line.trim().strip_prefix("VyOS").unwrap_or(line).trim();
        (!version.is_empty()).then(|| Self { version: version.to_owned() })
    }

    /// Major and minor number: `1.4.0-rc2` is (1, 4), `2026.03` is (2026, 3).
    pub fn number(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// How a commit can be armed over this API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// `confirm_time` would be silently ignored: a plain, permanent commit.
    Absent,
    /// `confirm_time` arms a timer. Some versions arm before the commit and some after: both are allowed for.
    Timed,
}

/// The generation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 1.4, and 1.5 before 2025-05-30: no confirm at all.
    G0,
    /// Confirm by timer (the two synchronous versions cannot be told apart without a commit).
    Timed,
    /// Confirm by timer, and background commits (2026).
    Background,
    /// The opt-in vyconf backend: confirm is accepted and does nothing.
    Vyconf,
}

impl Generation {
    /// Judges the answer to `confirm` with nothing pending, and whether background operations exist.
    pub(super) fn judge(
        confirm: Result<Option<String>, ApiError>,
        background: bool,
    ) -> Result<Self, ApiError> {
        match confirm {
            Ok(text) if text.as_deref().unwrap_or_default().contains("unimplemented") => Ok(Self::Vyconf),
            Ok(_) if background => Ok(Self::Background),
            Ok(_) => Ok(Self::Timed),
            Err(ApiError::Refused { text }) if text.contains("unimplemented") => Ok(Self::Vyconf),
            Err(ApiError::Refused { .. } | ApiError::Malformed { .. }) => Ok(Self::G0),
            Err(other) => Err(other),
        }
    }

    /// What this generation can do about confirming.
    pub fn confirm(self) -> Confirm {
        match self {
            Self::G0 | Self::Vyconf => Confirm::Absent,
            Self::Timed | Self::Background => Confirm::Timed,
        }
    }

    /// The name used in status, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::G0 => "G0",
            Self::Timed => "G1/G2",
            Self::Background => "G3",
            Self::Vyconf => "vyconf",
        }
    }
}

/// Whether the answer to an armed commit proves that the timer runs.
pub(super) fn is_armed(answer: Option<&str>) -> bool {
    answer.is_some_and(|text| text.contains("Initialized commit-confirm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let release = |text: &str| Release::parse(text).and_then(|r| r.number());
        assert_eq!(release("Version:          VyOS 1.5-rolling-test\nRelease train: x"), Some((1, 5)));
        assert_eq!(release("Version: VyOS 1.4.0-rc2"), Some((1, 4)));
        assert_eq!(release("Version: VyOS 2026.03"), Some((2026, 3)));
        assert_eq!(release("Traceback (most recent call last)"), None);
    }

    #[test]
    fn generations() {
        let refused = |text: &str| Err(ApiError::Refused { text: text.into() });
        assert_eq!(
            Generation::judge(refused("'confirm' is not a valid operation"), false),
            Ok(Generation::G0)
        );
        assert_eq!(Generation::judge(Ok(Some("No confirm pending".into())), false), Ok(Generation::Timed));
        assert_eq!(Generation::judge(Ok(None), true), Ok(Generation::Background));
        assert_eq!(Generation::judge(Ok(Some("unimplemented".into())), false), Ok(Generation::Vyconf));
        assert_eq!(Generation::judge(Err(ApiError::Busy), false), Err(ApiError::Busy));
    }

    #[test]
    fn only_the_routers_own_words_arm() {
        assert!(is_armed(Some("Initialized commit-confirm; 10 minutes to confirm before reboot")));
        assert!(!is_armed(Some("unimplemented")));
        assert!(!is_armed(None));
    }
}
