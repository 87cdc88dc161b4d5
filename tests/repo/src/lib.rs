//! The files of this repository, for tests that hold its invariants.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub mod dashboards;
pub mod promql;
pub mod tool;

/// A file that git knows, or would add.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the root of the repository.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// The text before the tests at the bottom of a Rust file: what is shipped.
    pub fn shipped(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// Number of lines.
    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All text files whose path ends in one of these, sorted by path. An empty ending means all.
pub fn sources(endings: &[&str]) -> Vec<Source> {
    let mut paths: Vec<String> =
        listed().into_iter().filter(|path| endings.iter().any(|end| path.ends_with(end))).collect();
    paths.sort();
    let read = |path: String| Some(Source { text: fs::read_to_string(root().join(&path)).ok()?, path });
    paths.into_iter().filter_map(read).collect()
}

/// What git tracks or would add; outside a checkout (a release's archive) everything but build output.
fn listed() -> Vec<String> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => walked(&root(), ""),
    }
}

fn walked(folder: &Path, prefix: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && name != "target" && name != ".git" => {
                paths.extend(walked(&entry.path(), &format!("{path}/")));
            }
            Ok(kind) if kind.is_file() => paths.push(path),
            _ => {}
        }
    }
    paths
}

/// The documents of a YAML text; empty ones are left out.
///
/// # Errors
/// It is no YAML.
pub fn yaml(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Every Kubernetes object of the YAML files below a folder, with the file that it stands in. The chart's templates are none.
///
/// # Errors
/// A file is no YAML.
pub fn objects(folder: &str) -> Result<Vec<(String, Value)>, String> {
    let plain = |path: &str| path.starts_with(folder) && !path.starts_with("deploy/chart/");
    let files = sources(&[".yaml"]).into_iter().filter(|source| plain(&source.path));
    let mut found = Vec::new();
    for file in files {
        let documents = yaml(&file.text).map_err(|error| format!("{}: {error}", file.path))?;
        found.extend(documents.into_iter().map(|document| (file.path.clone(), document)));
    }
    Ok(found)
}
