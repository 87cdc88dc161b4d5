//! Removing what a lab leaves on the machine: control groups with their processes, namespaces, pins and state.
//!
//! All of it is named `weir-<pid>-...` after the process that made it, so the remains of a process can be told from the
//! belongings of a living one without a registry.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, Once, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::{cgroup, namespace};

/// Where pins go; the kernel's own place for them.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where the state of a lab's processes goes.
pub const RUN: &str = "/run";

/// A name that no other lab uses, now or at the same time: `weir-<pid>-<n>-<label>`.
pub fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        sweep(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        watch();
    });
    format!("weir-{}-{}-{label}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Ctrl-C and SIGTERM, as events. Who asks is then the one to clean up; a second signal cleans up at once all the same.
pub fn interrupts() -> Receiver<()> {
    let (sender, receiver) = channel();
    *subscriber() = Some(sender);
    watch();
    receiver
}

/// Remove everything that was made by processes for which `of` holds.
pub fn sweep(of: impl Fn(u32) -> bool) {
    let stale = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| maker(path).is_some_and(&of)).collect()
    };
    // Processes first: they hold the namespaces.
    for group in cgroup::mount().map(|mount| stale(&mount)).unwrap_or_default() {
        cgroup::remove(&group);
    }
    for path in stale(Path::new(namespace::FOLDER)) {
        namespace::remove(&path);
    }
    for folder in [BPFFS, RUN] {
        for path in stale(Path::new(folder)) {
            fs::remove_dir_all(path).ok();
        }
    }
}

/// The process in `weir-<pid>-...`.
fn maker(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("weir-")?.split('-').next()?.parse().ok()
}

fn subscriber() -> std::sync::MutexGuard<'static, Option<Sender<()>>> {
    static SUBSCRIBER: Mutex<Option<Sender<()>>> = Mutex::new(None);
    SUBSCRIBER.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

static SIGNALS: OnceLock<UnixStream> = OnceLock::new();

extern "C" fn on_signal(_: libc::c_int) {
    if let Some(mut pipe) = SIGNALS.get() {
        pipe.write_all(&[1]).ok();
    }
}

/// Start the one thread that acts on signals; a handler itself may only write to a pipe.
fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok((reader, writer)) = UnixStream::pair() else { return };
        if SIGNALS.set(writer).is_err() {
            return;
        }
        std::thread::spawn(move || act_on_signals(reader));
        let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: the handler does nothing but write(2) to a socket that is never closed: async-signal-safe.
            unsafe { sigaction(signal, &action) }.ok();
        }
    });
}

fn act_on_signals(mut signals: UnixStream) {
    let mut byte = [0];
    while signals.read_exact(&mut byte).is_ok() {
        // The first signal goes to the subscriber, who is gone from then on.
        if subscriber().take().is_some_and(|subscriber| subscriber.send(()).is_ok()) {
            continue;
        }
        sweep(|pid| pid == std::process::id());
        std::process::exit(130);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker() {
        assert_eq!(maker(Path::new("/run/netns/weir-42-1-node")), Some(42));
        assert_eq!(maker(Path::new("/run/netns/weir-node")), None);
        assert_eq!(maker(Path::new("/run/weir")), None);
        assert_eq!(maker(Path::new(&format!("/run/{}", unique("x")))), Some(std::process::id()));
    }
}
