//! Neighbours as the kernel describes them (`RTM_NEWNEIGH`, linux/neighbour.h).

use std::net::IpAddr;
use std::time::Duration;

use super::attribute::{after, attributes, u16_at, u32_at};
use super::route::address;
use crate::model::address::{IfIndex, Mac};
use crate::model::neighbour::{Neighbour, NeighbourState};

/// `struct ndmsg`.
const HEADER: usize = 12;
/// The kernel tells ages in hundredths of a second (`USER_HZ`).
const USER_HZ: u32 = 100;

/// The body of a request for the neighbours of all families.
pub(super) const REQUEST: [u8; HEADER] = [0; HEADER];

/// Which entry a message is about. `None` for other tables, such as a bridge's.
pub(super) fn key(body: &[u8]) -> Option<(IfIndex, IpAddr)> {
    let family = i32::from(*body.first()?);
    let interface = IfIndex::try_from(u32_at(body, 4)?).ok()?;
    let (_, value) = attributes(after(body, HEADER)).find(|(number, _)| *number == libc::NDA_DST)?;
    Some((interface, address(family, value)?))
}

/// The entry of a message, as of `now` (time since boot). `None` for one that has no state yet.
pub(super) fn neighbour(body: &[u8], now: Duration) -> Option<Neighbour> {
    let (interface, address) = key(body)?;
    let state = state(u16_at(body, 8)?)?;
    let mut neighbour =
        Neighbour { interface, address, mac: None, state, failures: 0, moves: 0, changed: None };
    for (number, value) in attributes(after(body, HEADER)) {
        match number {
            libc::NDA_LLADDR => neighbour.mac = value.try_into().ok().map(Mac).filter(|mac| !mac.is_zero()),
            libc::NDA_CACHEINFO => neighbour.changed = updated(value, now),
            _ => {}
        }
    }
    Some(neighbour)
}

/// `ndm_updated` of `struct nda_cacheinfo`.
fn updated(value: &[u8], now: Duration) -> Option<Duration> {
    now.checked_sub(Duration::from_secs(1) * u32_at(value, 8)? / USER_HZ)
}

fn state(bits: u16) -> Option<NeighbourState> {
    Some(match bits {
        libc::NUD_INCOMPLETE => NeighbourState::Incomplete,
        libc::NUD_REACHABLE => NeighbourState::Reachable,
        libc::NUD_STALE => NeighbourState::Stale,
        libc::NUD_DELAY => NeighbourState::Delay,
        libc::NUD_PROBE => NeighbourState::Probe,
        libc::NUD_FAILED => NeighbourState::Failed,
        libc::NUD_NOARP => NeighbourState::NoArp,
        libc::NUD_PERMANENT => NeighbourState::Permanent,
        _ => return None,
    })
}
