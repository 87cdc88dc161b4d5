//! Keeps the traffic classes of the datapath as they are configured, with what objects of the cluster say of them.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use weir_agent::datapath::Targets;
use weir_agent::model::class::{Class, Found};
use weir_agent::state::Snapshot;

/// Sorts anew when the configuration or what was found changes, until `stop`. The classes of the start are in force already.
pub(crate) async fn follow(
    targets: Arc<Targets>,
    mut configured: watch::Receiver<Vec<Class>>,
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
) {
    let mut known = Arc::<Found>::default();
    loop {
        let configured_anew = tokio::select! {
            () = stop.cancelled() => return,
            changed = configured.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            changed = snapshot.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
        };
        let found = Arc::clone(&snapshot.borrow_and_update().found);
        if found == known && !configured_anew {
            continue;
        }
        let classes = found.added_to(&configured.borrow_and_update());
        known = found;
        let targets = Arc::clone(&targets);
        let sorted = tokio::task::spawn_blocking(move || targets.sort_into(&classes)).await;
        match sorted {
            Ok(Ok(())) => tracing::debug!(?known, "traffic classes sorted anew"),
            Ok(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "traffic classes stay as they were until they change again");
            }
            Err(error) => {
                tracing::error!(%error, "traffic classes stay as they were until they change again")
            }
        }
    }
}
