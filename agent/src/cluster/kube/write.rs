//! Writes the node's word: one `NodeDatapath`, its status by server-side apply, when it has changed and now and then; and its
//! verdict as a condition of the Node.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Error, Resource as _};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weir_api::{Carries, NodeDatapath, NodeDatapathStatus, Reason};

use super::{Cluster, Identity, chain, chance};
use crate::model::address::IfIndex;
use crate::model::word::{Facts, Pace, Speaker, seconds};
use crate::state::Snapshot;

/// Whom the fields belong to.
const MANAGER: &str = "weir-agent";
/// The condition of the Node: whether it carries traffic.
const CONDITION: &str = "WeirDatapathReady";
/// How often the word is made: what lasts is told from what does not by that.
const LOOK: Duration = Duration::from_secs(2);
/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the word is made of, and where it goes.
pub struct Reports<W> {
    /// Where it goes.
    pub cluster: Cluster,
    /// What the agent knows.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Which links join the node to the outside.
    pub uplinks: W,
}

/// Writes the word until `stop`. Nothing is written before the node's own Node is known: the object belongs to it.
pub async fn report<W>(reports: Reports<W>, stop: CancellationToken)
where
    W: Fn(&Snapshot) -> Vec<IfIndex> + Send,
{
    let Reports { cluster, snapshots, uplinks } = reports;
    let mut identity = cluster.identity.subscribe();
    let mut writer = Writer::new(&cluster);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let snapshot = Arc::clone(&snapshots.borrow());
        let Some(now) = since_boot() else { continue };
        let word = writer.word(&snapshot, &uplinks(&snapshot), now);
        let owner = identity.borrow_and_update().clone();
        let Some(owner) = owner.filter(|_| writer.pace.is_due(&word, now)) else { continue };
        tokio::select! {
            // The last word stays as it is: a node whose agent is replaced carries traffic all the same.
            () = stop.cancelled() => return,
            () = writer.write(word, &owner, now) => {}
        }
    }
}

fn since_boot() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

struct Writer {
    node: String,
    api: Api<NodeDatapath>,
    nodes: Api<Node>,
    events: Recorder,
    speaker: Speaker,
    pace: Pace,
    generation: Option<i64>,
    /// The verdict that was written last.
    verdict: Option<Verdict>,
    /// The verdict that the Node has.
    on_node: Option<Verdict>,
    /// Whether the last write failed, so that failing is told once.
    failing: bool,
}

/// A verdict, and the code of its reason.
type Verdict = (Carries, Option<String>);

impl Writer {
    fn new(cluster: &Cluster) -> Self {
        let client: Client = cluster.client.clone();
        let reporter =
            Reporter { controller: "weir.dev/agent".to_owned(), instance: Some(cluster.node.clone()) };
        Self {
            node: cluster.node.clone(),
            api: Api::all(client.clone()),
            nodes: Api::all(client.clone()),
            events: Recorder::new(client, reporter),
            speaker: Speaker::default(),
            pace: Pace::default(),
            generation: None,
            verdict: None,
            on_node: None,
            failing: false,
        }
    }

    fn word(&mut self, snapshot: &Snapshot, uplinks: &[IfIndex], now: Duration) -> NodeDatapathStatus {
        let facts = Facts {
            links: &snapshot.links,
            uplinks,
            gateways: &snapshot.gateways,
            hooks: &snapshot.hooks,
            bgp: &snapshot.bgp,
            bfd: &snapshot.bfd,
            vips: &snapshot.vip_table,
            capabilities: &snapshot.capabilities,
            sources: &snapshot.sources,
        };
        NodeDatapathStatus {
            observed_generation: self.generation,
            ..self.speaker.word(&facts, now, Timestamp::now())
        }
    }

