//! Tokens of an OpenID Connect issuer, such as Zitadel, for the gRPC interface over TCP.
//!
//! The issuer's keys come by its discovery document, are kept, and are asked for again when they grow old or when a token names
//! one that is not among them. Where they cannot be had nobody is let in.
//! A stream ends with the token that opened it.

mod fetch;
mod gate;
mod keys;
mod settings;
mod signature;

pub use fetch::FetchError;
pub use gate::{Deadline, Gate, Guarded, Pace, Reading};
pub use keys::claims;
pub use settings::{Options, Settings, SettingsError};
