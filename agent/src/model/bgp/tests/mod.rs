//! The pure core of the view of BGP, shown by made-up speakers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail")]

mod build;
mod flaps;
mod reported;
mod sessions;
mod stream;
mod wire;
