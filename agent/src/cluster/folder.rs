//! Reads a folder of Kubernetes manifests, with all folders below it.

use std::path::Path;

use weir_api::manifest;

use super::collect::Collector;
use crate::model::cluster::Cluster;

/// Reads every manifest below `path` ([`manifest::find`]). What cannot be read is a fault of the result; the rest is used.
pub fn folder(path: &Path) -> Cluster {
    let mut collector = Collector::default();
    let found = manifest::find(path);
    for (place, why) in found.unreadable {
        collector.unreadable(&shown(path, &place), why);
    }
    for file in &found.files {
        read(&shown(path, file), file, &mut collector);
    }
    collector.finish()
}

/// A place as people know it: below the folder that they named.
fn shown(root: &Path, place: &Path) -> String {
    let below = place.strip_prefix(root).ok().filter(|rest| rest.components().next().is_some());
    below.unwrap_or(place).display().to_string()
}

fn read(place: &str, file: &Path, collector: &mut Collector) {
    match manifest::text(file) {
        Err(error) => collector.unreadable(place, error.to_string()),
        Ok(text) => {
            for (number, document) in manifest::documents(&text) {
                let place = format!("{place} document {number}");
                match document {
                    Ok(value) => collector.document(&place, &value),
                    Err(what) => collector.unreadable(&place, what),
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use std::fs;

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
