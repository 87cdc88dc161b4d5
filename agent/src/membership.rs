//! This node as a member of a cluster: the tasks that read the cluster, and write the node's word to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use weir_agent::cluster::News;
use weir_agent::cluster::kube::{self, Access, Cluster, Reports, Wanted};
use weir_agent::export::readiness::{Guard, Readiness};
use weir_agent::model::address::IfIndex;
use weir_agent::model::cluster::Server;
use weir_agent::state::{Event, Snapshot};

use crate::task::Tasks;

/// How long readiness waits for the cluster.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which cluster, and as what.
pub(crate) struct Joining<'a, W> {
    /// How to reach it.
    pub(crate) access: &'a Access,
    /// This node's name.
    pub(crate) node: &'a str,
    /// What is read there.
    pub(crate) wanted: Wanted,
    /// Which links join the node to the outside.
    pub(crate) uplinks: W,
}

/// The tasks that read the cluster and write this node's word to it.
pub(crate) async fn join<W>(
    tasks: &mut Tasks,
    joining: Joining<'_, W>,
    told: mpsc::Sender<News>,
    readiness: &Readiness,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: mpsc::Sender<Vec<Event>>,
) -> anyhow::Result<()>
where
    W: Fn(&Snapshot) -> Vec<IfIndex> + Send + 'static,
{
    let Joining { access, node, wanted, uplinks } = joining;
    let cluster = Cluster::new(access, node).await?;
    tracing::info!(node, "following the cluster");
    let stop = tasks.stop();
    let reports = Reports { cluster: cluster.clone(), snapshots: snapshots.clone(), uplinks };
    let cancel = stop.clone();
    tasks.spawn("node-word", async move {
        kube::report(reports, cancel).await;
        Ok(())
    });
    let (guard, remarks, cancel) = (readiness.guard("cluster"), readiness.clone(), stop.clone());
    tasks.spawn("cluster-readiness", async move {
        tell_readiness(snapshots, guard, remarks, cancel).await;
        Ok(())
    });
    let (asked, sender, cancel) = (cluster.clone(), events.clone(), stop.clone());
    tasks.spawn("mesh", async move {
        kube::follow_peers(asked, sender, cancel).await;
        Ok(())
    });
    tasks.spawn("cluster-api", async move {
        kube::follow(cluster, wanted, told, events, stop).await;
        Ok(())
    });
    Ok(())
}

/// Ready with the first whole look at the cluster. An API server that is away must not keep the node unmeasured: after a
/// while the agent is ready without, and says so.
async fn tell_readiness(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    guard: Guard,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let mut guard = Some(guard);
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    loop {
        let sources = Arc::clone(&snapshots.borrow_and_update().sources);
        if sources.server == Server::Answers && sources.are_complete() {
            guard.take();
        }
        readiness.remark("cluster", sources.trouble());
        tokio::select! {
            () = stop.cancelled() => return,
            () = &mut patience, if guard.is_some() => drop(guard.take()),
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
