//! The bpf(2) system call, as far as trying what is allowed needs it (linux/bpf.h). Nothing that is made here outlives the
//! call that makes it, and nothing is attached.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;
const ENABLE_STATS: libc::c_int = 32;

const ATTACH_CGROUP_SOCK_OPS: u32 = 3;
const ATTACH_TRACE_RAW_TP: u32 = 23;
const ATTACH_TCX_INGRESS: u32 = 46;

/// A kind of map, with the sizes that make the smallest.
#[derive(Clone, Copy)]
pub(super) struct MapKind {
    pub(super) name: &'static str,
    pub(super) number: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

/// The maps of the agent.
pub(super) const MAPS: [MapKind; 6] = [
    map("array", 2, 4, 8, 1, 0),
    map("per-CPU hash", 5, 4, 8, 1, 0),
    map("per-CPU array", 6, 4, 8, 1, 0),
    map("LRU hash", 9, 4, 8, 1, 0),
    map("LRU per-CPU hash", 10, 4, 8, 1, 0),
    map("prefix trie", 11, 8, 8, 1, 1),
];

/// The ring buffer; its size is a multiple of every page size in use.
pub(super) const RING_BUFFER: MapKind = map("ring buffer", 27, 0, 0, 64 << 10, 0);

const fn map(name: &'static str, number: u32, key: u32, value: u32, entries: u32, flags: u32) -> MapKind {
    MapKind { name, number, key, value, entries, flags }
}

/// What kind of program to load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    /// On a link's packets, with the pointer arithmetic of a header parser.
    Packets,
    /// On TCP events of a cgroup.
    SockOps,
    /// On a tracepoint with typed arguments.
    Tracepoint {
        /// The identifier of its `btf_trace_` typedef.
        typedef: u32,
    },
}

/// Makes a map.
pub(super) fn create(kind: MapKind) -> io::Result<OwnedFd> {
    let words = [(0, kind.number), (4, kind.key), (8, kind.value), (12, kind.entries), (16, kind.flags)];
    let mut attr = Attr::new(&words);
    // SAFETY: the attributes hold no address, and the result is a new descriptor.
    unsafe { attr.descriptor(MAP_CREATE) }
}

/// Loads a program; it is not attached to anything.
pub(super) fn load(program: Program) -> io::Result<OwnedFd> {
    let code = match program {
        Program::Packets => PARSER.as_slice(),
        Program::SockOps | Program::Tracepoint { .. } => NOTHING.as_slice(),
    };
    let (kind, attach, typedef) = match program {
        Program::Packets => (3, 0, 0),
        Program::SockOps => (13, ATTACH_CGROUP_SOCK_OPS, 0),
        Program::Tracepoint { typedef } => (26, ATTACH_TRACE_RAW_TP, typedef),
    };
    let length = u32::try_from(code.len()).unwrap_or(0);
    let mut attr = Attr::new(&[(0, kind), (4, length), (68, attach), (108, typedef)]);
    attr.address(8, code.as_ptr().addr());
    attr.address(16, c"GPL".as_ptr().addr());
    // SAFETY: the code and the licence are constants, the length is the code's, and the result is a new descriptor.
    unsafe { attr.descriptor(PROG_LOAD) }
}

/// Whether the kernel would attach a packet program by TCX: it is asked to, on an interface that does not exist.
pub(super) fn try_tcx(program: BorrowedFd<'_>) -> io::Result<()> {
    let words =
        [(0, program.as_raw_fd().cast_unsigned()), (4, i32::MAX.cast_unsigned()), (8, ATTACH_TCX_INGRESS)];
    // SAFETY: the attributes hold no address.
    match unsafe { Attr::new(&words).call(LINK_CREATE) } {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("an interface of the highest number exists")),
    }
}

/// Whether the programs on TCP events of a cgroup may be listed, and so attached.
pub(super) fn query_sock_ops(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let words = [(0, cgroup.as_raw_fd().cast_unsigned()), (4, ATTACH_CGROUP_SOCK_OPS)];
    // SAFETY: the attributes hold no address: with room for no program the kernel only counts them.
    unsafe { Attr::new(&words).call(PROG_QUERY) }.map(drop)
}

