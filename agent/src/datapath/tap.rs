//! BGP's segments out of the ring, and what they tell. The task wakes up when something comes, when a time is over, and not
//! otherwise.

use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use aya::maps::{Map, MapData, RingBuf};
use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use weir_ebpf::record::TapHeader;
use weir_ebpf::{Address, EGRESS, shortfall};

use super::load::Datapath;
use super::table::{Table, TableError};
use crate::clock::since_boot;
use crate::durable;
use crate::model::address::{Direction, IfIndex, from_octets};
use crate::model::bgp::{self, Observer, Segment, View};
use crate::state::{Event, Snapshot};

/// Records read before others get their turn.
const BATCH: usize = 256;
/// Views are published at most so often.
const PACE: Duration = Duration::from_millis(100);
/// While pieces wait behind a hole, acknowledgements are looked for so often: they wake nobody.
const LOOK: Duration = Duration::from_millis(200);
/// What is known is written down at most so often.
const SAVE: Duration = Duration::from_secs(60);

/// The ring cannot be read.
#[derive(Debug, Error)]
pub enum TapError {
    /// A map cannot be used.
    #[error("cannot open the ring of BGP segments")]
    Ring(#[source] aya::maps::MapError),
    /// A map cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The ring's descriptor cannot be waited for.
    #[error("cannot wait for BGP segments")]
    Wait(#[source] io::Error),
}

/// The ring and what did not get into it.
pub struct Tap {
    ring: RingBuf<MapData>,
    shortfall: Table<u32, u64>,
}

impl Tap {
    /// Opens the ring. What came since the agent before is still in it.
    ///
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(datapath: &Datapath) -> Result<Self, TapError> {
        let pins = datapath.pins();
        let map = MapData::from_pin(pins.map("TAP")).map_err(TapError::Ring)?;
        let ring = RingBuf::try_from(Map::RingBuf(map)).map_err(TapError::Ring)?;
        Ok(Self { ring, shortfall: Table::per_cpu(&pins.map("SHORTFALL"))? })
    }

    /// Segments that did not reach the ring whole, and their octets.
    fn lost(&self) -> Result<(u64, u64), TableError> {
        let sum = |what: u32| Ok(self.shortfall.read(&what)?.unwrap_or_default().into_iter().sum::<u64>());
        Ok((sum(shortfall::TAP_SEGMENTS_LOST)?, sum(shortfall::TAP_BYTES_LOST)?))
    }

    /// Reads what is there, up to a batch. Returns whether there may be more.
    fn read(&mut self, observer: &mut Observer) -> bool {
        for _ in 0..BATCH {
            let Some(record) = self.ring.next() else { return false };
            if let Some(segment) = segment(&record) {
                observer.see(&segment);
            }
        }
        true
    }
}

/// A record as a segment; `None` for what no program of ours has written.
fn segment(record: &[u8]) -> Option<Segment<'_>> {
    let (header, payload) = record.split_at_checked(size_of::<TapHeader>())?;
    let mut tapped = TapHeader::zeroed();
    bytemuck::bytes_of_mut(&mut tapped).copy_from_slice(header);
    let end = |address: Address, port| (from_octets(address.octets()), port).into();
    Some(Segment {
        at: Duration::from_nanos(tapped.at),
        interface: IfIndex::try_from(tapped.interface).ok()?,
        direction: if tapped.direction == EGRESS { Direction::Egress } else { Direction::Ingress },
        source: end(tapped.source, tapped.source_port),
        destination: end(tapped.destination, tapped.destination_port),
        sequence: tapped.sequence,
        acknowledgement: tapped.acknowledgement,
        flags: tapped.flags,
        authenticated: bgp::authenticated(tapped.options.get(..tapped.options_length.into())?),
        length: tapped.length,
        offset: tapped.offset,
        payload: payload.get(..tapped.captured as usize)?,
    })
}

/// Follows BGP and tells what it sees, until `stop`. It begins with what the agent before has written to `memory`.
///
/// # Errors
/// When the ring cannot be waited for.
pub async fn follow(
    tap: Tap,
    memory: Memory,
    ports: Vec<u16>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    events: mpsc::Sender<Vec<Event>>,
    stop: CancellationToken,
) -> Result<(), TapError> {
    let mut observer = memory.recall().unwrap_or_default();
    observer.resume(ports, since_boot());
    // SAFETY: the ring owns its descriptor for as long as it lives, and always tells the same one.
    let tap = unsafe { AsyncFd::register_with_interest(tap, Interest::READABLE) };
    let mut tap = tap.map_err(|error| TapError::Wait(error.into()))?;
    let mut follower =
        Follower { observer, memory, shown: Arc::default(), published: None, saved: since_boot() };
    loop {
        let more = tap.get_mut().read(&mut follower.observer);
        if !more {
            // Before everything is read that came in time, nobody is late.
            follower.pass(tap.get_ref());
        }
        if let Some(view) = follower.due()
            && events.send(vec![Event::Bgp(view)]).await.is_err()
        {
            break;
        }
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        let wake = follower.wake();
        tokio::select! {
            () = stop.cancelled() => break,
            ready = tap.readable_mut() => ready.map_err(TapError::Wait)?.clear_ready(),
            changed = snapshots.changed() => {
                if changed.is_err() {
                    break;
                }
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                follower.links(&snapshot);
            }
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
    while tap.get_mut().read(&mut follower.observer) {}
    follower.memory.keep(&follower.observer);
    Ok(())
}

/// An observer, and when it was last told and written down.
struct Follower {
    observer: Observer,
    memory: Memory,
    shown: Arc<View>,
    published: Option<Instant>,
    saved: Duration,
}

impl Follower {
    fn pass(&mut self, tap: &Tap) {
        self.observer.pass(since_boot());
        match tap.lost() {
            Ok((segments, bytes)) => self.observer.lost(bytes, segments),
            Err(error) => tracing::debug!(%error, "what the tap lost is not known just now"),
        }
    }

    /// The view, if there is another one and the last was not told just now.
    fn due(&mut self) -> Option<Arc<View>> {
        if self.published.is_some_and(|last| last.elapsed() < PACE) {
            return None;
        }
        let view = self.observer.view();
        if Arc::ptr_eq(&view, &self.shown) {
            return None;
        }
        self.published = Some(Instant::now());
        self.shown = Arc::clone(&view);
        let now = since_boot();
        if now.saturating_sub(self.saved) >= SAVE {
            self.saved = now;
            self.memory.keep(&self.observer);
        }
        Some(view)
    }

    fn wake(&mut self) -> Option<Instant> {
        let (now, instant) = (since_boot(), Instant::now());
        let deadline = self.observer.deadline().map(|at| instant + at.saturating_sub(now));
        let look = self.observer.waiting().then(|| instant + LOOK);
        let unseen = self.observer.changed();
        let publish = self.published.filter(|_| unseen).map(|last| (last + PACE).max(instant));
        [deadline, look, publish].into_iter().flatten().min()
    }

    fn links(&mut self, snapshot: &Snapshot) {
        let now = since_boot();
        for link in snapshot.links.values() {
            self.observer.link(link.index, link.admin_up && link.carrier, link.changed.unwrap_or(now));
        }
    }
}

/// Where what is known outlives an agent. Whether it still fits is told by the sequence numbers of what comes next.
pub struct Memory {
    path: PathBuf,
    boot: String,
    /// Whether it was told that nothing can be written.
    told: bool,
}

#[derive(Serialize, Deserialize)]
struct Remembered<T> {
    version: String,
    boot: String,
    observer: T,
}

impl Memory {
    /// A file in a folder for state.
    pub fn within(folder: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { path: folder.join("bgp.json"), boot: boot.trim().to_owned(), told: false }
    }

    /// What was written down since this boot by the same version.
    fn recall(&self) -> Option<Observer> {
        let text = fs::read(&self.path).ok()?;
        match serde_json::from_slice::<Remembered<Observer>>(&text) {
            Ok(memory) if memory.boot == self.boot && memory.version == env!("CARGO_PKG_VERSION") => {
                Some(memory.observer)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "BGP is looked at afresh");
                None
            }
        }
    }

    fn keep(&mut self, observer: &Observer) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let memory = Remembered { version, boot: self.boot.clone(), observer };
        let written = serde_json::to_vec(&memory)
            .map_err(io::Error::from)
            .and_then(|text| durable::replace(&self.path, &text));
        if let Err(error) = written
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::warn!(path = %self.path.display(), %error, "the next agent will know less of BGP");
        }
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
