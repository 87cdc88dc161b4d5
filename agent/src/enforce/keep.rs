//! What of policies must outlive the agent and the node: the last confirmed ones, and those that were tried last.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::durable;
use crate::model::policy::Source;

/// Policies as they were put into force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The number of the set.
    pub(super) generation: u32,
    /// The policies.
    pub(super) sources: Vec<Source>,
}

/// State cannot be kept.
#[derive(Debug, Error)]
#[error("cannot {doing} {path}")]
pub(super) struct KeepError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The folder in which state is kept.
#[derive(Clone, Debug)]
pub(super) struct Keep(PathBuf);

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// The last that were confirmed.
    Confirmed,
    /// The last that were put into force to be confirmed.
    Tried,
}

impl Which {
    fn file(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed.json",
            Self::Tried => "tried.json",
        }
    }
}

impl Keep {
    /// Below the agent's state folder.
    pub(super) fn new(state: &Path) -> Self {
        Self(state.join("policy"))
    }

    /// What was kept; `None` where nothing was.
    ///
    /// # Errors
    /// When the file cannot be read or is not what was written.
    pub(super) fn load(&self, which: Which) -> Result<Option<Saved>, KeepError> {
        let path = self.0.join(which.file());
        let failed = |source| KeepError { doing: "read", path: path.clone(), source };
        match fs::read(&path) {
            Ok(octets) => {
                serde_json::from_slice(&octets).map(Some).map_err(|error| failed(io::Error::other(error)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps it: the old file stays until the new one is whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self, which: Which, saved: &Saved) -> Result<(), KeepError> {
        let path = self.0.join(which.file());
        let failed = |source| KeepError { doing: "write", path: path.clone(), source };
        let octets = serde_json::to_vec(saved).map_err(|error| failed(io::Error::other(error)))?;
        let written = match which {
            Which::Confirmed => durable::replace_on_disk(&path, &octets),
            // Of use only while the kernel still has it: not after a node that went down.
            Which::Tried => durable::replace(&path, &octets),
        };
        written.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::new(folder.path());
        assert!(keep.load(Which::Confirmed).unwrap().is_none());
        let saved = Saved { generation: 7, sources: Vec::new() };
        keep.save(Which::Confirmed, &saved).unwrap();
        assert_eq!(keep.load(Which::Confirmed).unwrap(), Some(saved));
        assert!(keep.load(Which::Tried).unwrap().is_none());
        fs::write(folder.path().join("policy/tried.json"), "{").unwrap();
        assert!(keep.load(Which::Tried).unwrap_err().to_string().contains("tried.json"));
    }
}
