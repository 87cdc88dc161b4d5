//! Edge: files that are replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file, and makes its folder: the old one stays until the new one is whole.
///
/// # Errors
/// Of the file system.
pub fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    write(path, octets, |_| Ok(()))
}

/// The same, and on disk when this returns: it outlives a node that goes down.
///
/// # Errors
/// Of the file system.
pub fn replace_on_disk(path: &Path, octets: &[u8]) -> io::Result<()> {
    write(path, octets, File::sync_all)
}

fn write(path: &Path, octets: &[u8], settle: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(octets)?;
    settle(&file)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy/cluster.yaml");
        replace(&path, b"one").unwrap();
        replace_on_disk(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path().join("policy")).unwrap().count(), 1);
        assert!(replace(&path.join("below"), b"a file is no folder").is_err());
    }
}
