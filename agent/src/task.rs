//! Tasks with a name, one signal to stop, and an ordered end.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long tasks may take to end after the signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agent's tasks. The first that fails stops them all.
#[derive(Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
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
        self.running.spawn(async move { (name, task.await) });
    }

    /// Waits until a task fails or the signal is given, then ends all of them.
    ///
    /// # Errors
    /// The first task's error, with its name.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some(ended) = tokio::select! {
            () = self.stop.cancelled() => None,
            ended = self.running.join_next() => ended,
        } {
            result = outcome(ended);
            if result.is_err() {
                break;
            }
        }
        self.stop.cancel();
        let ending = async {
            while let Some(ended) = self.running.join_next().await {
                if let Err(error) = outcome(ended) {
                    tracing::warn!("{error:#}");
                }
            }
        };
        if tokio::time::timeout(PATIENCE, ending).await.is_err() {
            tracing::warn!("some tasks did not end in {PATIENCE:?}; leaving them behind");
            self.running.abort_all();
        }
        result
    }
}

fn outcome(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok((name, result)) => result.map_err(|error| error.context(format!("task {name} failed"))),
        Err(error) => Err(anyhow::Error::from(error).context("a task panicked")),
    }
}
