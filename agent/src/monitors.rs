//! Holds Harvester's LinkMonitors against the links.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use weir_agent::model::monitor::Comparison;
use weir_agent::state::{Event, Snapshot};

/// Compares at each change, and when a difference has lasted, until `stop`.
pub(crate) async fn run(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    events: mpsc::Sender<Vec<Event>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (begun, mut comparison) = (Instant::now(), Comparison::default());
    let mut told = Vec::new();
    loop {
        let now = Arc::clone(&snapshots.borrow_and_update());
        let time = begun.elapsed();
        // An uplink that fails may take the API server away: what was said before is no difference then.
        let said = now.cluster.as_deref().filter(|_| now.sources.is_current("LinkMonitor"));
        let compared = comparison.look(&now.node, said, &now.links, time);
        if told != compared {
            told.clone_from(&compared);
            events.send(vec![Event::LinkMonitors(Arc::new(compared))]).await?;
        }
        let due = comparison.due(time);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = sleep(due.unwrap_or_default()), if due.is_some() => {}
        }
    }
}
