//! Where maps and links live on in the BPF file system while no agent runs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::sys;
use crate::model::address::{Direction, IfIndex};

/// The folder of one agent's pins, held by that agent alone.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// Kept open: the lock ends with it, however the agent ends.
    _lock: File,
}

/// The folder cannot be used.
#[derive(Debug, Error)]
pub enum PinError {
    /// It is not there and cannot be made, or it is not in a BPF file system.
    #[error(
        "{path} cannot hold pinned maps; mount a BPF file system (mount -t bpf bpf /sys/fs/bpf) or give --pin-dir"
    )]
    Unusable {
        /// Which folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is not in a BPF file system.
    #[error("{0} is not in a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf) or give --pin-dir")]
    NotBpf(PathBuf),
    /// Another agent holds it.
    #[error("another agent already uses {0}; stop it, or give this one another --pin-dir")]
    Held(PathBuf),
    /// A pin could not be removed.
    #[error("cannot remove {path}")]
    Remove {
        /// Which pin.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Pins {
    /// Makes the folder if need be and takes hold of it.
    ///
    /// # Errors
    /// When the folder cannot be made, is not in a BPF file system, or is held by another agent.
    pub fn hold(root: &Path) -> Result<Self, PinError> {
        let unusable = |source| PinError::Unusable { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(unusable)?;
        let system = nix::sys::statfs::statfs(root).map_err(|error| unusable(error.into()))?;
        if system.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
            return Err(PinError::NotBpf(root.to_owned()));
        }
        let lock = File::open(root).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PinError::Held(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let pins = Self { root: root.to_owned(), _lock: lock };
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder).map_err(|source| PinError::Unusable { path: folder, source })?;
        }
        Ok(pins)
    }

    /// The folder of the maps of this layout.
    pub fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-{}", weir_ebpf::LAYOUT))
    }

    /// The path of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The folder of the links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The path of the link of a hook.
    pub fn hook(&self, interface: IfIndex, direction: Direction) -> PathBuf {
        self.links().join(format!("{interface}-{direction}"))
    }

    /// The hooks that have a pinned link.
    pub fn hooks(&self) -> Vec<(IfIndex, Direction)> {
        entries(&self.links()).iter().filter_map(|path| hook_of(path)).collect()
    }

    /// Memory of so many octets that lives on while no agent runs, for BFD. It has no layout of the datapath's, so that an
    /// upgrade keeps it; what is in it says of which version it is.
    ///
    /// # Errors
    /// What the kernel says: most often that this process has no CAP_BPF.
    pub fn memory(&self, octets: usize) -> io::Result<OwnedFd> {
        const PLACE: u32 = 4096;
        let folder = self.root.join("memory");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("bfd-{octets}"));
        if path.exists() {
            return sys::open_pin(&path);
        }
        let places = u32::try_from(octets.div_ceil(PLACE as usize)).map_err(io::Error::other)?;
        let made = sys::create_mappable(PLACE, places)?;
        sys::pin(made.as_fd(), &path)?;
        Ok(made)
    }

    /// Removes maps of other layouts: no program of ours uses them any more.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_other_layouts(&self) -> Result<Vec<PathBuf>, PinError> {
        let old: Vec<_> =
            entries(&self.root).into_iter().filter(|path| is_maps(path) && *path != self.maps()).collect();
        old.iter().try_for_each(|path| remove_folder(path))?;
        Ok(old)
    }

    /// Removes everything: links first, which detaches the programs, then maps, then the folder.
    ///
    /// # Errors
    /// When a pin cannot be removed; what is left can be removed again.
    pub fn remove_all(self) -> Result<(), PinError> {
        remove_folder(&self.links())?;
        for path in entries(&self.root) {
            remove_folder(&path)?;
        }
        fs::remove_dir(&self.root).map_err(|source| PinError::Remove { path: self.root.clone(), source })
    }
}

fn is_maps(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("maps-"))
}

fn hook_of(path: &Path) -> Option<(IfIndex, Direction)> {
    let (index, direction) = path.file_name()?.to_str()?.split_once('-')?;
    let direction = Direction::ALL.into_iter().find(|one| one.as_str() == direction)?;
    Some((IfIndex::try_from(index.parse::<u32>().ok()?).ok()?, direction))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn remove_folder(folder: &Path) -> Result<(), PinError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PinError::Remove { path, source }
    };
    if !folder.exists() {
        return Ok(());
    }
    for path in entries(folder) {
        fs::remove_file(&path).map_err(failed(&path))?;
    }
    fs::remove_dir(folder).map_err(failed(folder))
}