    async fn write(&mut self, word: NodeDatapathStatus, owner: &Identity, now: Duration) {
        let written = tokio::time::timeout(PATIENCE, self.apply(&word, owner)).await;
        match written.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(object) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the NodeDatapath is written again");
                }
                self.generation = object.metadata.generation;
                self.pace.wrote(&word, now, chance());
                let verdict = (word.carries, word.reasons.first().map(|reason| reason.code.clone()));
                let before = self.verdict.replace(verdict.clone());
                if before.is_some_and(|before| before != verdict) {
                    self.tell(word.carries, word.reasons.first(), &object).await;
                }
                if self.on_node.as_ref() != Some(&verdict) {
                    self.set_condition(word.carries, word.reasons.first(), verdict).await;
                }
            }
            Err(why) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("the NodeDatapath is not written: {why}");
                }
                self.pace.failed(now, chance());
            }
        }
    }

    /// Applies the status; where there is no object yet, makes it first.
    async fn apply(&self, word: &NodeDatapathStatus, owner: &Identity) -> Result<NodeDatapath, String> {
        let reported = NodeDatapathStatus { reported_at: Some(seconds(Timestamp::now())), ..word.clone() };
        let status = json!({
            "apiVersion": NodeDatapath::api_version(&()), "kind": NodeDatapath::kind(&()),
            "metadata": {"name": self.node}, "status": reported,
        });
        let how = PatchParams::apply(MANAGER).force();
        match self.api.patch_status(&self.node, &how, &Patch::Apply(&status)).await {
            Err(Error::Api(refused)) if refused.code == 404 => {}
            other => return other.map_err(|error| chain(&error)),
        }
        match self.api.patch(&self.node, &how, &Patch::Apply(&object(&self.node, owner))).await {
            Err(Error::Api(refused)) if refused.code == 404 => {
                return Err("the cluster has no kind NodeDatapath; install Weir's definitions".to_owned());
            }
            other => other.map_err(|error| chain(&error))?,
        };
        self.api.patch_status(&self.node, &how, &Patch::Apply(&status)).await.map_err(|error| chain(&error))
    }

    /// Sets the condition of the Node, which stays as it is while its verdict does.
    async fn set_condition(&mut self, carries: Carries, reason: Option<&Reason>, verdict: Verdict) {
        let now = seconds(Timestamp::now());
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node},
            "status": {"conditions": [{
                "type": CONDITION, "status": condition(carries), "lastHeartbeatTime": now, "lastTransitionTime": now,
                "reason": reason.map_or_else(|| format!("Carries{carries:?}"), |reason| reason.code.clone()),
                "message": reason.map_or("", |reason| reason.message.as_str()),
            }]},
        });
        let how = PatchParams::apply(MANAGER).force();
        match self.nodes.patch_status(&self.node, &how, &Patch::Apply(&node)).await {
            Ok(_) => self.on_node = Some(verdict),
            Err(error) => tracing::debug!(error = chain(&error), "the condition of the Node is not written"),
        }
    }

    /// Tells people that the verdict has turned, as an Event of the object.
    async fn tell(&self, carries: Carries, reason: Option<&Reason>, object: &NodeDatapath) {
        let bad = matches!(carries, Carries::No | Carries::Degraded);
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: format!("Carries{carries:?}"),
            note: reason.map(|reason| format!("{}: {}", reason.code, reason.message)),
            action: "Judging".to_owned(),
            secondary: Some(ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(self.node.clone()),
                ..ObjectReference::default()
            }),
        };
        if let Err(error) = self.events.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(%error, "an event is not written");
        }
    }
}

/// A node that is degraded carries traffic.
fn condition(carries: Carries) -> &'static str {
    match carries {
        Carries::Yes | Carries::Degraded => "True",
        Carries::No => "False",
        Carries::Unknown => "Unknown",
    }
}

/// The object without its status. The Node owns it, so that it goes with the Node.
fn object(node: &str, owner: &Identity) -> Value {
    json!({
        "apiVersion": NodeDatapath::api_version(&()), "kind": NodeDatapath::kind(&()),
        "metadata": {"name": node, "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.uid}]},
        "spec": {},
    })
}
