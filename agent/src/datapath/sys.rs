//! The few commands of bpf(2) that aya 0.14 does not offer: batches, link information and update, raw queries.
//! Layouts are those of `union bpf_attr` and `struct bpf_link_info` in linux/bpf.h.

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

const MAP_CREATE: u32 = 0;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const MAP_UPDATE_BATCH: u32 = 26;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const PROG_TEST_RUN: u32 = 10;
const PROG_QUERY: u32 = 16;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
const MAP_LOOKUP_BATCH: u32 = 24;
const LINK_UPDATE: u32 = 29;
const ENABLE_STATS: u32 = 32;

/// `BPF_LINK_TYPE_TCX`.
pub(super) const LINK_TYPE_TCX: u32 = 11;
/// `BPF_TCX_INGRESS`; egress is the next.
const TCX_INGRESS: u32 = 46;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The part of `BPF_MAP_CREATE` for maps without a type description.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

/// What a map is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// `BPF_MAP_TYPE_*`.
    pub(super) kind: u32,
    /// Octets of a key.
    pub(super) key: usize,
    /// Octets of a value.
    pub(super) value: usize,
    /// Most entries.
    pub(super) entries: u32,
    /// `BPF_F_*`.
    pub(super) flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_attach_flags: u64,
    links: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TestRun {
    program: u32,
    result: u32,
    input_length: u32,
    output_length: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// The start of `struct bpf_link_info`, with the part for TCX links.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct LinkInfo {
    /// `BPF_LINK_TYPE_*`.
    pub(super) kind: u32,
    /// The link's identifier.
    pub(super) id: u32,
    /// The program's identifier.
    pub(super) program: u32,
    pad: u32,
    /// For TCX links: the interface, 0 once it is gone.
    pub(super) interface: u32,
    /// For TCX links: `BPF_TCX_INGRESS` or `BPF_TCX_EGRESS`.
    pub(super) attach_type: u32,
    rest: [u64; 8],
}

fn call<T: Pod>(command: u32, attributes: &mut T) -> io::Result<i32> {
    let pointer = std::ptr::from_mut(attributes).cast::<c_void>();
    // SAFETY: the attributes live for the call and have the size that is told; the kernel checks the rest, and
    // every pointer in them comes from a slice that lives for the call and is as long as the map's sizes demand.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

/// For memory that the kernel writes.
fn address_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr() as u64
}

/// Reads one element.
pub(super) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    element(MAP_LOOKUP_ELEM, map, address(key), address_mut(value), 0)
}

/// Writes one element. `flags` as `BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`. Queues take an empty key.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let key = if key.is_empty() { 0 } else { address(key) };
    element(MAP_UPDATE_ELEM, map, key, address(value), flags)
}

/// Removes one element.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    element(MAP_DELETE_ELEM, map, address(key), 0, 0)
}

/// Takes the first element of a queue.
pub(super) fn pop(map: BorrowedFd<'_>, value: &mut [u8]) -> io::Result<()> {
    element(MAP_LOOKUP_AND_DELETE_ELEM, map, 0, address_mut(value), 0)
}

fn element(command: u32, map: BorrowedFd<'_>, key: u64, value: u64, flags: u64) -> io::Result<()> {
    let mut attributes = Element { map: map.as_raw_fd() as u32, pad: 0, key, value, flags };
    call(command, &mut attributes).map(drop)
}

