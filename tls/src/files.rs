//! The files of a mounted Secret, read as one.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// How often files are read again that change while they are read.
const TRIES: usize = 3;

/// Where certificate, key and authority are.
#[derive(Clone, Debug)]
pub struct Files([PathBuf; 3]);

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct FileError {
    /// Which one.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// What tells one content of the files from another, without reading it: device, inode, change, length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp([Option<[u64; 5]>; 3]);

/// What the files hold. There need not be an authority.
pub(crate) struct Texts {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) authority: Option<Vec<u8>>,
}

impl Files {
    /// The files of a Secret of type `kubernetes.io/tls` that is mounted as this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self(["tls.crt", "tls.key", "ca.crt"].map(|name| folder.join(name)))
    }

    /// Where the authority is.
    pub(crate) fn authority(&self) -> &Path {
        &self.0[2]
    }

    pub(crate) fn certificate(&self) -> &Path {
        &self.0[0]
    }

    pub(crate) fn key(&self) -> &Path {
        &self.0[1]
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.0.each_ref().map(|path| {
            let about = fs::metadata(path).ok()?;
            let changed = [about.mtime().unsigned_abs(), about.mtime_nsec().unsigned_abs()];
            Some([about.dev(), about.ino(), changed[0], changed[1], about.len()])
        }))
    }

    /// Reads them. The kubelet swaps all of them at once, by a link: where that falls between two readings they are read again.
    pub(crate) fn read(&self) -> (Stamp, Result<Texts, FileError>) {
        let mut stamp = self.stamp();
        let mut texts = self.texts();
        for _ in 1..TRIES {
            let now = self.stamp();
            if now == stamp {
                break;
            }
            (stamp, texts) = (now, self.texts());
        }
        (stamp, texts)
    }

    fn texts(&self) -> Result<Texts, FileError> {
        let authority = match read(self.authority()) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
            read => Some(read?),
        };
        Ok(Texts { certificate: read(self.certificate())?, key: read(self.key())?, authority })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError { path: path.to_owned(), source })
}
