//! Reads a folder of documents of intent: text that people wrote about the network.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::doctor::Document;

/// Endings of files that are read.
const ENDINGS: [&str; 7] = ["md", "markdown", "txt", "adoc", "rst", "yaml", "yml"];
/// A document that people read is no longer than this.
const LARGEST: u64 = 4 << 20;

/// All documents below a folder, or the one file that it is, and what could not be read.
///
/// # Errors
/// The folder itself cannot be read.
pub fn documents(path: &Path) -> io::Result<(Vec<Document>, Vec<String>)> {
    let mut files = Vec::new();
    find(path, &mut files)?;
    files.sort();
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for file in files {
        let shown =
            file.strip_prefix(path).ok().filter(|rest| rest.components().next().is_some()).unwrap_or(&file);
        let place = shown.display().to_string();
        match read(&file) {
            Ok(text) => found.push(Document { place, text }),
            Err(error) => unread.push(format!("{place}: {error}")),
        }
    }
    Ok((found, unread))
}

fn read(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {LARGEST} bytes"),
        ));
    }
    fs::read_to_string(file)
}

fn find(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let known = path.extension().and_then(OsStr::to_str).is_some_and(|ending| ENDINGS.contains(&ending));
        if !hidden && (path.is_dir() || known) {
            find(&path, files)?;
        }
    }
    Ok(())
}