/// Reads up to `count` elements from where `position` stands (`None` for the start) and moves it on.
/// The flag tells whether these were the last.
pub(super) fn lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<[u8; 64]>,
    keys: &mut [u8],
    values: &mut [u8],
    count: &mut u32,
) -> io::Result<bool> {
    let mut next = [0u8; 64];
    let mut attributes = Batch {
        in_batch: position.as_ref().map_or(0, |position| address(position)),
        out_batch: address_mut(&mut next),
        keys: address_mut(keys),
        values: address_mut(values),
        count: *count,
        map: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    let result = call(MAP_LOOKUP_BATCH, &mut attributes);
    *count = attributes.count;
    *position = Some(next);
    match result {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes a map.
pub(super) fn create_map(shape: &Shape) -> io::Result<OwnedFd> {
    let mut create = Create {
        kind: shape.kind,
        key_size: shape.key as u32,
        value_size: shape.value as u32,
        entries: shape.entries,
        flags: shape.flags,
        ..Create::zeroed()
    };
    create.name[..8].copy_from_slice(b"weir_set");
    made(&mut create)
}

/// Makes an array of so many maps that are like this one.
pub(super) fn create_map_of_maps(name: &str, places: u32, like: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const ARRAY_OF_MAPS: u32 = 12;
    let inner = like.as_raw_fd() as u32;
    let sizes = Create { kind: ARRAY_OF_MAPS, key_size: 4, value_size: 4, ..Create::zeroed() };
    let mut create = Create { entries: places, inner, ..sizes };
    // The last octet ends the name.
    for (octet, of) in create.name[..15].iter_mut().zip(name.bytes()) {
        *octet = of;
    }
    made(&mut create)
}

fn made(create: &mut Create) -> io::Result<OwnedFd> {
    let fd = call(MAP_CREATE, create)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes `count` elements; keys and values lie one after another, as long as the map's sizes say.
pub(super) fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> io::Result<()> {
    let mut done = 0u32;
    let (key, value) = (keys.len() / count.max(1) as usize, values.len() / count.max(1) as usize);
    while done < count {
        let at = done as usize;
        let mut attributes = Batch {
            in_batch: 0,
            out_batch: 0,
            keys: address(&keys[at * key..]),
            values: address(&values[at * value..]),
            count: count - done,
            map: map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        call(MAP_UPDATE_BATCH, &mut attributes)?;
        if attributes.count == 0 {
            return Err(io::Error::other("the kernel took no element"));
        }
        done += attributes.count;
    }
    Ok(())
}

/// Runs a classifier on a packet, as seen at an interface, and returns its verdict.
pub(super) fn run_on(program: BorrowedFd<'_>, packet: &[u8], interface: u32) -> io::Result<i32> {
    let mut context = SkBuff { ifindex: interface, ..SkBuff::zeroed() };
    let mut run = TestRunOn {
        program: program.as_raw_fd() as u32,
        input_length: packet.len() as u32,
        input: address(packet),
        repeat: 1,
        context_length: size_of::<SkBuff>() as u32,
        context: std::ptr::from_mut(&mut context) as u64,
        ..TestRunOn::zeroed()
    };
    call(PROG_TEST_RUN, &mut run)?;
    Ok(run.result as i32)
}

/// The start of `struct __sk_buff`, up to what a test run takes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SkBuff {
    before: [u32; 10],
    ifindex: u32,
    after: [u32; 37],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TestRunOn {
    program: u32,
    result: u32,
    input_length: u32,
    output_length: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_length: u32,
    context_output_length: u32,
    context: u64,
    context_output: u64,
}

/// Identifiers of the programs on a TCX hook, in the order in which they run, and the hook's revision.
/// `EINVAL` says that the kernel has no TCX.
pub(super) fn query_tcx(interface: u32, egress: bool) -> io::Result<(Vec<u32>, u64)> {
    let mut programs = vec![0u32; 64];
    let mut attributes = Query {
        target: interface,
        attach_type: TCX_INGRESS + u32::from(egress),
        programs: address_mut(&mut programs),
        count: 64,
        ..Query::zeroed()
    };
    call(PROG_QUERY, &mut attributes)?;
    programs.truncate(attributes.count as usize);
    Ok((programs, attributes.revision))
}

/// Runs a program on a packet, attached nowhere, and returns its verdict.
pub(super) fn test_run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<i32> {
    let program = program.as_raw_fd() as u32;
    let (input_length, input) = (packet.len() as u32, address(packet));
    let mut run = TestRun { program, input_length, input, repeat: 1, ..TestRun::zeroed() };
    call(PROG_TEST_RUN, &mut run)?;
    Ok(run.result as i32)
}

/// Waits until every program that runs now has ended: what they took from a map before is not used afterwards.
/// MEMBARRIER_CMD_GLOBAL waits for an RCU grace period, and programs run inside RCU read-side sections.
pub(super) fn await_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    // SAFETY: the call takes no pointer. A kernel without it (CONFIG_MEMBARRIER=n) returns an error: then a packet that
    // is being counted at this moment may be missed in a row that nobody looks at any more.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}

/// A number that the kernel tells of an open map or program in /proc/self/fdinfo.
pub(super) fn fdinfo(fd: BorrowedFd<'_>, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// Makes an array that processes may map into their memory, one after the other of the same octets each.
pub(super) fn create_mappable(octets: u32, places: u32) -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    const MMAPABLE: u32 = 1 << 10;
    let fd = call(MAP_CREATE, &mut [ARRAY, 4, octets, places, MMAPABLE])?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a map at a path.
pub(super) fn pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    call(OBJ_PIN, &mut Pinned { path: path.as_ptr() as u64, fd: map.as_raw_fd() as u32, flags: 0 }).map(drop)
}

/// Opens what is pinned at a path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = call(OBJ_GET, &mut Pinned { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel tells of a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = [LinkInfo::zeroed()];
    let length = size_of::<LinkInfo>() as u32;
    call(
        OBJ_GET_INFO_BY_FD,
        &mut Info { fd: link.as_raw_fd() as u32, length, info: address_mut(&mut info) },
    )?;
    Ok(info[0])
}

/// Puts another program into a link, atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (link, program) = (link.as_raw_fd() as u32, program.as_raw_fd() as u32);
    call(LINK_UPDATE, &mut LinkUpdate { link, program, flags: 0, old: 0 }).map(drop)
}

/// Turns run-time statistics of all programs on, until the returned descriptor is closed. Needs CAP_SYS_ADMIN.
pub(super) fn enable_stats() -> io::Result<OwnedFd> {
    let fd = call(ENABLE_STATS, &mut 0u32)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
