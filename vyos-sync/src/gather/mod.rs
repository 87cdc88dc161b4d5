//! Edge: where objects come from. Today a folder of manifests, as a Git repository holds them.

mod folder;

pub use crate::inputs::Inputs;
pub use folder::folder;
