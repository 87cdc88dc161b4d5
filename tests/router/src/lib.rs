//! A stand-in VyOS router: VyOS's HTTP API over a real configuration tree, true to it in encodings, status codes,
//! texts and bad habits, and able to misbehave on demand.
//!
//! ```no_run
//! # async fn example() -> Result<(), vyos_router::SpawnError> {
//! use vyos_router::{Fault, FaultKind, Release, Router};
//! let router = Router::builder().release(Release::V1_5).spawn().await?;
//! router.add_fault(Fault::once(FaultKind::DropReply));
//! println!("{} {} {}", router.url(), router.key(), router.spki_pin());
//! router.stop().await;
//! # Ok(()) }
//! ```

mod builder;
mod check;
mod commit;
mod control;
mod fault;
mod http;
mod machine;
mod model;
mod owner;
mod plant;
mod print;
mod release;
mod session;

pub use builder::{Builder, Router, SpawnError};
pub use fault::{Fault, Kind as FaultKind, UnknownFault};
pub use http::tls::Validity;
pub use machine::Entry;
pub use plant::Namespace;
pub use release::{Generation, Release, UnknownWord};
