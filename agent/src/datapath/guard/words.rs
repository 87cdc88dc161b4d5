//! The words that say which set is in force, mapped: a store changes one at once, where a system call would copy it.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use weir_ebpf::rules::control;

use crate::datapath::table::{Table, TableError};

/// One page, of which the kernel gives the first words to the map.
const LENGTH: usize = 4096;

/// The mapped words.
pub(super) struct Words(NonNull<c_void>);

// SAFETY: the mapping belongs to the value, and all access to it is atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the pinned array.
    pub(super) fn map(table: &Table<u32, [u64; control::COUNT as usize]>) -> Result<Self, TableError> {
        let length = NonZeroUsize::new(LENGTH).ok_or_else(|| table.failed("map", nix::Error::EINVAL))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that is there.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, table.fd(), 0) };
        start.map(Self).map_err(|error| table.failed("map", error))
    }

    pub(super) fn load(&self, which: u32) -> u64 {
        self.word(which).load(Ordering::Acquire)
    }

    pub(super) fn store(&self, which: u32, word: u64) {
        self.word(which).store(word, Ordering::Release);
    }

    fn word(&self, which: u32) -> &AtomicU64 {
        let at = (which % control::COUNT) as usize;
        // SAFETY: the mapping is a page and lives as long as `self`; the word is aligned and inside, and everybody else who
        // writes it writes it whole.
        unsafe { self.0.cast::<AtomicU64>().add(at).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing points into it any more.
        if let Err(error) = unsafe { munmap(self.0, LENGTH) } {
            tracing::debug!(%error, "the control words stay mapped");
        }
    }
}
