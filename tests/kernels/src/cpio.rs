//! An initramfs: a cpio archive of the kind `newc` (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

/// Writes an archive member by member.
pub(crate) struct Archive<W> {
    to: W,
    next: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, next: 1 }
    }

    /// A folder; those above it must have been written before.
    pub(crate) fn folder(&mut self, path: &str) -> io::Result<()> {
        self.member(path, FOLDER, &[])
    }

    /// A file that may be executed.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.member(path, PROGRAM, content)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.member(path, LINK, target.as_bytes())
    }

    /// Ends the archive.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.member("TRAILER!!!", 0, &[])?;
        self.to.flush()
    }

    fn member(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let (path, number) = (path.trim_start_matches('/'), self.next);
        self.next += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        // inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum
        let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        let mut header = b"070701".to_vec();
        fields.iter().for_each(|field| header.extend(format!("{field:08x}").bytes()));
        header.extend(path.bytes());
        header.push(0);
        self.padded(&header)?;
        self.padded(content)
    }

    /// Header with name, and content, each end at a multiple of four octets.
    fn padded(&mut self, octets: &[u8]) -> io::Result<()> {
        self.to.write_all(octets)?;
        self.to.write_all(&[0; 3][..octets.len().wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_at_multiples_of_four_octets() {
        let mut archive = Vec::new();
        let mut writer = Archive::new(&mut archive);
        writer.folder("/bin").unwrap();
        writer.file("bin/it", b"12345").unwrap();
        writer.link("lib", "usr/lib").unwrap();
        writer.end().unwrap();
        let text = String::from_utf8_lossy(&archive);
        let starts: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        assert!(text.contains("000081ed") && text.ends_with("TRAILER!!!\0\0\0\0"), "{text}");
    }
}
