//! Edge: where objects come from: a folder of manifests, as a Git repository holds them, or living clusters.

mod documents;
mod folder;
pub mod kube;

pub use crate::inputs::Inputs;
pub use documents::documents;
pub use folder::{folder, text};
