//! Tasks with a name, one signal to stop, and an ordered end.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long tasks may take to end after the signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agent's tasks. The first that fails stops them all.
#[derive(Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// The signal that tells every task to end.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.names.insert(self.running.spawn(task).id(), name);
    }

    /// Waits until a task fails or the signal is given, then ends all of them.
    ///
    /// # Errors
    /// The first task's error, with its name.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some(ended) = tokio::select! {
            () = self.stop.cancelled() => None,
            ended = self.running.join_next_with_id() => ended,
        } {
            result = outcome(&mut self.names, ended);
            if result.is_err() {
                break;
            }
        }
        self.stop.cancel();
        let ending = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                if let Err(error) = outcome(&mut self.names, ended) {
                    tracing::warn!("{error:#}");
                }
            }
        };
        if tokio::time::timeout(PATIENCE, ending).await.is_err() {
            let names: Vec<_> = self.names.into_values().collect();
            tracing::warn!(tasks = ?names, "some tasks did not end in {PATIENCE:?}; leaving them behind");
            self.running.abort_all();
        }
        result
    }
}

/// What came of a task, under its name; it is no longer among those that run.
fn outcome(
    names: &mut HashMap<Id, &'static str>,
    ended: Result<(Id, anyhow::Result<()>), JoinError>,
) -> anyhow::Result<()> {
    let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
    let name = names.remove(&id).unwrap_or("unknown");
    match ended {
        Ok((_, result)) => result.with_context(|| format!("task {name} failed")),
        Err(error) => Err(anyhow::Error::from(error).context(format!("task {name} panicked"))),
    }
}
