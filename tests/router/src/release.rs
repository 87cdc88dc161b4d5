//! Which VyOS the stand-in plays: the release, and how its API arms a commit.

use std::fmt;
use std::str::FromStr;

use vyos_sync::config::schema::Dialect;

/// A release of VyOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 1.4 `sagitta`: ISC DHCP syntax, reasons of failed commits hidden.
    V1_4,
    /// 1.5 `current`: Kea syntax, reasons shown and HTML-escaped.
    V1_5,
}

/// How the API understands `confirm_time` and `confirm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `confirm_time` is unknown and ignored: the commit is permanent.
    G0,
    /// The timer is armed first, then the commit runs; a failed commit leaves the timer.
    G1,
    /// The commit runs first, then the timer is armed; where one is pending: 400, after committing.
    G2,
    /// As G2, and `?in_background=true` answers at once with the number of an operation.
    G3,
    /// The opt-in vyconf backend: nothing is committed, the answer is `unimplemented` and success.
    Vyconf,
}

/// A word that names no release or no generation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is none of {known}")]
pub struct UnknownWord {
    given: String,
    known: &'static str,
}

impl Release {
    /// The syntax that it speaks.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::V1_4 => Dialect::V1_4,
            Self::V1_5 => Dialect::V1_5,
        }
    }
}

impl Generation {
    /// Whether the API knows `confirm` at all.
    pub fn confirms(self) -> bool {
        self != Self::G0
    }
}

impl FromStr for Release {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "1.4" => Ok(Self::V1_4),
            "1.5" => Ok(Self::V1_5),
            _ => Err(UnknownWord { given: text.to_owned(), known: "1.4, 1.5" }),
        }
    }
}

impl FromStr for Generation {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text.to_ascii_lowercase().as_str() {
            "g0" => Ok(Self::G0),
            "g1" => Ok(Self::G1),
            "g2" => Ok(Self::G2),
            "g3" => Ok(Self::G3),
            "vyconf" => Ok(Self::Vyconf),
            _ => Err(UnknownWord { given: text.to_owned(), known: "g0, g1, g2, g3, vyconf" }),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_4 => "1.4",
            Self::V1_5 => "1.5",
        })
    }
}
