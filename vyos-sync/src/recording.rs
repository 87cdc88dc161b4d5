//! A reconcile as a folder of files that can be planned again anywhere. Secrets are replaced by fingerprints that are
//! the same within one recording and mean nothing outside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    config::{Dialect, Tree},
    pass::Seen,
    plan::Ledger,
    secret,
};

/// What a recording holds besides the manifests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording {
    /// Name of the Router object.
    pub router: String,
    /// The router's syntax.
    pub dialect: Dialect,
    /// What the router held.
    pub running: Tree,
    /// What we had applied last.
    pub ledger: Ledger,
    /// The commands that were planned, as text.
    pub commands: Vec<String>,
}

/// Names inside a recording.
const MANIFESTS: &str = "manifests";
const STATE: &str = "recording.json";
/// How many recordings are kept.
const KEPT: usize = 20;

/// The same value gives the same fingerprint, and nobody who lacks the salt can test guesses.
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn new() -> io::Result<Self> {
        let mut salt = [0; 32];
        io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut salt)?;
        Ok(Self(salt))
    }

    fn of(&self, secret: &[u8]) -> String {
        let digest = Sha256::new().chain_update(self.0).chain_update(secret).finalize();
        digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    fn tree(&self, tree: &Tree) -> Tree {
        let mut hidden = tree.clone();
        for leaf in tree.leaves().into_iter().filter(|leaf| secret::is_secret(&leaf.path)) {
            // The path is a leaf of this very tree, so it can be set.
            let _ = hidden.set(&leaf.path, self.of(leaf.value.unwrap_or_default().as_bytes()));
        }
        hidden
    }

    /// A Secret with its values replaced; any other object as it is.
    fn object(&self, mut object: Value) -> Value {
        if object["kind"] == "List" {
            let items = object["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            object["items"] = items.into_iter().map(|item| self.object(item)).collect();
        }
        if object["kind"] != "Secret" {
            return object;
        }
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
        {
            // kubectl keeps a copy of the whole object there.
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        for (field, encoded) in [("data", true), ("stringData", false)] {
            for value in object[field].as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
                let text = value.as_str().unwrap_or_default().as_bytes();
                let plain = if encoded { STANDARD.decode(text).unwrap_or_default() } else { text.to_vec() };
                let end = plain.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |at| at + 1);
                let print = self.of(&plain[..end]);
                *value = if encoded { STANDARD.encode(print).into() } else { print.into() };
            }
        }
        object
    }
}

/// Records what was seen and planned, below `folder`; gives the recording's place. Old ones go.
///
/// # Errors
/// Something cannot be read or written.
pub fn record(folder: &Path, name: &str, router: &str, source: &Path, seen: &Seen) -> io::Result<PathBuf> {
    let place = folder.join(name);
    let print = Fingerprint::new()?;
    copy(source, &place.join(MANIFESTS), &print)?;
    let ledger = Ledger {
        owned: print.tree(&seen.ledger.owned),
        pending: print.tree(&seen.ledger.pending),
        ..seen.ledger.clone()
    };
    let commands = seen.plan.commands.iter().map(|c| secret::redacted(c).to_string()).collect();
    let running = print.tree(&seen.running);
    let state =
        Recording { router: router.to_owned(), dialect: seen.plan.dialect, running, ledger, commands };
    fs::write(place.join(STATE), serde_json::to_vec_pretty(&state)?)?;
    drop_old(folder)?;
    Ok(place)
}

/// Opens a recording: the folder of its manifests, and the rest.
///
/// # Errors
/// It is none.
pub fn open(place: &Path) -> io::Result<(PathBuf, Recording)> {
    let file = place.join(STATE);
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display()));
    let text = fs::read(&file).map_err(|e| bad(e.to_string()))?;
    Ok((place.join(MANIFESTS), serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?))
}

fn copy(from: &Path, to: &Path, print: &Fingerprint) -> io::Result<()> {
    if !from.is_dir() {
        let name = from.file_name().unwrap_or_default();
        fs::create_dir_all(to)?;
        return copy_file(from, &to.join(name), print);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        match path.is_dir() {
            true => copy(&path, &to.join(&name), print)?,
            false if [".yaml", ".yml", ".json"].iter().any(|e| name.ends_with(e)) => {
                copy_file(&path, &to.join(&name), print)?;
            }
            false => {}
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, print: &Fingerprint) -> io::Result<()> {
    let text = fs::read_to_string(from)?;
    let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&text);
    let hidden = match documents {
        Ok(documents) => {
            let documents = documents.into_iter().map(|d| print.object(d).to_string());
            documents.collect::<Vec<_>>().join("\n---\n")
        }
        // What cannot be read may hold anything, so only its being unreadable is kept.
        Err(_) => "{ unreadable when it was recorded".to_owned(),
    };
    // Every JSON document is a YAML document too, whatever the file's ending.
    fs::write(to.with_extension("yaml"), hidden)
}

fn drop_old(folder: &Path) -> io::Result<()> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    names.sort();
    names.iter().take(names.len().saturating_sub(KEPT)).try_for_each(fs::remove_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_become_fingerprints_that_still_match() {
        let print = Fingerprint::new().unwrap();
        let object = json!({"kind": "List", "items": [
            {"kind": "Secret", "data": {"password": STANDARD.encode("hunter2\n")}, "stringData": {"other": "hunter2"}},
            {"kind": "ConfigMap", "data": {"a": "b"}},
        ]});
        let hidden = print.object(object);
        let text = hidden.to_string();
        assert!(!text.contains("hunter2") && !text.contains(&STANDARD.encode("hunter2\n")));
        assert_eq!(hidden["items"][1]["data"]["a"], "b");
        let mut tree = Tree::new();
        let path = "protocols bgp neighbor 10.0.0.1 password".parse().unwrap();
        tree.set(&path, "hunter2").unwrap();
        let same = hidden["items"][0]["stringData"]["other"].as_str().unwrap().to_owned();
        assert_eq!(print.tree(&tree).at(&path).and_then(|n| n.first()), Some(same.as_str()));
        assert_ne!(Fingerprint::new().unwrap().of(b"hunter2"), same);
    }

    #[test]
    fn manifests_are_copied_and_old_recordings_go() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/a.yml"), "kind: Secret\nstringData: {k: topsecret}\n---\nkind: Node\n")
            .unwrap();
        fs::write(from.join("bad.yaml"), "kind: Secret\nstringData: {k: topsecret").unwrap();
        copy(&from, &to, &Fingerprint::new().unwrap()).unwrap();
        let all = fs::read_to_string(to.join("sub/a.yaml")).unwrap()
            + &fs::read_to_string(to.join("bad.yaml")).unwrap();
        assert!(!all.contains("topsecret") && all.contains("Node"), "{all}");
        let recordings = folder.path().join("recordings");
        (0..KEPT + 3).for_each(|i| fs::create_dir_all(recordings.join(format!("{i:03}"))).unwrap());
        drop_old(&recordings).unwrap();
        assert_eq!(fs::read_dir(&recordings).unwrap().count(), KEPT);
    }
}
