//! The clock by which the model dates changes.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot, time asleep included; zero where the kernel has no such clock.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
