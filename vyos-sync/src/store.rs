//! Edge: the state folder. Ledger and RouterChanges as files, each replaced as a whole and synced to disk.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    apply::Record,
    crd::{ChangePhase, ChangeResult, RouterChange},
    secret::Seal,
};

/// The state of one router.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    router: String,
    mirror: Option<Arc<dyn Mirror>>,
}

/// Where the state is kept besides the folder, so that another controller can go on from it. It is written before the folder
/// is: what is not in it has not happened.
pub trait Mirror: std::fmt::Debug + Send + Sync {
    /// Keeps a document, such as the ledger.
    ///
    /// # Errors
    /// It is not kept. Nothing may be sent to the router then.
    fn put(&self, name: &str, document: &[u8]) -> io::Result<()>;
    /// Keeps the record of a change.
    ///
    /// # Errors
    /// It is not kept. Nothing may be sent to the router then.
    fn keep(&self, record: &Record) -> io::Result<()>;
    /// Forgets the record of an old change.
    ///
    /// # Errors
    /// It is still there.
    fn forget(&self, change: &str) -> io::Result<()>;
}

/// Where the key is under which secrets are remembered.
const SEAL: &str = "seal.key";
/// How many RouterChanges are kept.
const KEPT: usize = 100;

impl Store {
    /// The state of a router below the state folder. The folders are made, readable by their owner alone.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn open(state: &Path, router: &str) -> io::Result<Self> {
        let folder = state.join(router);
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(folder.join("changes"))?;
        Ok(Self { folder, router: router.to_owned(), mirror: None })
    }

    /// Keeps all that is written from now on in another place too.
    #[must_use]
    pub fn mirrored(mut self, mirror: Arc<dyn Mirror>) -> Self {
        self.mirror = Some(mirror);
        self
    }

    /// A document of the state, such as the ledger. `None` where it was never written.
    ///
    /// # Errors
    /// It cannot be read or understood: the error names the file.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        read(&self.folder.join(name))
    }

    /// Puts a document back as a mirror has it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn restore(&self, name: &str, document: &[u8]) -> io::Result<()> {
        replace(&self.folder.join(name), document)
    }

    /// Replaces a document of the state.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let document = serde_json::to_vec_pretty(value)?;
        if let Some(mirror) = &self.mirror {
            mirror.put(name, &document)?;
        }
        replace(&self.folder.join(name), &document)
    }

    /// The key under which this state remembers secrets; made where there is none. Without it a password that was
    /// changed on the router cannot be told from one that was changed in the source.
    ///
    /// # Errors
    /// It can neither be read nor made.
    pub fn seal(&self) -> io::Result<Seal> {
        let file = self.folder.join(SEAL);
        let bytes = match fs::read(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut key)?;
                if let Some(mirror) = &self.mirror {
                    mirror.put(SEAL, &key)?;
                }
                replace(&file, &key)?;
                return Ok(Seal::new(key));
            }
            read => read?,
        };
        let key = <[u8; 32]>::try_from(bytes.as_slice());
        key.map(Seal::new).map_err(|_| {
            let why = format!("{}: it is no key of 32 bytes; remove it", file.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }

    /// Removes a document of the state; fine where there is none.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Writes a change's record as a RouterChange, and drops the oldest ones.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, record: &Record) -> io::Result<()> {
        if let Some(mirror) = &self.mirror {
            mirror.keep(record)?;
        }
        let change = record.to_object();
        let text = serde_saphyr::to_string(&change).map_err(|e| io::Error::other(e.to_string()))?;
        replace(&self.change_file(&record.name), text.as_bytes())?;
        let names = self.change_names()?;
        for old in names.iter().take(names.len().saturating_sub(KEPT)) {
            if let Some(mirror) = &self.mirror {
                mirror.forget(old)?;
            }
            fs::remove_file(self.change_file(old))?;
        }
        Ok(())
    }

    /// The records, oldest first.
    ///
    /// # Errors
    /// One cannot be read: the error names the file.
    pub fn records(&self) -> io::Result<Vec<Record>> {
        self.change_names()?.iter().map(|name| self.record(name)).collect()
    }

    /// The newest change that still waits for an end.
    ///
    /// # Errors
    /// As [`Self::records`].
    pub fn open_record(&self) -> io::Result<Option<Record>> {
        Ok(self.records()?.into_iter().rev().find(Record::is_open))
    }

    /// Why this plan must not be sent again: it failed before, unchanged.
    ///
    /// # Errors
    /// As [`Self::records`].
    pub fn quarantine(&self, plan_hash: &str) -> io::Result<Option<String>> {
        let failed = |r: &Record| {
            r.plan_hash == plan_hash
                && r.result == Some(ChangeResult::Failed)
                && !matches!(r.phase, ChangePhase::Planned | ChangePhase::Armed)
        };
        let found = self.records()?.into_iter().rev().find(failed);
        Ok(found.map(|r| format!("this very plan failed as `{}`: {}", r.name, r.message)))
    }

    fn record(&self, name: &str) -> io::Result<Record> {
        let file = self.change_file(name);
        let bad =
            |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display()));
        let text = fs::read_to_string(&file).map_err(|e| bad(e.to_string()))?;
        let change: RouterChange = serde_saphyr::from_str(&text).map_err(|e| bad(e.to_string()))?;
        Record::of_object(&change).ok_or_else(|| bad(format!("it is no RouterChange of `{}`", self.router)))
    }

    fn change_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.join("changes"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".yaml").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn change_file(&self, name: &str) -> PathBuf {
        self.folder.join("changes").join(format!("{name}.yaml"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    };
    let bad = |e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).map(Some).map_err(bad)
}

