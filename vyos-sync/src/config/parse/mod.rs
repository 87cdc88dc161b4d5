//! Reads a configuration from the forms in which a router gives it. All input is from outside: errors, never panics.

mod boot;
mod json;
mod lines;

pub use boot::{Boot, BootError, Trailer, boot};
pub use json::{JsonError, json, json_text};
pub use lines::{LineError, LineFault, set_lines, statement};

/// Deeper nesting than this is refused. The deepest node of VyOS is about 15 words down.
const MAX_DEPTH: usize = 64;
