//! `Router`: one VyOS router, how to reach it, and how far vyos-sync may go on it.

use super::refs::SecretKeyRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One VyOS router: how to reach it, what vyos-sync may do there, and which sources it follows.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Router",
    status = "RouterStatus",
    category = "weir",
    doc = "One VyOS router: how to reach it, what vyos-sync may do there, and which sources it follows.",
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Last change", type_ = "string", json_path = ".status.lastChange"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RouterSpec {
    /// HTTPS addresses of the router's API, tried in order, such as `https://10.10.10.1:443`.
    #[x_kube(validation = Rule::new("self.size() > 0 && self.all(e, e.startsWith('https://'))").message("give at least one https:// address"))]
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub endpoints: Vec<String>,
    /// The release's dialect; `auto` asks the router.
    #[serde(default)]
    pub dialect: DialectChoice,
    /// How the router proves who it is: a CA or a pin. There is no way to skip the proof.
    #[x_kube(validation = Rule::new("has(self.caBundle) || has(self.caFile) || (has(self.spkiPins) && self.spkiPins.size() > 0)").message("give caBundle, caFile or spkiPins"))]
    pub tls: Tls,
    /// Where the API key is read from.
    #[x_kube(validation = Rule::new("[has(self.secretRef), has(self.file), has(self.openBao)].filter(e, e).size() == 1").message("give exactly one of secretRef, file and openBao"))]
    pub api_key: ApiKey,
    /// The router as a BGP speaker. Without it no BGP is rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<RouterBgp>,
    /// Path of the interface or address that the API is reached through, such as `interfaces ethernet eth0`. No
    /// change that touches it is ever sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_path: Option<String>,
    /// Further paths that no plan may touch, each as words separated by blanks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected_paths: Vec<String>,
    /// `Observe` only reports, `Upsert` never deletes, `Sync` also prunes what it made.
    #[serde(default)]
    pub mode: Mode,
    /// What to do when somebody else changed what is ours.
    #[serde(default)]
    pub drift: Drift,
    /// How a change is armed and confirmed.
    #[serde(default)]
    pub commit: Commit,
    /// The rule numbers that vyos-sync may use; numbers outside are never touched.
    #[serde(default)]
    pub rule_ranges: RuleRanges,
    /// The most configuration nodes that one plan may delete; a larger plan waits for a person.
    #[serde(default = "deletion_budget")]
    #[schemars(range(min = 0))]
    pub deletion_budget: u32,
    /// What must answer after a change, besides the API and the BGP sessions that were up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub probes: Vec<Probe>,
    /// `Required`: an object may only use what a RouterGrant gives it. `Open`: no grant is asked for.
    #[serde(default)]
    pub grants: GrantPolicy,
    /// Which objects of other systems are followed with no object of ours.
    #[serde(default)]
    pub sources: Sources,
    /// Drains the node of a Cluster API Machine before it is deleted, by hooks on the Machine. Absent: no hooks are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_drain: Option<MachineDrain>,
    /// Drains nodes whose NodeDatapath says that they cannot carry traffic. Absent: health is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthGate>,
}

fn deletion_budget() -> u32 {
    50
}

/// The dialect of a VyOS release.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DialectChoice {
    /// Ask the router for its release.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// VyOS 1.4 (ISC DHCP).
    #[serde(rename = "1.4")]
    V1_4,
    /// VyOS 1.5 and rolling (Kea DHCP).
    #[serde(rename = "1.5")]
    V1_5,
}

/// How the router's certificate is checked.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// CA certificates in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// File with CA certificates in PEM, re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// SHA-256 pins of the server's public key (SubjectPublicKeyInfo) in base64; one match is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spki_pins: Vec<String>,
    /// Name in the certificate, where it differs from the endpoint's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Where the API key comes from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// A file, re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An entry of OpenBAO, read again every minute or so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_bao: Option<BaoKeyRef>,
}

/// Names an entry of OpenBAO that holds a router's key.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct BaoKeyRef {
    /// The entry is `routers/NAME` below vyos-sync's prefix.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Key inside the entry, by default `key`.
    #[serde(default = "bao_key")]
    pub key: String,
}

fn bao_key() -> String {
    "key".to_owned()
}

/// The router as a BGP speaker.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouterBgp {
    /// The router's own AS number, `protocols bgp system-as`.
    #[schemars(range(min = 1, max = 4294967294u32))]
    pub asn: u32,
    /// Addresses that peers dial, besides the gateways of this router's networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Router identifier, an IPv4 address. VyOS picks one where it is absent.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// How many equal paths are used at once (ECMP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub maximum_paths: Option<u16>,
}

/// How far vyos-sync goes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plan and report only.
    #[default]
    Observe,
    /// Create and change, never delete.
    Upsert,
    /// Create, change and prune what vyos-sync made.
    Sync,
}

/// What to do about a foreign edit of what is ours.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// Put our value back.
    Revert,
    /// Report it and leave it.
    #[default]
    Report,
}

/// How a change is armed and confirmed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// Minutes after which the router undoes an unconfirmed change by itself.
    #[serde(default = "confirm_minutes")]
    #[schemars(range(min = 1, max = 60))]
    pub confirm_minutes: u16,
    /// Whether a scheduled reboot may stand in where the API has no commit-confirm.
    #[serde(default)]
    pub dead_man: DeadMan,
}

fn confirm_minutes() -> u16 {
    5
}

impl Default for Commit {
    fn default() -> Self {
        Self { confirm_minutes: confirm_minutes(), dead_man: DeadMan::default() }
    }
}

