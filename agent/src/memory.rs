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

/// Most of the program's code runs once, at the start. Its pages are the file's own: those that are needed again come back from
/// the page cache, and the others no longer count as this process's memory.
pub fn give_back_code() {
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), std::env::current_exe()) else {
        return;
    };
    let program = program.to_string_lossy();
    for (start, length) in maps.lines().filter_map(|line| code(line, &program)) {
        // SAFETY: a mapping of a file that is never written to: whoever runs or reads it finds the same octets again.
        if let Err(error) = unsafe { madvise(start, length.get(), MmapAdvise::MADV_DONTNEED) } {
            tracing::debug!(%error, "the code of the start stays in memory");
        }
    }
}

/// A line of `/proc/PID/maps` (proc_pid_maps(5)) that maps code of this program.
fn code(line: &str, program: &str) -> Option<(NonNull<c_void>, NonZeroUsize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    if rights != "r-xp" || !line.ends_with(program) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
    let (start, end) = (NonZeroUsize::new(start?)?, end?);
    Some((NonNull::<c_void>::without_provenance(start), NonZeroUsize::new(end.checked_sub(start.get())?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_given_back() {
        let line = "555c0266b000-555c03242000 r-xp 000cd000 fe:00 1234    /usr/bin/weir-agent";
        let (start, length) = code(line, "/usr/bin/weir-agent").unwrap();
        assert_eq!((start.as_ptr() as usize, length.get()), (0x555c_0266_b000, 0xbd_7000));
        for other in ["rw-p", "r--p", "rwxp"] {
            assert_eq!(code(&line.replace("r-xp", other), "/usr/bin/weir-agent"), None);
        }
        assert_eq!(code(line, "/usr/lib/libc.so.6"), None);
        assert_eq!(code("", ""), None);
    }

    #[test]
    fn the_program_goes_on_without_its_code() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::env::current_exe().unwrap();
        let (start, length) = maps.lines().find_map(|line| code(line, &program.to_string_lossy())).unwrap();
        // SAFETY: it only brings pages in.
        let brought = unsafe { libc::madvise(start.as_ptr(), length.get(), libc::MADV_POPULATE_READ) };
        assert_eq!(brought, 0, "MADV_POPULATE_READ is of Linux 5.14");
        give_back_heap();
        give_back_code();
        assert!(resident(start) < length.get() / 2, "{} of {length} octets", resident(start));
    }

    /// Octets of a mapping that are in memory, of `/proc/self/smaps`.
    fn resident(start: NonNull<c_void>) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = maps.split_once(&format!("\n{:x}-", start.as_ptr() as usize)).unwrap().1;
        let line = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }
}
