//! The kernel's neighbour tables (ARP and ND).

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::address::{IfIndex, Mac};

/// An entry of the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// On which interface.
    pub interface: IfIndex,
    /// Whose address.
    pub address: IpAddr,
    /// The link-layer address, once resolved; the last one known while the entry is failed or resolved again.
    pub mac: Option<Mac>,
    /// Its state.
    pub state: NeighbourState,
    /// How often it became unreachable (FAILED) since the agent began to look.
    pub failures: u64,
    /// How often its link-layer address changed.
    pub moves: u64,
    /// When it last changed, as time since boot.
    pub changed: Option<Duration>,
}

/// State of a neighbour entry (`NUD_*` in linux/neighbour.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourState {
    /// Being resolved.
    Incomplete,
    /// Known good.
    Reachable,
    /// Good once, not used of late.
    Stale,
    /// Used again, about to be probed.
    Delay,
    /// Being probed.
    Probe,
    /// It does not answer.
    Failed,
    /// Needs no resolution.
    NoArp,
    /// Set by hand.
    Permanent,
}

impl Neighbour {
    /// This entry as one that did not exist before. The kernel first tells of an entry when it is resolved or has failed.
    #[must_use]
    pub fn appeared(self) -> Neighbour {
        Neighbour { failures: u64::from(self.state == NeighbourState::Failed), ..self }
    }

    /// The same entry with the history of what was known `before`.
    #[must_use]
    pub fn after(mut self, before: &Neighbour) -> Neighbour {
        let failed = self.state == NeighbourState::Failed && before.state != NeighbourState::Failed;
        // A failed or unresolved entry keeps no address, so the last one known is the one to compare with.
        self.mac = self.mac.or(before.mac);
        let moved = before.mac.is_some() && self.mac != before.mac;
        self.failures = before.failures + u64::from(failed);
        self.moves = before.moves + u64::from(moved);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: NeighbourState, mac: Option<u8>) -> Neighbour {
        Neighbour {
            interface: IfIndex::try_from(2).unwrap(),
            address: "10.10.30.1".parse().unwrap(),
            mac: mac.map(|last| Mac([2, 0, 0, 0, 0, last])),
            state,
            failures: 0,
            moves: 0,
            changed: None,
        }
    }

    #[test]
    fn a_failure_counts_once_and_a_move_counts_across_it() {
        use NeighbourState::*;
        let steps = [
            (Reachable, Some(1), 0, 0),
            (Stale, Some(1), 0, 0),
            (Failed, None, 1, 0),
            (Failed, None, 1, 0),
            (Incomplete, None, 1, 0),
            (Reachable, Some(1), 1, 0),
            (Failed, None, 2, 0),
            (Reachable, Some(2), 2, 1),
            (Reachable, Some(1), 2, 2),
        ];
        let mut known = entry(Incomplete, None);
        for (state, mac, failures, moves) in steps {
            known = entry(state, mac).after(&known);
            assert_eq!((known.failures, known.moves), (failures, moves), "{state:?} {mac:?}");
        }
    }
}
