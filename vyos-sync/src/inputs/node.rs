//! What a node's agent says of its datapath, as far as routing asks.

use super::core::field;
use super::id::ClusterName;
use serde_json::Value;
use weir_api::{Carries, Routing};

/// A node by its cluster and name.
pub type NodeKey = (ClusterName, String);

/// `NodeDatapath`: a node's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeWord {
    /// What a person asks for the node.
    pub routing: Routing,
    /// The agent's verdict.
    pub carries: Carries,
    /// The first reason, as its code.
    pub reason: Option<String>,
    /// When the agent wrote it, by the node's clock: a text that only changes.
    pub reported_at: Option<String>,
    /// Seconds within which the agent writes again.
    pub report_seconds: Option<u32>,
    /// New flows to virtual addresses per 1000 seconds.
    pub new_flows: Option<u64>,
}

/// What the router does with a node's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeRouting {
    /// Its routes are the last choice; the sessions stay.
    Drained,
    /// Its sessions are shut down.
    ShutDown,
}

pub(super) fn word(object: &Value) -> Result<NodeWord, String> {
    Ok(NodeWord {
        routing: field(object, "/spec/routing")?,
        carries: field(object, "/status/carries")?,
        reason: field(object, "/status/reasons/0/code")?,
        reported_at: field(object, "/status/reportedAt")?,
        report_seconds: field(object, "/status/reportSeconds")?,
        new_flows: field(object, "/status/vips/newFlowsPerKilosecond")?,
    })
}

#[cfg(test)]
mod tests {
    use weir_api::{NodeDatapath, NodeDatapathSpec, NodeDatapathStatus, Reason, VipsWord};

    use super::*;

    #[test]
    fn a_word_is_read_as_the_agent_writes_it() {
        let reason = Reason { code: "UplinksDown".into(), message: "eth0 down".into(), since: None };
        let mut object = NodeDatapath::new("node-a", NodeDatapathSpec { routing: Routing::InService });
        object.status = Some(NodeDatapathStatus {
            carries: Carries::No,
            reasons: vec![reason],
            reported_at: Some("2026-01-01T00:00:00Z".into()),
            report_seconds: Some(60),
            vips: Some(VipsWord { new_flows_per_kilosecond: Some(7), ..VipsWord::default() }),
            ..NodeDatapathStatus::default()
        });
        let read = word(&serde_json::to_value(&object).unwrap()).unwrap();
        let expected = NodeWord {
            routing: Routing::InService,
            carries: Carries::No,
            reason: Some("UplinksDown".into()),
            reported_at: Some("2026-01-01T00:00:00Z".into()),
            report_seconds: Some(60),
            new_flows: Some(7),
        };
        assert_eq!(read, expected);
    }
}
