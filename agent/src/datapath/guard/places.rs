//! The maps that hold the maps of slots. They are made here and not by the loader, which describes their types: kernels before 6.2
//! put into a place only what is described like the first map, and the maps of a set are not.

use std::io;
use std::os::fd::AsFd;

use weir_ebpf::rules::{
    BITMAPS, Bitmap, FILTER_PAGE, FILTER_PAGES, Head, PORT_PAGE, PORT_PAGES, RULES, Rule, SLOTS,
};

use super::slot::{ARRAY, HASH, LPM_TRIE, NO_PREALLOC};
use crate::datapath::pins::Pins;
use crate::datapath::sys::{self, Shape};

/// As the programs have them: a name, how many places, and what lies there.
const PLACES: [(&str, u32, Shape); 11] = [
    ("GUARD_HEADS", SLOTS, array(size_of::<Head>(), 1)),
    ("GUARD_BITMAPS", SLOTS, array(size_of::<Bitmap>(), BITMAPS)),
    ("GUARD_RULES", SLOTS, array(size_of::<Rule>(), RULES)),
    ("GUARD_PORTS", SLOTS, array(size_of::<[u16; PORT_PAGE]>(), PORT_PAGES)),
    ("GUARD_CLAIMANTS", SLOTS, numbers(HASH, 8)),
    ("GUARD_FILTERS_V4", SLOTS * 2, array(size_of::<[u64; FILTER_PAGE]>(), FILTER_PAGES)),
    ("GUARD_FILTERS_V6", SLOTS * 2, array(size_of::<[u64; FILTER_PAGE]>(), FILTER_PAGES)),
    ("GUARD_EXACT_V4", SLOTS * 2, numbers(HASH, 4)),
    ("GUARD_EXACT_V6", SLOTS * 2, numbers(HASH, 16)),
    ("GUARD_TRIES_V4", SLOTS * 2, numbers(LPM_TRIE, 8)),
    ("GUARD_TRIES_V6", SLOTS * 2, numbers(LPM_TRIE, 20)),
];

const fn array(value: usize, entries: u32) -> Shape {
    Shape { kind: ARRAY, key: 4, value, entries, flags: 0 }
}

/// Their size may be another in each place.
const fn numbers(kind: u32, key: usize) -> Shape {
    Shape { kind, key, value: 4, entries: 1, flags: NO_PREALLOC }
}

/// Makes and pins those that are not there.
///
/// # Errors
/// What the kernel says: most often that this process has no CAP_BPF.
pub(in crate::datapath) fn make(pins: &Pins) -> io::Result<()> {
    for (name, places, shape) in &PLACES {
        let path = pins.map(name);
        if !path.exists() {
            let inside = sys::create_map(shape)?;
            let map = sys::create_map_of_maps(name, *places, inside.as_fd())?;
            sys::pin(map.as_fd(), &path)?;
        }
    }
    Ok(())
}