/// Whether programs of others may be opened by number; the highest number is nobody's.
pub(super) fn try_foreign() -> io::Result<()> {
    // SAFETY: the attributes hold no address.
    match unsafe { Attr::new(&[(0, u32::MAX)]).descriptor(PROG_GET_FD_BY_ID) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

/// Turns run-time statistics on and, when the descriptor is dropped, off again.
pub(super) fn enable_statistics() -> io::Result<OwnedFd> {
    // SAFETY: the attributes hold no address, and the result is a new descriptor.
    unsafe { Attr::new(&[(0, 0)]).descriptor(ENABLE_STATS) }
}

/// Whether a program was compiled to machine code.
pub(super) fn is_jited(program: BorrowedFd<'_>) -> io::Result<bool> {
    // `struct bpf_prog_info` up to `jited_prog_len`, which is its fifth word, and beyond.
    let mut info = [0_u32; 10];
    let size = u32::try_from(size_of_val(&info)).unwrap_or(0);
    let mut attr = Attr::new(&[(0, program.as_raw_fd().cast_unsigned()), (4, size)]);
    attr.address(8, info.as_mut_ptr().expose_provenance());
    // SAFETY: the kernel writes at most `size` octets to `info`, which lives through the call; all words may hold anything.
    unsafe { attr.call(OBJ_GET_INFO_BY_FD) }?;
    Ok(info[4] > 0)
}

/// Pins a map.
pub(super) fn pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::new(&[(8, map.as_raw_fd().cast_unsigned())]);
    attr.address(0, path.as_ptr().expose_provenance());
    // SAFETY: the path ends in a zero and lives through the call.
    unsafe { attr.call(OBJ_PIN) }.map(drop)
}

/// `union bpf_attr`: fields by their offset, all else zero.
#[repr(align(8))]
struct Attr([u8; 128]);

impl Attr {
    fn new(words: &[(usize, u32)]) -> Self {
        let mut attr = Self([0; 128]);
        for (offset, word) in words {
            attr.0[*offset..offset + 4].copy_from_slice(&word.to_ne_bytes());
        }
        attr
    }

    fn address(&mut self, offset: usize, address: usize) {
        self.0[offset..offset + 8].copy_from_slice(&(address as u64).to_ne_bytes());
    }

    /// # Safety
    /// Every address in the attributes must be good for what the command reads and writes there.
    unsafe fn call(&mut self, command: libc::c_int) -> io::Result<libc::c_long> {
        // SAFETY: the attributes are ours and of the size that is told; the caller vouches for the addresses in them.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    /// # Safety
    /// As [`Attr::call`], and the command must return a new descriptor.
    unsafe fn descriptor(&mut self, command: libc::c_int) -> io::Result<OwnedFd> {
        // SAFETY: the caller's.
        let number = unsafe { self.call(command) }?;
        let number = i32::try_from(number).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// `struct bpf_insn`.
const fn insn(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    (code as u64)
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (value.cast_unsigned() as u64) << 32
}

const EXIT: u64 = insn(0x95, 0, 0, 0, 0);

/// Returns 0.
static NOTHING: [u64; 2] = [insn(0xb7, 0, 0, 0, 0), EXIT];

/// Skips an IPv4 header of variable length, looks at what follows and returns TCX_NEXT.
static PARSER: [u64; 16] = [
    insn(0x61, 2, 1, 76, 0), // r2 = skb->data
    insn(0x61, 3, 1, 80, 0), // r3 = skb->data_end
    insn(0xbf, 4, 2, 0, 0),  // r4 = r2
    insn(0x07, 4, 0, 0, 34), // r4 += Ethernet and IPv4 header
    insn(0x2d, 4, 3, 9, 0),  // if r4 > r3 goto the end
    insn(0x71, 5, 2, 14, 0), // r5 = version and header length
    insn(0x57, 5, 0, 0, 15), // r5 &= 15
    insn(0x67, 5, 0, 0, 2),  // r5 <<= 2
    insn(0x0f, 2, 5, 0, 0),  // r2 += r5
    insn(0xbf, 4, 2, 0, 0),  // r4 = r2
    insn(0x07, 4, 0, 0, 18), // r4 += Ethernet header and ports
    insn(0x2d, 4, 3, 2, 0),  // if r4 > r3 goto the end
    insn(0x1f, 3, 2, 0, 0),  // r3 -= r2: how much is left
    insn(0x69, 4, 2, 14, 0), // r4 = source port
    insn(0xb7, 0, 0, 0, -1), // r0 = TCX_NEXT
    EXIT,
];
