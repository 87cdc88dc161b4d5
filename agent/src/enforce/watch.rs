//! Tells when files beside the policies change, so that nobody waits for the next look. No more than a hint: where the kernel
//! gives no watch, and for files elsewhere, there are the looks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Places;

/// Files as they are when a writer is done with them; also the links of a mounted ConfigMap.
const WATCHED: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE);

/// A watch on the folder of policies, where there can be one.
pub(super) struct Watch(Option<AsyncFd<Events>>);

struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Watches folders, and the folders of files.
    pub(super) fn new(places: &Places) -> Self {
        let folder = |path: &PathBuf| match path.is_dir() {
            true => path.clone(),
            false => path.parent().unwrap_or(path).to_owned(),
        };
        match open(places.local.iter().chain(&places.cluster).map(folder)) {
            Ok(watch) => Self(Some(watch)),
            Err(error) => {
                tracing::debug!(%error, "no watch on the policies: changes are seen at the next look");
                Self(None)
            }
        }
    }

    /// Returns once something has changed since the last call; never without a watch.
    pub(super) async fn changed(&mut self) {
        let Some(watch) = &mut self.0 else { return std::future::pending().await };
        match watch.readable_mut().await {
            Ok(mut ready) => {
                // What has changed is not looked at: all is read again.
                while ready.get_inner().0.read_events().is_ok() {}
                ready.clear_ready();
            }
            Err(_) => self.0 = None,
        }
    }
}

fn open(folders: impl Iterator<Item = PathBuf>) -> io::Result<AsyncFd<Events>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    for folder in folders {
        inotify.add_watch(&folder, WATCHED)?;
    }
    // SAFETY: the descriptor is the value's own and is closed with it.
    Ok(unsafe { AsyncFd::register_with_interest(Events(inotify), Interest::READABLE) }?)
}
