//! `NodeDatapath`: what a node's agent says of its datapath. One small object for each node, named like the node.

#![expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the KubeSchema derive repeats each struct inside a function; printer columns have types in common"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people ask for a node. The agent makes the object; it belongs to the Node, and goes with it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "NodeDatapath",
    status = "NodeDatapathStatus",
    category = "weir",
    shortname = "ndp",
    derive = "Default",
    derive = "PartialEq",
    doc = "What a node's agent says of its datapath, and whether the router may send it traffic.",
    printcolumn(name = "Carries", type_ = "string", json_path = ".status.carries"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reasons[0].code"),
    printcolumn(name = "Routing", type_ = "string", json_path = ".spec.routing"),
    printcolumn(name = "Reported", type_ = "date", json_path = ".status.reportedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeDatapathSpec {
    /// Whether the router may send the node traffic.
    #[serde(default)]
    pub routing: Routing,
}

/// Whether the router may send a node traffic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// As the node's own verdict says, within the router's budget.
    #[default]
    FollowHealth,
    /// Drained, because a person says so: its routes are the last choice, its session stays.
    Drained,
    /// Never drained for its health.
    InService,
}

/// What the agent reports. Written when something changes, and again after `reportSeconds` at the latest.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeDatapathStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When this was written (RFC 3339, the node's clock). Who reads it judges age by when it changes, not by clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<String>,
    /// Seconds within which the agent writes again. Three times as long without a word, and the word is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub report_seconds: Option<u32>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The verdict: whether the node can carry traffic.
    #[serde(default)]
    pub carries: Carries,
    /// Why it cannot, or not well; the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub reasons: Vec<Reason>,
    /// What the agent can do on this node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub capabilities: Vec<CapabilityWord>,
    /// The uplinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub links: Vec<LinkWord>,
    /// BGP sessions, as seen on the wire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub bgp: Vec<BgpWord>,
    /// BFD sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub bfd: Vec<BfdWord>,
    /// Virtual addresses: meant, announced, and carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vips: Option<VipsWord>,
    /// Conditions in the usual form: `Ready` is the summary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Whether a node can carry traffic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carries {
    /// It does.
    Yes,
    /// It does, with losses or without reserve. It is not drained for that.
    Degraded,
    /// It does not.
    No,
    /// The agent cannot tell.
    #[default]
    Unknown,
}

/// One reason of the verdict.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// One word in CamelCase, such as `UplinkDown`.
    #[schemars(length(min = 1, max = 64))]
    pub code: String,
    /// What people read.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Something that the agent can do, perhaps by a lesser way.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CapabilityWord {
    /// Its name, as `weir-agent --capabilities` prints it.
    pub name: String,
    /// How far it works.
    pub state: CapabilityState,
    /// Why not fully.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
}

/// How far a capability works.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityState {
    /// As meant.
    Full,
    /// By a lesser way.
    Fallback,
    /// Not at all.
    Missing,
}

/// An uplink.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LinkWord {
    /// Interface name.
    pub name: String,
    /// It is up and has a carrier.
    pub up: bool,
    /// MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Speed in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<u64>,
    /// Whether its gateway answered the last probes; absent where none is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_answers: Option<bool>,
}

/// A BGP session as seen on the wire.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BgpWord {
    /// The peer's address.
    pub peer: String,
    /// Its AS number.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<u32>,
    /// `idle`, `connect`, `active`, `opensent`, `openconfirm` or `established`, as Cilium writes it.
    pub state: String,
    /// Prefixes that this node announces to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<u32>,
    /// Why it last went down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_down: Option<String>,
}

/// A BFD session (RFC 5880).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct BfdWord {
    /// The peer's address.
    pub peer: String,
    /// `AdminDown`, `Down`, `Init` or `Up` (RFC 5880 section 4.1).
    pub state: String,
    /// The diagnostic of the last change (RFC 5880 section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<u8>,
}

/// The truth about virtual addresses on this node.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VipsWord {
    /// How many this node should announce.
    pub intended: u32,
    /// How many it announces.
    pub announced: u32,
    /// New flows to virtual addresses per second, in the last report interval, times 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_flows_per_kilosecond: Option<u64>,
    /// Those with something wrong, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub wrong: Vec<VipWord>,
    /// How many more have something wrong.
    #[serde(default)]
    pub wrong_beyond: u32,
}

/// A virtual address with something wrong.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct VipWord {
    /// The prefix.
    pub prefix: String,
    /// The Service, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What is wrong.
    pub fault: VipFault,
}

/// What is wrong with a virtual address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipFault {
    /// It should be announced and is not.
    NotAnnounced,
    /// It is announced and should not be.
    Stray,
    /// It is announced and this node has no ready endpoint for it.
    NoEndpoint,
    /// Packets for it arrive and none are answered.
    Blackhole,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt as _;

    #[test]
    fn an_empty_status_is_unknown_and_reads_back() {
        let status: NodeDatapathStatus = serde_json::from_str("{}").unwrap();
        assert_eq!((status.carries, &status), (Carries::Unknown, &NodeDatapathStatus::default()));
        let text = serde_json::to_string(&NodeDatapath::new("node-a", NodeDatapathSpec::default())).unwrap();
        assert!(text.contains(r#""routing":"FollowHealth""#), "{text}");
    }

    #[test]
    fn the_kind_has_a_status_of_its_own() {
        let definition = NodeDatapath::crd();
        assert_eq!(definition.metadata.name.as_deref(), Some("nodedatapaths.weir.dev"));
        assert!(definition.spec.versions[0].subresources.as_ref().is_some_and(|s| s.status.is_some()));
    }
}