/// The stand-in for commit-confirm on releases that lack it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadMan {
    /// No change is sent to a router without commit-confirm.
    #[default]
    Forbidden,
    /// A reboot is scheduled before the commit and cancelled after the check.
    Reboot,
}

/// The rule numbers that vyos-sync may use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RuleRanges {
    /// Source NAT rules for traffic that stays as it is, by default 10000-19999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<RuleRange>,
    /// Destination NAT rules, by default 20000-29999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnat: Option<RuleRange>,
    /// Source NAT rules for hairpin traffic, by default 30000-39999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<RuleRange>,
    /// Source NAT rules of networks, by default 40000-49999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat: Option<RuleRange>,
    /// Rules of `nat static`, by default 40000-49999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_to_one: Option<RuleRange>,
    /// Rules of `nat66 source`, by default 40000-49999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat66: Option<RuleRange>,
    /// `subnet-id` of the DHCP servers of 1.5, by default 40000-49999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_subnet: Option<RuleRange>,
}

/// A closed range of numbers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.start <= self.end").message("start must not be greater than end"))]
pub struct RuleRange {
    /// First number.
    #[schemars(range(min = 1, max = 999999))]
    pub start: u32,
    /// Last number.
    #[schemars(range(min = 1, max = 999999))]
    pub end: u32,
}

/// Something that must answer after a change.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.tcp), has(self.http), has(self.ping), has(self.bgpPeer)].filter(x, x).size() == 1").message("give exactly one of tcp, http, ping and bgpPeer"))]
#[x_kube(validation = Rule::new("!has(self.caBundle) || has(self.http)").message("only http has a caBundle"))]
pub struct Probe {
    /// Name shown in the RouterChange.
    pub name: String,
    /// `address:port` that must accept a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// URL that must answer with a status below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// CA certificates in PEM for an `https://` URL, by default those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// IP address that must answer an ICMP echo. Needs the right to send one: `CAP_NET_RAW`, or the group in
    /// `net.ipv4.ping_group_range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping: Option<String>,
    /// Address of a BGP peer of the router whose session must be established, also where it was not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp_peer: Option<String>,
    /// How long to wait for the answer.
    #[serde(default = "probe_seconds")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u16,
}

fn probe_seconds() -> u16 {
    5
}

/// Whether grants are asked for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantPolicy {
    /// Only what a RouterGrant gives may be used.
    #[default]
    Required,
    /// Everything may be used.
    Open,
}

/// Objects of other systems that are followed with no object of ours.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Cilium's BGP objects; followed whenever `spec.bgp` is set, unless `peers` is `Ignore`.
    #[serde(default)]
    pub cilium: CiliumSource,
    /// Harvester's NetworkAttachmentDefinitions. Followed only when a parent is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harvester: Option<HarvesterSource>,
    /// Tinkerbell's Hardware.
    #[serde(default)]
    pub tinkerbell: TinkerbellSource,
    /// KubeVirt's VirtualMachineInstances.
    #[serde(default)]
    pub kubevirt: KubeVirtSource,
}

/// How Cilium's BGP objects are followed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumSource {
    /// How the router finds its peers.
    #[serde(default)]
    pub peers: PeerDiscovery,
}

/// How the router finds its peers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerDiscovery {
    /// One BGP neighbor for each node.
    #[default]
    Static,
    /// A peer-group and a listen range over the nodes' network.
    Dynamic,
    /// Cilium's objects are not followed.
    Ignore,
}

/// How Harvester's networks are followed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HarvesterSource {
    /// The router's interface that carries Harvester's VLANs.
    pub parent: super::network::Parent,
    /// Only networks of this Harvester cluster network; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_network: Option<String>,
}

/// How Tinkerbell's Hardware is followed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct TinkerbellSource {
    /// Who answers DHCP for the hardware.
    #[serde(default)]
    pub mode: TinkerbellMode,
}

/// Who answers DHCP for Tinkerbell's hardware.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TinkerbellMode {
    /// The router, with a reservation for each interface whose address is in a served network.
    #[default]
    Reservations,
    /// Tinkerbell alone; its hardware makes no reservation on the router.
    Ignore,
}

/// How KubeVirt's machines are followed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KubeVirtSource {
    /// A reservation for each machine whose network is served, so that it keeps its address.
    #[default]
    Reservations,
    /// Machines make no reservation on the router.
    Ignore,
}

/// How the node of a Machine in deletion is drained.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MachineDrain {
    /// Seconds after which a hook is let go whatever was reached: a deletion is never blocked.
    #[serde(default = "drain_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: u32,
}

fn drain_seconds() -> u32 {
    300
}

/// How nodes are drained by their own word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HealthGate {
    /// The most nodes of a cluster that are drained at once, in percent, rounded down; never the last one.
    #[serde(default = "drained_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_drained_percent: u8,
    /// Seconds that a node must say that it cannot carry traffic.
    #[serde(default = "unhealthy_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub unhealthy_seconds: u32,
    /// Seconds that a drained node must say that it can.
    #[serde(default = "healthy_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub healthy_seconds: u32,
}

fn drained_percent() -> u8 {
    34
}

fn unhealthy_seconds() -> u32 {
    10
}

fn healthy_seconds() -> u32 {
    60
}

/// What the controller reports on a Router.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The release that the router runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Name of the newest RouterChange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<String>,
    /// `Reachable`, `SourcesComplete`, `Synced` and the summary `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
