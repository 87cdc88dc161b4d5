//! What can go wrong with a request, and what that says about the router.

/// A request that did not give what was asked. No variant ever holds the API key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 400: the router looked at the request and refused it.
    #[error("the router refused: {text}")]
    Refused {
        /// The router's text. May be empty of reasons (1.4 hides them).
        text: String,
    },
    /// 400 or a lock: another commit runs. Worth trying again.
    #[error("the router is busy with another commit")]
    Busy,
    /// 400 with a bare `Set failed`: a path touched by an earlier refused request stays closed for about a second.
    #[error("the path is still closed after an earlier refusal: {text}")]
    Poisoned {
        /// The router's text.
        text: String,
    },
    /// 401: the key is not one of the router's.
    #[error("the router does not know this API key; set `service https api keys` or mend the Router's key")]
    Unauthorized,
    /// 413: the body is over the router's limit.
    #[error("the request is over the router's size limit; raise `service https request-body-size-limit`")]
    TooLarge,
    /// 422: the form was not understood.
    #[error("the router did not understand the request: {text}")]
    Malformed {
        /// The router's text.
        text: String,
    },
    /// 500: an error inside the API server; reads give it while somebody configures.
    #[error("the router's API had an internal error: {text}")]
    Internal {
        /// The router's text.
        text: String,
    },
    /// 502, 503 or 504: nginx answers, the API server behind it does not.
    #[error("the router's API server is away (HTTP {status})")]
    Away {
        /// The HTTP status.
        status: u16,
    },
    /// Something answers, but not a VyOS API.
    #[error("what answers is not a VyOS API: {what}")]
    NotVyos {
        /// What was seen instead.
        what: String,
    },
    /// No connection: the request was never sent.
    #[error("the router cannot be reached: {why}")]
    Unreachable {
        /// The transport's text.
        why: String,
    },
    /// The certificate is not the trusted one: the request was never sent.
    #[error("the router's certificate is not trusted: {why}")]
    Untrusted {
        /// What is wrong with it.
        why: String,
    },
    /// Sent, and no answer came back. Nobody knows what the router did.
    #[error("the answer was lost: {why}")]
    Lost {
        /// The transport's text.
        why: String,
    },
    /// The key could not be read: nothing was sent.
    #[error("the API key cannot be read: {why}")]
    NoKey {
        /// The file's error.
        why: String,
    },
}

/// What a failed change says about the router's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it can be live.
    NotApplied,
    /// Refused, but scripts that succeeded before the failing one stay live (a list is not atomic).
    PerhapsPartly,
    /// Anything between nothing and all.
    Unknown,
}

impl ApiError {
    /// What is known about a change that ended with this error.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Busy
            | Self::Poisoned { .. }
            | Self::Unauthorized
            | Self::TooLarge
            | Self::Malformed { .. }
            | Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::NoKey { .. } => Fate::NotApplied,
            Self::Refused { .. } => Fate::PerhapsPartly,
            Self::Internal { .. } | Self::Away { .. } | Self::NotVyos { .. } | Self::Lost { .. } => {
                Fate::Unknown
            }
        }
    }

    /// Whether the same read is worth sending again.
    pub fn read_is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::Internal { .. } | Self::Away { .. } | Self::Lost { .. })
    }

    /// Whether the same change is worth sending again: only where nothing of it was applied.
    pub fn change_is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::Poisoned { .. })
    }

    /// One word for metrics and conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "Refused",
            Self::Busy => "Busy",
            Self::Poisoned { .. } => "PathClosed",
            Self::Unauthorized => "Unauthorized",
            Self::TooLarge => "TooLarge",
            Self::Malformed { .. } => "Malformed",
            Self::Internal { .. } => "Internal",
            Self::Away { .. } => "Away",
            Self::NotVyos { .. } => "NotVyOS",
            Self::Unreachable { .. } => "Unreachable",
            Self::Untrusted { .. } => "Untrusted",
            Self::Lost { .. } => "AnswerLost",
            Self::NoKey { .. } => "NoKey",
        }
    }
}
