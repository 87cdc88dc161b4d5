//! Edge: a copy of objects on this node, which outlives the API server and the agent.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file and makes its folder: the old file stays until the new one is whole and on disk.
///
/// # Errors
/// Of the file system.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy/cluster.yaml");
        for text in ["one", "two"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path().join("policy")).unwrap().count(), 1);
        assert!(write(&path.join("below"), "a file is no folder").is_err());
    }
}
