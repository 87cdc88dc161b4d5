//! The router's HTTP API: one client, one request at a time, typed answers.
//!
//! What VyOS really does (error texts, status codes, generations) is learned here once, so that the rest of the
//! controller sees five plain verbs: read, configure, confirm, save, reboot.

mod client;
mod error;
mod generation;
mod key;
mod show;
mod trust;
mod wire;

pub use client::{Client, ClientError, Endpoint, Timing};
pub use error::{ApiError, Fate};
pub use generation::{Confirm, Generation, Release};
pub use key::{ApiKey, KeySource, Redactor};
pub use show::{Sessions, reboot_is_scheduled, warns_unsaved};
pub use trust::{Trust, TrustError};
pub use wire::read as read_answer;
