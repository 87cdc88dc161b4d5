//! Manifests: objects of the Kubernetes API as files in folders.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use walkdir::{DirEntry, Error, WalkDir};

/// Files of more octets than this are not read.
pub const LARGEST: u64 = 64 << 20;

/// The manifests below a path, and what of it cannot be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// `*.yaml`, `*.yml` and `*.json`, sorted, so that their order never depends on the file system's.
    pub files: Vec<PathBuf>,
    /// Places, and why each cannot be looked at.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Finds the manifests in a folder and all folders below it, or the one file that the path names. Links are followed, but not in
/// a circle; what has a hidden name (`.git`, swap files, the folders behind the links of a mounted ConfigMap) is left out.
#[must_use]
pub fn find(root: &Path) -> Found {
    let mut found = Found::default();
    let seen = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(seen) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && (entry.depth() == 0 || is_manifest(entry.path())) => {
                found.files.push(entry.into_path());
            }
            Ok(_) => {}
            Err(error) if leads_nowhere(&error) => {}
            Err(error) => {
                let place = error.path().unwrap_or(root).to_owned();
                let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                found.unreadable.push((place, why));
            }
        }
    }
    found.files.sort();
    found.unreadable.sort();
    found
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
}

/// A link to nothing, where no manifest is meant.
fn leads_nowhere(error: &Error) -> bool {
    let missing = error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    missing && error.depth() > 0 && !error.path().is_some_and(is_manifest)
}

/// The text of a file.
///
/// # Errors
/// It cannot be read, is not UTF-8, or has more than [`LARGEST`] octets.
pub fn text(file: &Path) -> io::Result<String> {
    let length = fs::metadata(file)?.len();
    if length > LARGEST {
        return Err(io::Error::other(format!("it has {length} octets; {LARGEST} are read")));
    }
    fs::read_to_string(file)
}

/// The documents of a text, each with its number (from 1) and content. Each is parsed by itself: a bad one does not hide its
/// neighbours.
pub fn documents(text: &str) -> impl Iterator<Item = (usize, Result<Value, String>)> {
    let blank =
        |part: &str| part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let parts = split(text).into_iter().enumerate().filter(move |(_, part)| !blank(part));
    parts.map(|(at, part)| {
        (at + 1, serde_saphyr::from_str(&part).map_err(|error| first_line(&error.to_string())))
    })
}

/// Parser errors quote the manifest below their first line, and a manifest may hold secrets.
fn first_line(error: &str) -> String {
    error.lines().next().unwrap_or("not YAML").to_owned()
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") || line.starts_with("---\t") {
            parts.push(line[3..].to_owned());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
        if let Some(part) = parts.last_mut() {
            part.push('\n');
        }
    }
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(found: &Found, root: &Path) -> Vec<String> {
        let name = |file: &PathBuf| file.strip_prefix(root).unwrap().display().to_string();
        found.files.iter().map(name).collect()
    }

    #[test]
    fn links_in_a_circle_are_told_and_end() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        fs::write(root.path().join("b/a.yaml"), "").unwrap();
        for link in ["one", "two", "three"] {
            symlink(root.path(), root.path().join("b").join(link)).unwrap();
        }
        let found = find(root.path());
        assert_eq!(names(&found, root.path()), ["b/a.yaml"]);
        assert_eq!(found.unreadable.len(), 3, "{:?}", found.unreadable);
        assert!(found.unreadable[0].1.contains("loop"), "{:?}", found.unreadable);
    }

    #[test]
    fn a_mounted_config_map_is_read_once_and_hidden_files_never() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("..2026");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a.yaml"), "").unwrap();
        symlink("..2026", root.path().join("..data")).unwrap();
        symlink("..data/a.yaml", root.path().join("a.yaml")).unwrap();
        fs::write(root.path().join(".b.yaml"), "").unwrap();
        fs::write(root.path().join("notes.txt"), "").unwrap();
        symlink("nowhere", root.path().join("link")).unwrap();
        let found = find(root.path());
        assert_eq!((names(&found, root.path()), found.unreadable.len()), (vec!["a.yaml".to_owned()], 0));
        symlink("nowhere", root.path().join("c.yaml")).unwrap();
        assert_eq!(find(root.path()).unreadable[0].0, root.path().join("c.yaml"), "a manifest is meant");
    }

    #[test]
    fn a_path_may_be_a_file_or_nothing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("objects");
        fs::write(&file, "a: 1\n").unwrap();
        assert_eq!(find(&file).files, [file]);
        let missing = root.path().join("no");
        assert_eq!(find(&missing).unreadable[0].0, missing);
    }

    #[test]
    fn a_bad_document_hides_no_other_and_its_error_quotes_nothing() {
        let read: Vec<_> = documents("# a\n---\na: 1\n--- \nkey: [correct-horse\n---\nb: 2\n").collect();
        assert_eq!(read.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(!read[1].1.as_ref().unwrap_err().contains("horse"));
        assert_eq!(read[2].1.as_ref().unwrap()["b"], 2);
    }
}
