//! Giving up every privilege that is not needed, for good.

use caps::{CapSet, Capability, CapsHashSet};
use thiserror::Error;

/// What the process holds after [`keep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The capabilities that it was to keep and holds.
    pub held: Vec<Capability>,
    /// The capabilities that it was to keep and never had.
    pub missing: Vec<Capability>,
    /// Whether the bounding set was emptied of the rest too; without CAP_SETPCAP it cannot be, and `no_new_privs` alone keeps
    /// them from coming back.
    pub bounded: bool,
}

/// Privileges could not be given up.
#[derive(Debug, Error)]
pub enum KeepError {
    /// Capabilities belong to threads: others would keep theirs.
    #[error("privileges must be given up before other threads start, but {0} others hold some")]
    Threads(usize),
    /// The kernel refused a step.
    #[error("cannot give up privileges: {step}")]
    Refused {
        /// Which step.
        step: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A capability is still there afterwards.
    #[error("{0} is still held after it was given up")]
    Remains(Capability),
}

/// Keeps of the permitted capabilities only `wanted`, makes them effective, and gives up all others: effective, permitted,
/// inheritable, ambient and bounding. Sets `no_new_privs`. Call it before any other thread starts, but for those that have given
/// up all of theirs ([`keep_none`]); threads inherit the result.
///
/// # Errors
/// When other threads hold capabilities or the kernel refuses; then the process should not go on as if it had none.
pub fn keep(wanted: &[Capability]) -> Result<Kept, KeepError> {
    match others_that_hold_any().map_err(refused("looking at threads"))? {
        0 => {}
        threads => return Err(KeepError::Threads(threads)),
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(refused("reading the permitted set"))?;
    let (held, missing): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|one| permitted.contains(one));
    let kept: CapsHashSet = held.iter().copied().collect();
    caps::clear(None, CapSet::Ambient).map_err(refused("clearing the ambient set"))?;
    let bounded = bound(&kept, &permitted)?;
    caps::clear(None, CapSet::Inheritable).map_err(refused("clearing the inheritable set"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused("setting the effective set"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused("setting the permitted set"))?;
    nix::sys::prctl::set_no_new_privs().map_err(refused("setting no_new_privs"))?;
    let left = caps::read(None, CapSet::Permitted).map_err(refused("reading the permitted set"))?;
    match left.difference(&kept).next() {
        Some(remains) => Err(KeepError::Remains(*remains)),
        None => Ok(Kept { held, missing, bounded }),
    }
}

/// Gives up all capabilities of the calling thread alone, for good.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_none() -> Result<(), KeepError> {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(refused("clearing a thread's sets"))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(refused("setting no_new_privs"))
}

fn others_that_hold_any() -> std::io::Result<usize> {
    let own = std::fs::read_link("/proc/thread-self")?;
    let mut others = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let none = permitted.is_none_or(|set| set.trim().bytes().all(|digit| digit == b'0'));
        if own.file_name() != Some(&task.file_name()) && !none {
            others += 1;
        }
    }
    Ok(others)
}

fn bound(kept: &CapsHashSet, permitted: &CapsHashSet) -> Result<bool, KeepError> {
    let bounding = caps::read(None, CapSet::Bounding).map_err(refused("reading the bounding set"))?;
    let surplus: Vec<_> = bounding.difference(kept).copied().collect();
    if !permitted.contains(&Capability::CAP_SETPCAP) {
        return Ok(surplus.is_empty());
    }
    caps::raise(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(refused("using CAP_SETPCAP"))?;
    for one in surplus {
        caps::drop(None, CapSet::Bounding, one).map_err(refused("dropping from the bounding set"))?;
    }
    Ok(true)
}

fn refused<E: std::error::Error + Send + Sync + 'static>(step: &'static str) -> impl Fn(E) -> KeepError {
    move |source| KeepError::Refused { step, source: Box::new(source) }
}
