//! Memory that outlives the process: a place for each session, written on every change without ever blocking.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::model::bfd::{Record, SESSIONS_MAX, SLOT, SessionId};

/// Octets of all places.
pub const SIZE: usize = SESSIONS_MAX * SLOT;

/// The places, mapped into this process.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<libc::c_void>,
}

// SAFETY: the mapping belongs to this value alone and is used through `&mut`; it may be used from any thread.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps what the descriptor stands for: a BPF array that may be mapped, or a file of [`SIZE`] octets.
    pub(super) fn map(kept: &OwnedFd) -> io::Result<Self> {
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { mmap(None, LENGTH, flags, MapFlags::MAP_SHARED, kept, 0) }?;
        Ok(Self { start })
    }

    /// Memory that ends with the process, where there is no other.
    pub(super) fn fleeting() -> io::Result<Self> {
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as above.
        let start = unsafe { mmap_anonymous(None, LENGTH, flags, MapFlags::MAP_PRIVATE) }?;
        Ok(Self { start })
    }

    /// All sessions that an agent has left here.
    pub(super) fn records(&mut self) -> Vec<(SessionId, Record)> {
        let places = (0..SESSIONS_MAX).map(SessionId);
        places.filter_map(|id| Some((id, Record::read(self.place(id)?)?))).collect()
    }

    /// Keeps a session.
    pub(super) fn save(&mut self, id: SessionId, record: &Record) {
        if let Some(place) = self.place(id) {
            record.write(place);
        }
    }

    /// Forgets a session.
    pub(super) fn clear(&mut self, id: SessionId) {
        if let Some(place) = self.place(id) {
            place.fill(0);
        }
    }

    fn place(&mut self, id: SessionId) -> Option<&mut [u8; SLOT]> {
        if id.0 >= SESSIONS_MAX {
            return None;
        }
        // SAFETY: the mapping is SIZE octets long and lives as long as `self`; nobody else in this process refers to it, and
        // no other process writes there: the folder of pins is held by one agent.
        Some(unsafe { self.start.cast::<[u8; SLOT]>().add(id.0).as_mut() })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and no reference into it is left. A failure would leave it mapped.
        let _ = unsafe { munmap(self.start, SIZE) };
    }
}

const LENGTH: NonZeroUsize = match NonZeroUsize::new(SIZE) {
    Some(length) => length,
    None => NonZeroUsize::MIN,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_overlap_and_outlive_a_mapping() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE as u64).unwrap();
        let kept: OwnedFd = file.into();
        let mut memory = Memory::map(&kept).unwrap();
        assert!(memory.records().is_empty());
        for number in 0..SESSIONS_MAX {
            memory.place(SessionId(number)).unwrap().fill(u8::try_from(number).unwrap());
        }
        assert!(memory.place(SessionId(SESSIONS_MAX)).is_none());
        drop(memory);
        let mut memory = Memory::map(&kept).unwrap();
        for number in 0..SESSIONS_MAX {
            let place = memory.place(SessionId(number)).unwrap();
            assert!(place.iter().all(|octet| usize::from(*octet) == number));
        }
    }
}
