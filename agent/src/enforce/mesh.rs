//! What workloads of Istio's ambient mesh say to each other, from what the kernel counts by pair of addresses.

use std::collections::BTreeMap;

use crate::datapath::{Guard, GuardError};
use crate::model::address::Direction;
use crate::model::ambient::{Between, Book, Count, Talk};
use crate::model::policy::{Pair, mesh_security};
use crate::state::Snapshot;

/// Seconds between two looks.
const EACH: u64 = 2;

/// The counts so far.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    book: Book,
    due: u64,
}

impl Mesh {
    /// Takes in what was counted since the last look, if that is long enough ago. `jiffies` are the time and the rate.
    pub(super) fn look(
        &mut self,
        guard: &Guard,
        now: &Snapshot,
        jiffies: (u64, u64),
    ) -> Result<(), GuardError> {
        if jiffies.0 < self.due {
            return Ok(());
        }
        self.due = jiffies.0 + EACH * jiffies.1;
        let counted: BTreeMap<Between, Count> = guard.pairs()?.iter().filter_map(counted).collect();
        self.book.take(counted, now.guarded.as_ref().map_or(&now.workloads, |pods| &pods.enrolled));
        Ok(())
    }

    pub(super) fn talks(&self) -> Vec<Talk> {
        self.book.talks()
    }
}

/// Seen from the pod of this node: the source on egress, the destination on ingress.
fn counted(pair: &Pair) -> Option<(Between, Count)> {
    let (_, rule) = pair.rule.split_once('/')?;
    let (direction, security) = mesh_security(rule)?;
    let (here, peer) = match direction {
        Direction::Egress => (pair.source, pair.destination),
        Direction::Ingress => (pair.destination, pair.source),
    };
    let between = Between { here, peer, security, counter: pair.counter };
    Some((between, Count { packets: pair.packets, bytes: pair.bytes }))
}
