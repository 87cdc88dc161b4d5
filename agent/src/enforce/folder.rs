//! Policies from a file or a folder, with the files of prefixes that they name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use crate::model::policy::kind::{API_VERSION, DatapathPolicy, KIND};
use crate::model::policy::{Problem, Reason, Source};

/// Octets of one policy file.
const LARGEST: u64 = 64 << 20;

/// The path cannot be read at all.
#[derive(Debug, Error)]
#[error("cannot read policies from {path}")]
pub struct FolderError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// The policies.
    pub sources: Vec<Source>,
    /// Files and documents that are none; they stand in nobody's way.
    pub problems: Vec<Problem>,
}

/// Files as they were when they were read: they are read again only when one differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(BTreeMap<PathBuf, Option<(SystemTime, u64)>>);

impl Stamp {
    fn add(&mut self, path: &Path) {
        let seen = fs::metadata(path).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        self.0.insert(path.to_owned(), seen);
    }

    /// Whether all is as it was: the same files, of the same age and size.
    pub(super) fn holds(&self, path: &Path) -> bool {
        let listed = files(path).unwrap_or_default();
        listed.iter().all(|path| self.0.contains_key(path))
            && self.0.iter().all(|(path, seen)| {
                let mut now = Self::default();
                now.add(path);
                now.0.get(path) == Some(seen)
            })
    }
}

/// Reads a file of policies, or all `.yaml`, `.yml` and `.json` files of a folder.
///
/// # Errors
/// When the path cannot be read. What is wrong in one document is told and leaves the others alone.
pub fn read(path: &Path) -> Result<(Read, Stamp), FolderError> {
    let failed = |source| FolderError { path: path.to_owned(), source };
    let (mut read, mut stamp) = (Read::default(), Stamp::default());
    for file in files(path).map_err(failed)? {
        stamp.add(&file);
        match text(&file) {
            Ok(text) => documents(&file, &text, &mut read, &mut stamp),
            Err(error) => read.problems.push(not_a_policy(&file, &error.to_string())),
        }
    }
    Ok((read, stamp))
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn text(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > LARGEST {
        return Err(io::Error::other(format!("it has {length} octets; {LARGEST} are read")));
    }
    fs::read_to_string(path)
}

fn documents(file: &Path, text: &str, read: &mut Read, stamp: &mut Stamp) {
    // A separator at the start of a line; prefixes never begin with one.
    for document in text.split("\n---").map(|text| text.trim_start_matches("---")) {
        let blank = document.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if blank {
            continue;
        }
        match serde_saphyr::from_str::<DatapathPolicy>(document) {
            Ok(policy) if policy.api_version != API_VERSION || policy.kind != KIND => {
                let text = format!(
                    "it is {} of {}; {KIND} of {API_VERSION} is read here",
                    policy.kind, policy.api_version
                );
                read.problems.push(not_a_policy(file, &text));
            }
            Ok(policy) => {
                let files = sets(file, &policy, stamp);
                read.sources.push(Source { policy, files });
            }
            Err(error) => read.problems.push(not_a_policy(file, &error.to_string())),
        }
    }
}

/// The texts of a policy's files of prefixes.
fn sets(file: &Path, policy: &DatapathPolicy, stamp: &mut Stamp) -> BTreeMap<String, Result<String, String>> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let names = policy.spec.sets.iter().filter_map(|set| set.file.clone());
    names
        .map(|name| {
            let path = folder.join(&name);
            stamp.add(&path);
            (name, text(&path).map_err(|error| error.to_string()))
        })
        .collect()
}

fn not_a_policy(file: &Path, text: &str) -> Problem {
    let policy = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = text.lines().next().unwrap_or_default().to_owned();
    Problem { policy, field: String::new(), reason: Reason::NotAPolicy, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {name: one}\nspec:\n  sets: [{name: bad, file: bad.txt}]\n";

    #[test]
    fn a_broken_document_leaves_the_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("# first\n---\n{POLICY}---\nkind: Pod\n---\nspec: [\n");
        fs::write(folder.path().join("a.yaml"), text).unwrap();
        fs::write(folder.path().join("b.yaml"), POLICY.replace("one", "two")).unwrap();
        fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
        fs::write(folder.path().join("bad.txt"), "192.0.2.1\n").unwrap();
        let (read, stamp) = read(folder.path()).unwrap();
        let names: Vec<_> = read.sources.iter().map(|one| one.policy.metadata.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(read.problems.len(), 2, "{:?}", read.problems);
        assert_eq!(read.sources[0].files["bad.txt"], Ok("192.0.2.1\n".to_owned()));
        assert!(stamp.holds(folder.path()));
        fs::write(folder.path().join("bad.txt"), "192.0.2.1\n192.0.2.2\n").unwrap();
        assert!(!stamp.holds(folder.path()), "a set's file counts");
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = read(Path::new("/nowhere/policy.yaml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/policy.yaml"));
    }
}
