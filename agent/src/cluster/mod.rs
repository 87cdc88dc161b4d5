//! Where objects of a cluster come from: the Kubernetes API or a folder of manifests, and the view that a router publishes. An
//! edge: it parses them once, into [`crate::model::cluster`], and writes the node's own word back.

mod cilium;
mod collect;
mod core;
mod folder;
mod harvester;
pub mod kube;
mod parts;
mod published;
mod watch;

pub use collect::Collector;
pub use folder::folder;
pub use published::{PublishedError, router_view};
pub use watch::{News, watch};
