//! TLS for the listeners of weir-agent and vyos-sync.
//!
//! The certificate comes as the files of a Secret (`tls.crt`, `tls.key`, `ca.crt`), which cert-manager renews and the kubelet
//! swaps. Every new connection is offered what the files hold at that moment; connections that are there already keep the
//! certificate that they began with. A pair that cannot be used changes nothing: the one before stays, and [`Reading`] says so.

mod files;
mod identity;
mod listener;
mod options;
mod pair;
mod trust;

pub use files::{FileError, Files};
pub use identity::{Clients, Identity, Reading};
pub use listener::{Caller, Listener, Protocol, Stream, welcome_only};
pub use options::Options;
pub use pair::PairError;
pub use trust::{TrustError, trusting};
