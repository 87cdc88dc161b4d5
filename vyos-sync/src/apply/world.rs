//! Everything that applying a change does to the world, as one narrow trait: the state machine above it is the same
//! over a real router, over a model of one, and over one that stops at any step.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::{batch::Pace, record::Record};
use crate::config::{Command, Tree};

/// Why something asked of the world did not come out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was sent, or the router took none of it.
    #[error("{0}")]
    NotDone(String),
    /// The router refused; parts that were fine may be live all the same.
    #[error("{0}")]
    Refused(String),
    /// Sent, and no usable answer: anything may have happened.
    #[error("{0}")]
    Unknown(String),
    /// The router's API does not answer.
    #[error("{0}")]
    Gone(String),
    /// The record could not be kept: nothing may be sent without one.
    #[error("the record of the change cannot be written: {0}")]
    NoRecord(String),
}

/// What the router said to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// Live, and the router undoes it by itself unless confirmed.
    Armed,
    /// Live, with nothing armed by the commit itself.
    Plain,
}

/// What the router said to a set reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The running configuration was the saved one.
    Clean,
    /// Somebody's changes are not saved: a reboot would lose them.
    Dirty,
}

/// The world as a change sees it.
pub trait World {
    /// The router's whole running configuration.
    fn tree(&self) -> impl Future<Output = Result<Tree, Fault>> + Send;
    /// One commit of these commands. With minutes, armed by them.
    fn commit(
        &self,
        commands: &[Command],
        minutes: Option<u16>,
    ) -> impl Future<Output = Result<Landed, Fault>> + Send;
    /// Confirms an armed commit; nothing happens where none waits.
    fn confirm(&self) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Saves the running configuration.
    fn save(&self) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Whether a reboot is set, by whomever.
    fn reboot_is_set(&self) -> impl Future<Output = Result<bool, Fault>> + Send;
    /// Sets a reboot.
    fn reboot_in(&self, minutes: u16) -> impl Future<Output = Result<Saved, Fault>> + Send;
    /// Takes a set reboot back; nothing happens where none is set.
    fn reboot_cancel(&self) -> impl Future<Output = Result<(), Fault>> + Send;
    /// BGP peers with an established session.
    fn sessions(&self) -> impl Future<Output = Result<BTreeSet<IpAddr>, Fault>> + Send;
    /// The probes of the Router object that do not answer, each with its reason.
    fn silent_probes(&self) -> impl Future<Output = Vec<String>> + Send;
    /// Keeps the record of the change, durably, before it returns.
    fn keep(&self, record: &Record) -> impl Future<Output = Result<(), Fault>> + Send;
    /// How fast this router took commands so far.
    fn pace(&self) -> Pace;
    /// Tells how fast it took a batch.
    fn measured(&self, commands: usize, took: Duration);
    /// The time.
    fn now(&self) -> Timestamp;
    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}
