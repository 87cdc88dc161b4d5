//! Running on time while the node's CPUs are busy.

use std::io;

/// Below the kernel's own interrupt threads (50), above everything ordinary.
const PRIORITY: i32 = 40;

/// Makes the calling thread a real-time one; why not, and what that means, where it cannot be. Timers without slack either way.
pub(super) fn take() -> Option<String> {
    // SAFETY: the call takes integers and changes the calling thread alone.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
    match set(libc::SCHED_FIFO, PRIORITY) {
        Ok(()) => None,
        Err(error) => Some(format!(
            "no real-time priority ({error}): packets may be late on a busy node; grant CAP_SYS_NICE, or use 3x300 ms or more"
        )),
    }
}

fn set(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters live through the call; 0 is the calling thread.
    let set = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
