//! The front cache of flows, read where it lies: mapped for the time of a reading, so that it costs no call a slot and
//! is not counted as the agent's memory in between.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use weir_ebpf::Slot;

use super::table::{Table, TableError};

/// The mapped slots of all CPUs.
pub(super) struct Front {
    start: NonNull<c_void>,
    slots: usize,
}

impl Front {
    /// Maps the pinned array.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn map(table: &Table<u32, Slot>) -> Result<Self, TableError> {
        let slots = table.capacity() as usize;
        let length = NonZeroUsize::new(slots * size_of::<Slot>())
            .ok_or_else(|| table.failed("map", nix::Error::EINVAL))?;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that is there.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, table.fd(), 0) }
            .map_err(|error| table.failed("map", error))?;
        Ok(Self { start, slots })
    }

    /// Slots whose counts are not all in the table behind yet. Programs write meanwhile: a slot that changes hands in the
    /// few nanoseconds of its copy may show the count of the flow before under the key of the next, in this reading.
    pub(super) fn held(&self) -> impl Iterator<Item = Slot> + '_ {
        let slots = self.start.cast::<Slot>();
        // SAFETY: the mapping has this many slots, begins at a page and lives as long as `self`. Other CPUs write it at any
        // time: hence the volatile reads; every bit pattern is a slot.
        (0..self.slots)
            .map(move |at| unsafe { slots.add(at).read_volatile() })
            .filter(|slot| slot.packets > 0)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing points into it any more.
        let unmapped = unsafe { munmap(self.start, self.slots * size_of::<Slot>()) };
        if let Err(error) = unmapped {
            tracing::debug!(%error, "the front cache stays mapped");
        }
    }
}
