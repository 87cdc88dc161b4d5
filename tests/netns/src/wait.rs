//! Waiting for what nobody announces: a route of a daemon, a series of a scrape.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const GLANCE: Duration = Duration::from_millis(20);

/// Ask until it holds, up to `limit`; returns how long that took. An error of the question ends the wait.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > limit {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        std::thread::sleep(GLANCE);
    }
    Ok(start.elapsed())
}