/// Writes beside, syncs, renames: a crash leaves the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The rename itself must survive a power cut too.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Guard;

    fn record(name: &str, phase: ChangePhase, result: Option<ChangeResult>) -> Record {
        let started: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        Record {
            name: name.to_owned(),
            router: "gw".to_owned(),
            plan_hash: "abc".to_owned(),
            commands: vec!["set a b 'c d'".to_owned()],
            undo: vec!["delete a".to_owned()],
            owners: vec!["RouterNetwork/x/y".to_owned()],
            guard: Guard::Reboot,
            started,
            deadline: started + jiff::SignedDuration::from_mins(5),
            phase,
            result,
            ended: result.map(|_| started),
            message: "because".to_owned(),
        }
    }

    #[test]
    fn records_read_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "gw").unwrap();
        let (open, ended) = (
            record("gw-2", ChangePhase::Sent, None),
            record("gw-1", ChangePhase::Saved, Some(ChangeResult::Applied)),
        );
        store.keep(&open).unwrap();
        store.keep(&ended).unwrap();
        assert_eq!(store.records().unwrap(), [ended, open.clone()]);
        assert_eq!(store.open_record().unwrap(), Some(open));
    }

    #[test]
    fn only_what_reached_the_router_is_quarantined() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "gw").unwrap();
        store.keep(&record("gw-1", ChangePhase::Planned, Some(ChangeResult::Failed))).unwrap();
        store.keep(&record("gw-2", ChangePhase::Sent, Some(ChangeResult::Unknown))).unwrap();
        assert_eq!(store.quarantine("abc").unwrap(), None);
        store.keep(&record("gw-3", ChangePhase::RolledBack, Some(ChangeResult::Failed))).unwrap();
        assert!(store.quarantine("abc").unwrap().unwrap().contains("gw-3"));
        assert_eq!(store.quarantine("other").unwrap(), None);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "gw").unwrap();
        for i in 0..KEPT + 5 {
            store
                .keep(&record(&format!("gw-{i:04}"), ChangePhase::Saved, Some(ChangeResult::Applied)))
                .unwrap();
        }
        let names = store.change_names().unwrap();
        assert_eq!((names.len(), names[0].as_str()), (KEPT, "gw-0005"));
    }

    #[test]
    fn a_spoilt_ledger_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "gw").unwrap();
        assert_eq!(store.read::<Vec<u8>>("ledger.json").unwrap(), None);
        fs::write(folder.path().join("gw/ledger.json"), "{").unwrap();
        assert!(store.read::<Vec<u8>>("ledger.json").unwrap_err().to_string().contains("ledger.json"));
    }
}
