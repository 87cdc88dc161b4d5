//! The kind `DatapathPolicy` as people write it.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The group and version of Weir's kinds.
pub const API_VERSION: &str = "weir.dev/v1alpha1";
/// The kind of a policy.
pub const KIND: &str = "DatapathPolicy";

/// What a node lets pass at its interfaces, before anything else sees the packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatapathPolicy {
    /// `weir.dev/v1alpha1`.
    pub api_version: String,
    /// `DatapathPolicy`.
    pub kind: String,
    /// Its name; the rest is Kubernetes' own.
    pub metadata: Metadata,
    /// The policy.
    pub spec: PolicySpec,
}

/// The part of an object's metadata that counts here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// The object's name: a DNS label.
    pub name: String,
}

/// What a node lets pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// Which nodes it is for; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// Interfaces by name, `*` standing for anything; all watched ones without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Policies with lower numbers are asked first; equal ones by name.
    #[serde(default = "default_priority")]
    pub priority: i32,
    /// What becomes of packets whose headers cannot be read. `Allow` without it; one policy that says `Deny` is enough.
    #[serde(default)]
    pub unparsable: Unparsable,
    /// What the kernel does once the agent has been silent for 30 s.
    #[serde(default)]
    pub when_agent_is_silent: Silence,
    /// Sets of prefixes that rules name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetSpec>,
    /// Rules, asked in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub rules: Vec<RuleSpec>,
    /// Guards virtual addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip_guard: Option<VipGuard>,
    /// Guards VLANs, source addresses, DHCP, router advertisements and claims of virtual addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_guard: Option<LinkGuard>,
    /// Guards the service mesh: traffic between its pods that is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_guard: Option<MeshGuard>,
    /// Watches that replicas of Longhorn stay in their storage network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_guard: Option<StorageGuard>,
    /// Traffic that no rule may drop, besides what is built in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failsafe: Vec<FailsafeSpec>,
}

fn default_priority() -> i32 {
    100
}

/// Which nodes a policy is for: those that all given parts accept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSelector {
    /// Names of nodes, `*` standing for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// What becomes of packets whose headers cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unparsable {
    /// They pass.
    #[default]
    Allow,
    /// They are dropped.
    Deny,
}

/// What the kernel does once the agent is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Silence {
    /// The rules stay in force.
    #[default]
    Keep,
    /// Everything passes until the agent is back.
    Open,
}

/// A set of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetSpec {
    /// The name by which rules name it.
    pub name: String,
    /// Prefixes or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// A file of prefixes, one a line, `#` before remarks; relative to the policy's own folder. At most a million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.action != 'Rate' || has(self.rate)", "message": "action Rate needs rate"},
    {"rule": "self.action != 'Mark' || has(self.dscp)", "message": "action Mark needs dscp"},
    {"rule": "self.action != 'Pace' || has(self.rate)", "message": "action Pace needs rate"},
    {"rule": "!has(self.reject) || !self.reject || (self.action == 'Deny' && (!has(self.direction) || self.direction == 'Ingress'))",
     "message": "only Deny on ingress can reject"},
    {"rule": "self.action != 'Pace' || (has(self.direction) && self.direction == 'Egress')",
     "message": "only packets to the wire can be paced"},
]))]
pub struct RuleSpec {
    /// Its name, unique within the policy.
    pub name: String,
    /// Seen from the node: `Ingress` from the wire, `Egress` to the wire.
    #[serde(default)]
    pub direction: Way,
    /// `Audit` only counts what the rule would do; `Enforce` does it.
    #[serde(default)]
    pub mode: Mode,
    /// Which packets; all without it.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// What to do.
    pub action: ActionKind,
    /// For `Deny` on ingress: answer with a TCP reset, or "port unreachable" of ICMP, instead of silence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reject: bool,
    /// For `Rate` and `Pace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSpec>,
    /// For `Mark`: 0 to 63.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub dscp: Option<u8>,
}

/// The direction of packets, seen from the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Way {
    /// From the wire.
    #[default]
    Ingress,
    /// To the wire.
    Egress,
}

/// Whether a rule acts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Mode {
    /// It only counts what it would do.
    #[default]
    Audit,
    /// It acts.
    Enforce,
}

impl Mode {
    /// The word of labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActionKind {
    /// The packet passes, and no later rule is asked.
    Allow,
    /// The packet is dropped.
    Deny,
    /// The packet is dropped if it exceeds a budget; otherwise later rules are asked.
    Rate,
    /// The packet gets a DSCP; later rules are asked.
    Mark,
    /// The packet waits for its time in the `fq` discipline; later rules are asked.
    Pace,
}

