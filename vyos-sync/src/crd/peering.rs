//! `BGPPeering`: how a router peers with a cluster, where Cilium's own objects do not say enough.

use super::refs::{IntentStatus, PasswordRef, RouterRef};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a router peers with a cluster: static peers or a listen range, filters, timers, BFD and drain.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "BGPPeering",
    namespaced,
    status = "IntentStatus",
    category = "weir",
    doc = "How a router peers with a cluster: static peers or a listen range, filters, timers, BFD and drain.",
    printcolumn(name = "Router", type_ = "string", json_path = ".spec.routerRef.name"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "ASN", type_ = "integer", json_path = ".spec.peerASN"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Dynamic' || has(self.dynamic)").message("mode Dynamic needs dynamic.ranges"))]
#[x_kube(validation = Rule::new("self.mode != 'Dynamic' || !has(self.timers)").message("VyOS has no timers on a peer-group: set them on the peers' side, the lower hold time wins"))]
pub struct BGPPeeringSpec {
    /// The router.
    pub router_ref: RouterRef,
    /// Words for people, shown in the router's descriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 190))]
    pub description: Option<String>,
    /// Cluster API name of the peer cluster; `local` is the cluster that holds the Router.
    #[serde(default = "local_cluster")]
    pub cluster: String,
    /// `Static`: one neighbor for each peer. `Dynamic`: a listen range.
    #[serde(default)]
    pub mode: PeeringMode,
    /// The peers' AS number. May be left to Cilium's objects in mode Static.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967294u32))]
    pub peer_asn: Option<u32>,
    /// Peers by hand; without them the nodes of the cluster that Cilium's objects select.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<StaticPeer>,
    /// The listen range of mode Dynamic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicPeers>,
    /// Timers, by default those of Cilium's CiliumBGPPeerConfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers: Option<Timers>,
    /// Secret with the TCP-MD5 password, by default Cilium's `authSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_ref: Option<PasswordRef>,
    /// Prefixes that are accepted, by default exactly what Cilium's pools and advertisements can announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<AcceptedPrefix>,
    /// Prefixes that the router announces to the peers: nothing by default. `0.0.0.0/0` and `::/0` originate a
    /// default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<String>,
    /// The most prefixes that are taken from one peer, in each family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_prefixes: Option<u32>,
    /// BFD; absent means off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// Whether the peers are being drained.
    #[serde(default)]
    pub drain: Drain,
    /// Hops to the peers, where they are not on a shared segment (eBGP multihop).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 255))]
    pub multihop: Option<u8>,
}

fn local_cluster() -> String {
    "local".to_owned()
}

/// Static neighbors or a listen range.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeeringMode {
    /// One neighbor for each peer.
    #[default]
    Static,
    /// A peer-group and a listen range.
    Dynamic,
}

/// A peer by hand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StaticPeer {
    /// Name shown in the neighbor's description.
    pub name: String,
    /// The peer's address.
    pub address: String,
}

/// The listen range of mode Dynamic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DynamicPeers {
    /// Prefixes from which peers may dial in.
    pub ranges: Vec<String>,
    /// The most dynamic peers on the whole router (VyOS has one limit), 1 to 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub limit: Option<u16>,
}

/// BGP timers, in Cilium's terms.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.keepAliveTimeSeconds * 3 <= self.holdTimeSeconds").message("keepAliveTimeSeconds must be at most a third of holdTimeSeconds"))]
pub struct Timers {
    /// Hold time.
    #[schemars(range(min = 3, max = 65535))]
    pub hold_time_seconds: u16,
    /// Keepalive interval.
    #[schemars(range(min = 1, max = 65535))]
    pub keep_alive_time_seconds: u16,
}

/// A prefix that is accepted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPrefix {
    /// The prefix.
    pub prefix: String,
    /// Shortest accepted length; the prefix alone when `ge` and `le` are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub ge: Option<u8>,
    /// Longest accepted length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub le: Option<u8>,
}

/// Bidirectional forwarding detection (RFC 5880). Both ends must speak it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// Lowest interval at which we receive, in milliseconds.
    #[serde(default = "bfd_interval")]
    #[schemars(range(min = 10, max = 60000))]
    pub receive_milliseconds: u16,
    /// Interval at which we send, in milliseconds.
    #[serde(default = "bfd_interval")]
    #[schemars(range(min = 10, max = 60000))]
    pub transmit_milliseconds: u16,
    /// Missed packets that bring the session down.
    #[serde(default = "bfd_multiplier")]
    #[schemars(range(min = 2, max = 255))]
    pub multiplier: u8,
}

fn bfd_interval() -> u16 {
    300
}

fn bfd_multiplier() -> u8 {
    3
}

/// Whether the peers are being drained.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// A peer is drained when its Cluster API Machine is being deleted.
    #[default]
    WithMachine,
    /// All peers are drained now.
    Now,
    /// Peers are never drained.
    Never,
}
