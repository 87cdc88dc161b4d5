//! What happens while the view runs: somebody takes a node's BGP session off the router by hand, and vyos-sync puts it
//! back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_netns::Gateway;
use weir_netns::wait::until;

/// The neighbour that goes: node3.
const NEIGHBOR: &str = "protocols bgp neighbor 10.10.30.12";
/// For each step; sessions come up after a back-off.
const LIMIT: Duration = Duration::from_secs(60);

/// Its lines so far. One thread lives it, another shows it.
pub(crate) struct Story {
    start: Instant,
    lines: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Story {
    /// A story that begins now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), lines: Mutex::default(), ended: AtomicBool::new(false) }
    }

    /// Live it, from `wait` on. Returns early once it was told to end.
    pub(crate) fn live(&self, gateway: &Gateway<'_>, wait: Duration) -> Result<()> {
        let told = self.tell(gateway, wait);
        if self.ended.load(Ordering::Relaxed) { Ok(()) } else { told }
    }

    /// Do not go on.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The lines so far, with the seconds since its beginning.
    pub(crate) fn text(&self) -> String {
        self.lines().iter().map(|line| format!("{line}\n")).collect()
    }

    fn tell(&self, gateway: &Gateway<'_>, wait: Duration) -> Result<()> {
        self.until("the story begins", || Ok(self.start.elapsed() >= wait))?;
        let commits = gateway.commits()?;
        gateway.edit(&format!("delete {NEIGHBOR}"))?;
        self.say(&format!("by hand, on the router: delete {NEIGHBOR}  (node3)"));
        let [v4, v6] = Gateway::vips()?;
        self.until("the router drops node3", || Ok(gateway.next_hops(v4)? == 2))?;
        self.say("the router's kernel uses 2 next hops");
        self.until("the neighbour comes back", || Ok(gateway.running()?.contains(NEIGHBOR)))?;
        self.say("vyos-sync saw the drift and put it back, in one commit");
        ensure!(gateway.commits()? == commits + 1, "one commit repairs it");
        self.until("the router uses all nodes", || {
            Ok(gateway.next_hops(v4)? == 3 && gateway.next_hops(v6)? == 3)
        })?;
        self.say("the session of node3 is up again: 3 next hops");
        Ok(())
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let held = || {
            ensure!(!self.ended.load(Ordering::Relaxed), "ended");
            holds()
        };
        until(what, LIMIT, held).map(drop)
    }

    fn say(&self, what: &str) {
        self.lines().push(format!("{:>6.1} s  {what}", self.start.elapsed().as_secs_f64()));
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
