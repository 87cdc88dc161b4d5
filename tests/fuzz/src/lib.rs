//! What must hold for any bytes from outside: each target is a function that panics when it does not.
//!
//! `tests/short.rs` runs every target for a moment on its corpus and on mutations of it, in every test run. `make fuzz`
//! runs the same functions under libFuzzer, which looks for new ways through the code (`guided/`).
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a target that finds something panics"
)]

mod bfd;
mod bgp;
mod mutate;
mod sync;
mod token;

pub use mutate::Mutator;

/// One target: its name, which is that of its corpus folder too, and what must hold for any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. A new one gets a line here and a folder `corpus/NAME` with at least one input that goes deep.
pub const TARGETS: &[Target] = &[
    ("bao_answer", sync::bao_answer),
    ("bfd", bfd::bfd),
    ("bgp_message", bgp::message),
    ("bgp_stream", bgp::stream),
    ("config_boot", sync::config_boot),
    ("config_json", sync::config_json),
    ("manifests", sync::manifests),
    ("api_answer", sync::api_answer),
    ("show", sync::show),
    ("schema_file", sync::schema_file),
    ("plan", sync::plan),
    ("token", token::token),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).copied()
}
