//! Edge: gives memory back that only a start needs.

use std::ffi::c_void;
use std::fs;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// The kernel's types take tens of MB while they are read; the allocator would keep them.
pub fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer and may come at any time.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Most of the program's code and constants are for its start. Their pages are the files' own: those that are needed again come
/// back from the page cache, and the others no longer count as this process's memory.
pub fn give_back_files() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in untouched(&maps) {
        // SAFETY: a mapping of a file that may not be written to and has no page of its own: whoever runs or reads it finds the
        // same octets again.
        if let Err(error) = unsafe { madvise(start, length.get(), MmapAdvise::MADV_DONTNEED) } {
            tracing::debug!(%error, "the code of the start stays in memory");
        }
    }
}

/// The mappings of `/proc/PID/smaps` (proc_pid_smaps(5)) that are private, of a file, not writable, and not changed: what the
/// dynamic linker has relocated is anonymous memory since.
fn untouched(smaps: &str) -> Vec<(NonNull<c_void>, NonZeroUsize)> {
    let mut found = Vec::new();
    let mut head = None;
    for line in smaps.lines() {
        if let Some(range) = mapping(line) {
            head = range;
        } else if line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB") {
            found.extend(head.take());
        }
    }
    found
}

/// `None` for a line that begins no mapping; within, the range of one that may be given back.
fn mapping(line: &str) -> Option<Option<(NonNull<c_void>, NonZeroUsize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
    let (start, end) = (start?, end?);
    let is_file =
        matches!(fields.next()?, "r-xp" | "r--p") && fields.nth(3).is_some_and(|path| path.starts_with('/'));
    let range = || Some((NonZeroUsize::new(start)?, NonZeroUsize::new(end.checked_sub(start)?)?));
    let range = is_file.then(range).flatten();
    Some(range.map(|(start, length)| (NonNull::without_provenance(start), length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
555c0266b000-555c03242000 r-xp 000cd000 fe:00 1234    /usr/bin/weir-agent
Rss:                 512 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
555c03242000-555c03250000 r--p 00ca4000 fe:00 1234    /usr/bin/weir-agent
Anonymous:            48 kB
555c03250000-555c03251000 rw-p 00cb2000 fe:00 1234    /usr/bin/weir-agent
Anonymous:             0 kB
555c03252000-555c03253000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f00c03253000-7f00c03255000 r--s 00000000 00:0d 1     anon_inode:bpf-map
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0       [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_unchanged_parts_of_files_are_given_back() {
        let found: Vec<_> = untouched(SMAPS)
            .into_iter()
            .map(|(start, length)| (start.as_ptr() as usize, length.get()))
            .collect();
        assert_eq!(found, [(0x555c_0266_b000, 0xbd_7000)]);
        assert_eq!(untouched(""), []);
    }

    #[test]
    fn the_program_goes_on_without_its_code() {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let (start, length) = untouched(&maps).into_iter().max_by_key(|(_, length)| *length).unwrap();
        // SAFETY: it only brings pages in.
        let brought = unsafe { libc::madvise(start.as_ptr(), length.get(), libc::MADV_POPULATE_READ) };
        assert_eq!(brought, 0, "MADV_POPULATE_READ is of Linux 5.14");
        give_back_heap();
        give_back_files();
        assert!(resident(start) < length.get() / 2, "{} of {length} octets", resident(start));
    }

    /// Octets of a mapping that are in memory, of `/proc/self/smaps`.
    fn resident(start: NonNull<c_void>) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = maps.split_once(&format!("{:x}-", start.as_ptr() as usize)).unwrap().1;
        let line = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }
}
