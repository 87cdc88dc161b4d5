//! Links that live on in the BPF file system: opened, replaced and pinned.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::programs::ProgramFd;
use aya::programs::links::FdLink;
use thiserror::Error;

use super::sys;

/// A pinned link cannot be made or replaced.
#[derive(Debug, Error)]
#[error("cannot pin the link of {program}")]
pub struct LinkError {
    program: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The link behind a pin; `None` where there is no pin. Closing it does not detach it, the pin holds it.
pub(super) fn pinned_link(path: &Path, program: &'static str) -> Result<Option<OwnedFd>, LinkError> {
    match sys::open_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LinkError { program, source: error.into() }),
    }
}

/// Puts a program into a link, atomically.
pub(super) fn replace(link: &OwnedFd, program: &ProgramFd) -> std::io::Result<()> {
    sys::link_update(link.as_fd(), program.as_fd())
}

/// Pins a link.
pub(super) fn pin<L>(link: L, path: &Path, program: &'static str) -> Result<(), LinkError>
where
    FdLink: TryFrom<L>,
    <FdLink as TryFrom<L>>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let link = FdLink::try_from(link).map_err(|error| LinkError { program, source: error.into() })?;
    pin_link(link, path, program)
}

/// Pins a link that has been taken out of aya's hands.
pub(super) fn pin_link(link: FdLink, path: &Path, program: &'static str) -> Result<(), LinkError> {
    link.pin(path).map(drop).map_err(|error| LinkError { program, source: error.into() })
}
