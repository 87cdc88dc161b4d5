//! The maps of a slot: made anew for every set, filled, and then put into their places.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::resume_unwind;

use bytemuck::Pod;
use weir_ebpf::rules::{BITMAPS, FILTER_PAGE, FILTER_PAGES, Head, PORT_PAGE, PORT_PAGES, RULES};

use super::GuardError;
use crate::clock::since_boot;
use crate::datapath::pins::Pins;
use crate::datapath::sys::{self, Shape};
use crate::datapath::table::{Table, TableError};
use crate::model::policy::{Contents, Table as AddressTable};

pub(super) const HASH: u32 = 1;
pub(super) const ARRAY: u32 = 2;
pub(super) const LPM_TRIE: u32 = 11;
/// `BPF_F_NO_PREALLOC`.
pub(super) const NO_PREALLOC: u32 = 1;

/// Places of the maps of all slots.
pub(super) struct Slots {
    heads: Table<u32, u32>,
    bitmaps: Table<u32, u32>,
    rules: Table<u32, u32>,
    ports: Table<u32, u32>,
    claimants: Table<u32, u32>,
    v4: Family,
    v6: Family,
}

struct Family {
    filters: Table<u32, u32>,
    exact: Table<u32, u32>,
    tries: Table<u32, u32>,
}

impl Slots {
    pub(super) fn open(pins: &Pins) -> Result<Self, TableError> {
        let table = |name: &str| Table::shared(&pins.map(name));
        Ok(Self {
            heads: table("GUARD_HEADS")?,
            bitmaps: table("GUARD_BITMAPS")?,
            rules: table("GUARD_RULES")?,
            ports: table("GUARD_PORTS")?,
            claimants: table("GUARD_CLAIMANTS")?,
            v4: Family {
                filters: table("GUARD_FILTERS_V4")?,
                exact: table("GUARD_EXACT_V4")?,
                tries: table("GUARD_TRIES_V4")?,
            },
            v6: Family {
                filters: table("GUARD_FILTERS_V6")?,
                exact: table("GUARD_EXACT_V6")?,
                tries: table("GUARD_TRIES_V6")?,
            },
        })
    }

    pub(super) fn fill(&self, slot: u32, contents: &Contents) -> Result<(), GuardError> {
        let ports: &[[u16; PORT_PAGE]] = bytemuck::cast_slice(&contents.ports);
        let ports = if ports.is_empty() { None } else { Some(array(PORT_PAGES, ports)?) };
        let mut places = vec![
            Place::new(&self.bitmaps, slot, Some(array(BITMAPS, &contents.bitmaps)?)),
            Place::new(&self.rules, slot, Some(array(RULES, &contents.rules)?)),
            Place::new(&self.ports, slot, ports),
            Place::new(&self.claimants, slot, numbers(&contents.claimants)?),
        ];
        for (side, tables) in (0..).zip(&contents.addresses) {
            let at = slot * 2 + side;
            places.extend(self.v4.places(at, &tables.v4)?);
            places.extend(self.v6.places(at, &tables.v6)?);
        }
        fill_all(&places)?;
        // The head comes last: without it there are no rules.
        let head = Head { build: since_boot().as_micros() as u32, ..*contents.head };
        Place::new(&self.heads, slot, Some(array(1, &[head])?)).fill()
    }
}

impl Family {
    fn places<K: Pod, const N: usize>(
        &self,
        at: u32,
        table: &AddressTable<K, N>,
    ) -> Result<[Place<'_>; 3], GuardError> {
        let pages: &[[u64; FILTER_PAGE]] = bytemuck::cast_slice(&table.filter);
        let filter = if pages.is_empty() { None } else { Some(array(FILTER_PAGES, pages)?) };
        Ok([
            Place::new(&self.filters, at, filter),
            Place::new(&self.exact, at, numbers(&table.exact)?),
            Place::new(&self.tries, at, trie(table)?),
        ])
    }
}

/// A place in a map of maps, and what goes there: nothing, or a map.
struct Place<'a> {
    table: &'a Table<u32, u32>,
    at: u32,
    map: Option<OwnedFd>,
}

impl<'a> Place<'a> {
    fn new(table: &'a Table<u32, u32>, at: u32, map: Option<OwnedFd>) -> Self {
        Self { table, at, map }
    }

    fn fill(&self) -> Result<(), GuardError> {
        let filled = match &self.map {
            Some(map) => self.table.write(&self.at, &(map.as_raw_fd() as u32)),
            None => self.table.remove(&self.at),
        };
        Ok(filled?)
    }
}

/// Fills all at once: after each the kernel waits until no program uses what was there before, and so it waits for all together.
fn fill_all(places: &[Place<'_>]) -> Result<(), GuardError> {
    std::thread::scope(|scope| {
        let filling: Vec<_> = places.iter().map(|place| scope.spawn(|| place.fill())).collect();
        filling.into_iter().try_for_each(|one| one.join().unwrap_or_else(|fault| resume_unwind(fault)))
    })
}

/// Numbers by key; nothing where there is none.
fn numbers<K: Pod>(entries: &[(K, u32)]) -> Result<Option<OwnedFd>, GuardError> {
    if entries.is_empty() {
        return Ok(None);
    }
    let (keys, values): (Vec<K>, Vec<u32>) = entries.iter().copied().unzip();
    filled(HASH, NO_PREALLOC, entries.len(), &keys, &values).map(Some)
}

fn trie<K, const N: usize>(table: &AddressTable<K, N>) -> Result<Option<OwnedFd>, GuardError> {
    if table.prefixes.is_empty() {
        return Ok(None);
    }
    let mut keys = Vec::with_capacity(table.prefixes.len() * (N + 4));
    for ((length, octets), _) in &table.prefixes {
        keys.extend_from_slice(&length.to_ne_bytes());
        keys.extend_from_slice(octets);
    }
    let values: Vec<u32> = table.prefixes.iter().map(|(_, value)| *value).collect();
    filled_by(LPM_TRIE, NO_PREALLOC, table.prefixes.len(), (N + 4, &keys), &values).map(Some)
}

/// An array of so many elements, the first of which are given.
fn array<V: Pod>(entries: u32, values: &[V]) -> Result<OwnedFd, GuardError> {
    let keys: Vec<u32> = (0..values.len() as u32).collect();
    filled(ARRAY, 0, entries as usize, &keys, values)
}

fn filled<K: Pod, V: Pod>(
    kind: u32,
    flags: u32,
    entries: usize,
    keys: &[K],
    values: &[V],
) -> Result<OwnedFd, GuardError> {
    filled_by(kind, flags, entries, (size_of::<K>(), bytemuck::cast_slice(keys)), values)
}

fn filled_by<V: Pod>(
    kind: u32,
    flags: u32,
    entries: usize,
    (key, keys): (usize, &[u8]),
    values: &[V],
) -> Result<OwnedFd, GuardError> {
    let failed = |source| GuardError::Map { what: "a rule set", source };
    let shape = Shape { kind, key, value: size_of::<V>(), entries: entries as u32, flags };
    let map = sys::create_map(&shape).map_err(failed)?;
    sys::update_batch(map.as_fd(), keys, bytemuck::cast_slice(values), values.len() as u32)
        .map_err(failed)?;
    Ok(map)
}
