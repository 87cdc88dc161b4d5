//! The kernel's links, routes and neighbours: read at once, or followed.
//!
//! [`watch`] sends everything once and then every change, in batches. [`links`], [`counters`], [`routes`] and
//! [`neighbours`] read the present state; each is a few requests that the kernel answers at once (some 20 µs a link), so they may be called at a scrape, from a thread that may block for that long.
//!
//! All of it is about the network namespace of the calling thread.

mod attribute;
mod batch;
mod link;
mod neighbour;
mod qdisc;
mod read;
mod route;
mod socket;
mod speed;
mod watch;

pub use read::{counters, links, neighbours, routes};
pub use watch::{Limits, watch, watch_within};

use std::io;

use thiserror::Error;

/// The kernel did not answer.
#[derive(Debug, Error)]
pub enum Error {
    /// No netlink socket could be had.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// A request was refused or not answered.
    #[error("cannot read {what} over netlink")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The subscription broke.
    #[error("cannot listen to netlink")]
    Listen(#[source] io::Error),
    /// Changes came faster than they could be taken in, so some were not seen.
    #[error("missed changes of links, routes or neighbours")]
    Overrun,
}

impl Error {
    fn open(error: nix::Error) -> Self {
        Self::Open(error.into())
    }
}
