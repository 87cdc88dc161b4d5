//! Reads a folder of Kubernetes manifests, with all folders below it.

use std::ffi::OsStr;
use std::path::Path;

use weir_api::manifest;

use crate::inputs::{ClusterName, Collector, Inputs};

/// Reads every manifest below `path` ([`manifest::find`]).
///
/// An object below a folder `clusters/NAME/` belongs to the cluster NAME, unless its label or annotation
/// `weir.dev/cluster` says another; all other objects belong to the cluster `local`. What cannot be read is a
/// fault and makes the inputs incomplete; the rest is used.
#[must_use]
pub fn folder(path: &Path) -> Inputs {
    let mut collector = Collector::default();
    let found = manifest::find(path);
    for (place, why) in found.unreadable {
        collector.unreadable(&shown(path, &place).display().to_string(), why);
    }
    for file in &found.files {
        read_file(shown(path, file), file, &mut collector);
    }
    collector.finish()
}

/// A place as people know it: below the folder that they named.
fn shown<'a>(root: &Path, place: &'a Path) -> &'a Path {
    place.strip_prefix(root).ok().filter(|rest| rest.components().next().is_some()).unwrap_or(place)
}

/// Reads one text of manifests, as a file of that name would be read.
#[must_use]
pub fn text(place: &str, text: &str) -> Inputs {
    let mut collector = Collector::default();
    read_text(place, &ClusterName::local(), text, &mut collector);
    collector.finish()
}

fn read_file(shown: &Path, file: &Path, collector: &mut Collector) {
    let place = shown.display().to_string();
    match manifest::text(file) {
        Err(error) => collector.unreadable(&place, error.to_string()),
        Ok(text) => read_text(&place, &cluster_of(shown), &text, collector),
    }
}

fn read_text(file: &str, cluster: &ClusterName, text: &str, collector: &mut Collector) {
    for (number, document) in manifest::documents(text) {
        let place = format!("{file} document {number}");
        match document {
            Ok(value) => collector.document(&place, cluster, value),
            Err(what) => collector.unreadable(&place, what),
        }
    }
}

fn cluster_of(file: &Path) -> ClusterName {
    let words: Vec<_> = file.iter().filter_map(OsStr::to_str).collect();
    let named = words.windows(3).find(|three| three[0] == "clusters").map(|three| three[1]);
    named.map_or_else(ClusterName::local, ClusterName::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
