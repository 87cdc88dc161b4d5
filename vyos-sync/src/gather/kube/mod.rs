//! Living clusters: one watch for each kind that is read, into one shelf; clusters come and go while it runs.
//!
//! A watch resumes where it was cut, lists again when its place is too old (410), and waits longer after each failure.
//! What is not read is dropped when it arrives. A kind that a cluster does not have is off there until it appears.

mod access;
mod claim;
mod cluster;
mod discover;
mod fleet;
mod kinds;
mod references;
mod shelf;
mod trim;
mod watch;

pub use access::{Access, Calls, client};
pub use claim::{Claim, Claimed};
pub use fleet::{Fleet, Follow, Sources};
pub use shelf::Shelf;
