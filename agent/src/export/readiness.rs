//! Readiness by guard: a task holds a guard until it is ready, and dropping the guard says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the agent still waits for, and what is not as it should be though the agent works.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    guards: BTreeMap<&'static str, usize>,
    remarks: BTreeMap<&'static str, String>,
}

/// Held by a task that is not ready yet.
#[derive(Debug)]
pub struct Guard {
    readiness: Readiness,
    task: &'static str,
}

impl Readiness {
    /// The agent is not ready before the guard is dropped.
    pub fn guard(&self, task: &'static str) -> Guard {
        *self.lock().guards.entry(task).or_default() += 1;
        Guard { readiness: self.clone(), task }
    }

    /// The tasks that are not ready, in alphabetical order.
    pub fn waiting(&self) -> Vec<&'static str> {
        self.lock().guards.keys().copied().collect()
    }

    /// Says what is not as it should be about something, or that nothing is.
    pub fn remark(&self, about: &'static str, what: Option<String>) {
        let mut state = self.lock();
        match what {
            Some(what) => _ = state.remarks.insert(about, what),
            None => _ = state.remarks.remove(about),
        }
    }

    /// What is not as it should be, a line each.
    pub fn remarks(&self) -> Vec<String> {
        self.lock().remarks.iter().map(|(about, what)| format!("{about}: {what}")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.readiness.lock();
        if let Some(guards) = state.guards.get_mut(self.task) {
            *guards -= 1;
            if *guards == 0 {
                state.guards.remove(self.task);
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
