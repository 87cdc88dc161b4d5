//! Reads a folder of Kubernetes manifests, with all folders below it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::collect::Collector;
use crate::model::cluster::Cluster;

/// Manifests larger than this are not read.
const LARGEST: u64 = 64 << 20;

/// Reads every `*.yaml`, `*.yml` and `*.json` below `path`, or the one file that it is. What cannot be read is a fault of the
/// result; the rest is used.
pub fn folder(path: &Path) -> Cluster {
    let mut collector = Collector::default();
    let files = manifests(path).unwrap_or_else(|error| {
        collector.unreadable(&path.display().to_string(), error.to_string());
        Vec::new()
    });
    for file in &files {
        let shown = file.strip_prefix(path).ok().filter(|rest| rest.components().next().is_some());
        read(shown.unwrap_or(file), file, &mut collector);
    }
    collector.finish()
}

/// The manifests below a path, sorted, so that their order never depends on the file system's.
pub(super) fn manifests(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    below(path, &mut files)?;
    files.sort();
    Ok(files)
}

fn below(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        // `.git`, editors' swap files, and the folders behind the links of a mounted ConfigMap.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            below(&path, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
}

fn read(shown: &Path, file: &Path, collector: &mut Collector) {
    let place = shown.display().to_string();
    let text = fs::metadata(file).and_then(|about| match about.len() > LARGEST {
        true => Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20))),
        false => fs::read_to_string(file),
    });
    match text {
        Err(error) => collector.unreadable(&place, error.to_string()),
        Ok(text) => documents(&text, |number, document| {
            let place = format!("{place} document {number}");
            match document {
                Ok(value) => collector.document(&place, &value),
                Err(what) => collector.unreadable(&place, what),
            }
        }),
    }
}

/// Calls `visit` with the number and content of each document. Each is parsed by itself: one bad document does not hide its
/// neighbours.
fn documents(text: &str, mut visit: impl FnMut(usize, Result<Value, String>)) {
    for (at, part) in split(text).into_iter().enumerate() {
        if part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            continue;
        }
        // The parser's error quotes the manifest below its first line, and a manifest may hold secrets.
        let first_line = |error: String| error.lines().next().unwrap_or("not YAML").to_owned();
        visit(at + 1, serde_saphyr::from_str(&part).map_err(|error| first_line(error.to_string())));
    }
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
    use super::*;

    const POOL: &str = "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: NAME}\nspec: {blocks: [{cidr: 10.0.0.0/24}]}\n";

    fn write(folder: &Path, file: &str, text: &str) {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn a_bad_document_is_named_and_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "{}---\nfoo: [bar\n---\n# only a comment\n---\n{}",
            POOL.replace("NAME", "a"),
            POOL.replace("NAME", "b")
        );
        write(root.path(), "x/pools.yaml", &text);
        write(root.path(), ".git/pool.yaml", "a: [");
        write(root.path(), "notes.txt", "a: [");
        let cluster = folder(root.path());
        assert_eq!(cluster.pools.len(), 2);
        assert_eq!(cluster.faults.len(), 1, "{:?}", cluster.faults);
        assert_eq!(cluster.faults[0].place, "x/pools.yaml document 2");
    }

    #[test]
    fn a_missing_folder_is_a_fault() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("no");
        assert_eq!(folder(&missing).faults[0].place, missing.display().to_string());
        assert_eq!(folder(root.path()), Cluster::default());
    }

    #[test]
    fn one_file_may_stand_for_a_folder() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "pool.yaml", POOL);
        assert_eq!(folder(&root.path().join("pool.yaml")).pools.len(), 1);
    }
}