/// A budget. Exactly one of `packets`, `bytes` and `connections`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.packets) ? 1 : 0) + (has(self.bytes) ? 1 : 0) + (has(self.connections) ? 1 : 0) == 1",
     "message": "give exactly one of packets, bytes and connections"},
]))]
pub struct RateSpec {
    /// Packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// New TCP connections: packets with SYN and without ACK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// The time for so many.
    #[serde(default)]
    pub per: Per,
    /// So many may come at once; what comes in 100 ms without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// A budget for each source prefix of these lengths instead of one for the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_source: Option<PrefixLengths>,
}

/// A time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// A second.
    #[default]
    Second,
    /// A minute.
    Minute,
}

/// Lengths of source prefixes that share a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixLengths {
    /// Of IPv4, 0 to 32.
    #[serde(default = "default_v4")]
    #[schemars(range(min = 0, max = 32))]
    pub ipv4: u8,
    /// Of IPv6, 0 to 128.
    #[serde(default = "default_v6")]
    #[schemars(range(min = 0, max = 128))]
    pub ipv6: u8,
}

fn default_v4() -> u8 {
    32
}

fn default_v6() -> u8 {
    64
}

/// Which packets a rule is for: those that all given parts accept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.ports) || has(self.sourcePorts)) || !has(self.protocol) || self.protocol in ['TCP', 'UDP', 'SCTP']",
     "message": "only TCP, UDP and SCTP have ports"},
    {"rule": "!has(self.icmpTypes) || (has(self.protocol) && self.protocol in ['ICMP', 'ICMPv6'])",
     "message": "icmpTypes needs protocol ICMP or ICMPv6"},
    {"rule": "!has(self.tcpFlags) || (has(self.protocol) && self.protocol == 'TCP')",
     "message": "tcpFlags needs protocol TCP"},
]))]
pub struct Match {
    /// From these addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Peers>,
    /// To these addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Peers>,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, or an IANA number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub protocol: Option<Word>,
    /// Destination ports: `443` or `8000-8100`. Later fragments have no ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "list_of_int_or_string")]
    pub ports: Vec<Word>,
    /// Source ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "list_of_int_or_string")]
    pub source_ports: Vec<Word>,
    /// ICMP types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub icmp_types: Vec<u8>,
    /// Outermost VLAN identifiers, 1 to 4094; 0 is untagged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Traffic classes by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// TCP flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<FlagsSpec>,
}

/// A number or a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// A number.
    Number(u32),
    /// A word.
    Text(String),
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true })
}

fn list_of_int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "x-kubernetes-int-or-string": true } })
}

/// Addresses: those in any of the parts, and in none of `except`. With `except` alone, all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peers {
    /// Prefixes or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Sets by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// The virtual addresses of the node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vips: bool,
    /// Virtual addresses of these pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// Not these prefixes or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// TCP flags by name: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlagsSpec {
    /// All of these are set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// None of these is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
}

/// Guards virtual addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VipGuard {
    /// Whether it acts.
    #[serde(default)]
    pub mode: Mode,
    /// Answer what ends here with a TCP reset, or "port unreachable" of ICMP, instead of silence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reject: bool,
    /// What is served at virtual addresses; what is not listed ends here. Without a list, what the
    /// cluster's Services have (`--manifests`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<VipService>,
    /// New connections to one virtual address from one source prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RateSpec>,
    /// New connections of one source (a pod) to the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_budget: Option<RateSpec>,
}

/// What is served at a virtual address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VipService {
    /// The virtual addresses.
    pub vips: Vec<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The ports.
    #[schemars(schema_with = "list_of_int_or_string")]
    pub ports: Vec<Word>,
    /// From where, as `loadBalancerSourceRanges`; from anywhere without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
}

/// Guards VLANs, source addresses, DHCP and router advertisements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkGuard {
    /// Whether it acts.
    #[serde(default)]
    pub mode: Mode,
    /// Expected VLAN identifiers; 0 is untagged. Not guarded when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Expected source prefixes of packets from the wire. Not guarded when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Addresses of the DHCP servers. Not guarded when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_servers: Vec<String>,
    /// Link-local addresses of the routers. Not guarded when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<String>,
    /// Link-layer addresses that may claim virtual addresses, by ARP or neighbour advertisements. Not guarded when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimants: Vec<String>,
}

/// Guards the service mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshGuard {
    /// Whether it acts.
    #[serde(default)]
    pub mode: Mode,
    /// Sets of the addresses of enrolled pods. Empty: those that Istio's CNI has enrolled, as the cluster tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
}

/// Watches the storage network. It only counts: to drop what replicas say would take volumes away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageGuard {
    /// Sets of the addresses at which replicas are not to be spoken with. Empty: those that Longhorn's instance managers have beside
    /// their storage network, as the cluster tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
}

/// Traffic that no rule may drop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailsafeSpec {
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The port at the server.
    pub port: u16,
    /// `Ingress`: the node serves it. `Egress`: the node uses it. Answers are included.
    pub direction: Way,
}
