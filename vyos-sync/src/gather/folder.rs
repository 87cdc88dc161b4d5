//! Reads a folder of Kubernetes manifests, with all folders below it.

use crate::inputs::{ClusterName, Collector, Inputs};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Reads every `*.yaml`, `*.yml` and `*.json` below `path`, or the one file that it is.
///
/// An object below a folder `clusters/NAME/` belongs to the cluster NAME, unless its label or annotation
/// `weir.dev/cluster` says another; all other objects belong to the cluster `local`. What cannot be read is a
/// fault and makes the inputs incomplete; the rest is used.
#[must_use]
pub fn folder(path: &Path) -> Inputs {
    let mut collector = Collector::default();
    let mut files = Vec::new();
    if let Err(error) = files_below(path, &mut files) {
        collector.unreadable(&path.display().to_string(), error.to_string());
    }
    files.sort();
    for file in &files {
        read_file(path, file, &mut collector);
    }
    collector.finish()
}

/// Reads one text of manifests, as a file of that name would be read.
#[must_use]
pub fn text(place: &str, text: &str) -> Inputs {
    let mut collector = Collector::default();
    read_text(place, &ClusterName::local(), text, &mut collector);
    collector.finish()
}

fn files_below(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        // `.git` and editors' swap files are no manifests.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            files_below(&path, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
}

fn read_file(root: &Path, file: &Path, collector: &mut Collector) {
    let shown =
        file.strip_prefix(root).ok().filter(|rest| rest.components().next().is_some()).unwrap_or(file);
    let cluster = cluster_of(shown);
    match fs::read_to_string(file) {
        Err(error) => collector.unreadable(&shown.display().to_string(), error.to_string()),
        Ok(text) => read_text(&shown.display().to_string(), &cluster, &text, collector),
    }
}

fn read_text(file: &str, cluster: &ClusterName, text: &str, collector: &mut Collector) {
    documents(text, |number, document| {
        let place = format!("{file} document {number}");
        match document {
            Ok(value) => collector.document(&place, cluster, value),
            Err(what) => collector.unreadable(&place, what),
        }
    });
}

fn cluster_of(file: &Path) -> ClusterName {
    let words: Vec<_> = file.iter().filter_map(OsStr::to_str).collect();
    let named = words.windows(3).find(|three| three[0] == "clusters").map(|three| three[1]);
    named.map_or_else(ClusterName::local, ClusterName::from)
}

/// Calls `visit` with the number and content of each document. Each is parsed by itself: one bad document does not
/// hide its neighbours.
fn documents(text: &str, mut visit: impl FnMut(usize, Result<Value, String>)) {
    for (at, part) in split(text).into_iter().enumerate() {
        if part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            continue;
        }
        visit(at + 1, serde_saphyr::from_str(&part).map_err(|error| first_line(&error.to_string())));
    }
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
mod tests {
    use super::*;
    use crate::inputs::Completeness;

    const POOL: &str = "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: NAME}\nspec: {blocks: [{cidr: 10.0.0.0/24}]}\n";

    fn write(folder: &Path, file: &str, text: &str) {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn a_bad_document_does_not_hide_its_neighbours() {
        let folder_ = tempfile::tempdir().unwrap();
        let text = format!(
            "{}---\nfoo: [bar\n---\n# only a comment\n---\n{}",
            POOL.replace("NAME", "a"),
            POOL.replace("NAME", "b")
        );
        write(folder_.path(), "x/pools.yaml", &text);
        let inputs = folder(folder_.path());
        assert_eq!(inputs.pools.len(), 2);
        assert_eq!(inputs.completeness, Completeness::Incomplete);
        assert!(inputs.faults[0].place.contains("x/pools.yaml document 2"), "{:?}", inputs.faults);
    }

    #[test]
    fn an_empty_or_missing_folder_is_incomplete() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(folder(empty.path()).completeness, Completeness::Incomplete);
        assert_eq!(folder(&empty.path().join("no")).completeness, Completeness::Incomplete);
    }

    #[test]
    fn clusters_are_told_by_folder() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "clusters/media/apps/pool.yml", &POOL.replace("NAME", "a"));
        write(root.path(), "pool.yaml", &POOL.replace("NAME", "a"));
        write(root.path(), ".git/pool.yaml", "a: [");
        let inputs = folder(root.path());
        let clusters: Vec<_> = inputs.pools.iter().map(|pool| pool.id.cluster.as_str()).collect();
        assert_eq!((clusters, inputs.completeness), (vec!["local", "media"], Completeness::Complete));
    }

    #[test]
    fn json_is_a_manifest_too() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "node.json",
            r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"status":{"addresses":[{"type":"InternalIP","address":"FD00:0::1"}]}}"#,
        );
        assert_eq!(
            folder(root.path()).nodes[0].spec.addresses,
            ["fd00::1".parse::<std::net::IpAddr>().unwrap()]
        );
    }
}
