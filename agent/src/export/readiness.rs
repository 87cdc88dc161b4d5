//! Readiness by guard: a task holds a guard until it is ready, and dropping the guard says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the agent still waits for.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, usize>>>);

/// Held by a task that is not ready yet.
#[derive(Debug)]
pub struct Guard {
    readiness: Readiness,
    task: &'static str,
}

impl Readiness {
    /// The agent is not ready before the guard is dropped.
    pub fn guard(&self, task: &'static str) -> Guard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default() += 1;
        Guard { readiness: self.clone(), task }
    }

    /// The tasks that are not ready, in alphabetical order.
    pub fn waiting(&self) -> Vec<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut waiting = self.readiness.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guards) = waiting.get_mut(self.task) {
            *guards -= 1;
            if *guards == 0 {
                waiting.remove(self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_last_guard_makes_ready() {
        let readiness = Readiness::default();
        let (links, routes, again) =
            (readiness.guard("links"), readiness.guard("routes"), readiness.guard("links"));
        assert_eq!(readiness.waiting(), ["links", "routes"]);
        drop((links, routes));
        assert_eq!(readiness.waiting(), ["links"]);
        drop(again);
        assert!(readiness.waiting().is_empty());
    }
}
