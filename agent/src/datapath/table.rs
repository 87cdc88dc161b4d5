//! A pinned map as a typed table, read in batches: one system call for hundreds of entries.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::MapData;
use bytemuck::{Pod, Zeroable};
use thiserror::Error;

use super::sys;

/// Entries a batch. Hash maps need room for a whole bucket; this grows where it is not enough.
const BATCH: usize = 1024;

/// A map of keys `K` and values `V`. Per-CPU maps have a value for each possible CPU.
pub struct Table<K, V> {
    name: String,
    map: MapData,
    capacity: u32,
    cpus: usize,
    types: PhantomData<fn() -> (K, V)>,
}

/// A map could not be used.
#[derive(Debug, Error)]
#[error("cannot {doing} map {map}")]
pub struct TableError {
    doing: &'static str,
    map: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Opens a pinned map whose values are shared by all CPUs.
    ///
    /// # Errors
    /// When there is no such pin or the sizes of keys and values differ.
    pub fn shared(path: &Path) -> Result<Self, TableError> {
        Self::open(path, 1)
    }

    /// Opens a pinned map with a value a CPU.
    ///
    /// # Errors
    /// When there is no such pin, the sizes differ, or the number of possible CPUs cannot be read.
    pub fn per_cpu(path: &Path) -> Result<Self, TableError> {
        let name = path.display().to_string();
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed("open", &name)(error))?;
        Self::open(path, cpus)
    }

    fn open(path: &Path, cpus: usize) -> Result<Self, TableError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let map = MapData::from_pin(path).map_err(|error| failed("open", &name)(error))?;
        let info = map.info().map_err(|error| failed("open", &name)(error))?;
        let (key, value) = (size_of::<K>() as u32, size_of::<V>() as u32);
        if info.key_size() != key || info.value_size() != value {
            let sizes =
                format!("it has keys of {} and values of {} octets", info.key_size(), info.value_size());
            return Err(failed("use", &name)(io::Error::other(sizes)));
        }
        Ok(Self { name, capacity: info.max_entries(), map, cpus, types: PhantomData })
    }

    /// How many entries the map can hold.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The map's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// An error of this map.
    pub(super) fn failed(&self, doing: &'static str, error: impl Into<io::Error>) -> TableError {
        failed(doing, &self.name)(error.into())
    }

    /// All values of one key, one a CPU; `None` where there is no such key.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read(&self, key: &K) -> Result<Option<Vec<V>>, TableError> {
        let mut values = vec![0u8; self.stride() * self.cpus];
        match sys::lookup(self.fd(), bytemuck::bytes_of(key), &mut values) {
            Ok(()) => Ok(Some(self.split(&values).collect())),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(failed("read", &self.name)(error)),
        }
    }

    /// Writes a value; in a per-CPU map the same one for every CPU.
    ///
    /// # Errors
    /// When the map is full or the kernel refuses.
    pub fn write(&self, key: &K, value: &V) -> Result<(), TableError> {
        let mut values = Vec::with_capacity(self.stride() * self.cpus);
        for _ in 0..self.cpus {
            values.extend_from_slice(bytemuck::bytes_of(value));
            values.resize(values.len().next_multiple_of(if self.cpus > 1 { 8 } else { 1 }), 0);
        }
        sys::update(self.fd(), bytemuck::bytes_of(key), &values, 0)
            .map_err(|error| failed("write", &self.name)(error))
    }

    /// Removes an entry; one that is not there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, key: &K) -> Result<(), TableError> {
        match sys::delete(self.fd(), bytemuck::bytes_of(key)) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                Err(failed("change", &self.name)(error))
            }
            _ => Ok(()),
        }
    }

    /// Visits all entries. `visit` gets a key and its values, one a CPU. Entries that come or go meanwhile may or may not
    /// be among them; after a resize of the batch an entry may be visited twice.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn visit(&self, mut visit: impl FnMut(K, &mut dyn Iterator<Item = V>)) -> Result<(), TableError> {
        let mut room = BATCH.min(self.capacity().max(1) as usize);
        let stride = self.stride() * self.cpus;
        let (mut keys, mut values) = (vec![0u8; room * size_of::<K>()], vec![0u8; room * stride]);
        let mut position = None;
        loop {
            let (before, mut count) = (position, room as u32);
            let last = match sys::lookup_batch(self.fd(), &mut position, &mut keys, &mut values, &mut count) {
                Ok(last) => last,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 20 => {
                    room *= 2;
                    keys.resize(room * size_of::<K>(), 0);
                    values.resize(room * stride, 0);
                    position = before;
                    continue;
                }
                Err(error) => return Err(failed("read", &self.name)(error)),
            };
            let entries =
                keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(stride)).take(count as usize);
            for (key, values) in entries {
                visit(bytemuck::pod_read_unaligned(key), &mut self.split(values));
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Octets from one CPU's value to the next: the kernel rounds per-CPU values up to eight.
    fn stride(&self) -> usize {
        if self.cpus == 1 { size_of::<V>() } else { size_of::<V>().next_multiple_of(8) }
    }

    fn split<'a>(&self, values: &'a [u8]) -> impl Iterator<Item = V> + use<'a, K, V> {
        values.chunks_exact(self.stride()).map(|value| bytemuck::pod_read_unaligned(&value[..size_of::<V>()]))
    }
}

impl<V: Pod + Zeroable> Table<[u8; 0], V> {
    /// Puts an element at the end of a queue.
    ///
    /// # Errors
    /// When the queue is full or the kernel refuses.
    pub fn push(&self, value: &V) -> Result<(), TableError> {
        sys::update(self.fd(), &[], bytemuck::bytes_of(value), 0)
            .map_err(|error| failed("write", &self.name)(error))
    }

    /// Takes the first element of a queue; `None` when it is empty.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pop(&self) -> Result<Option<V>, TableError> {
        let mut value = V::zeroed();
        match sys::pop(self.fd(), bytemuck::bytes_of_mut(&mut value)) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(failed("read", &self.name)(error)),
        }
    }
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    doing: &'static str,
    map: &str,
) -> impl FnOnce(E) -> TableError {
    let map = map.to_owned();
    move |source| TableError { doing, map, source: source.into() }
}
