//! The compiler as a whole: manifests in, desired tree and named problems out.

mod cilium;
mod golden;
mod properties;
mod scale;
mod support;
