//! The compiler as a whole: manifests in, desired tree and named problems out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test: what fails shall fail loudly, and what cannot run is said"
)]

mod cilium;
mod golden;
mod machines;
mod platform;
mod properties;
mod scale;
mod support;
