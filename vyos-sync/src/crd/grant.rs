//! `RouterGrant`: what a namespace or a cluster may ask of a router.

use super::publication::Protocol;
use super::refs::IntentStatus;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Gives namespaces and clusters the use of VLANs, prefixes, AS numbers, public ports and host names.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "RouterGrant",
    status = "IntentStatus",
    category = "weir",
    doc = "Gives namespaces and clusters the use of VLANs, prefixes, AS numbers, public ports and host names.",
    printcolumn(name = "Routers", type_ = "string", json_path = ".spec.routers"),
    printcolumn(name = "VLANs", type_ = "string", json_path = ".spec.vlans"),
    printcolumn(name = "CIDRs", type_ = "string", json_path = ".spec.cidrs"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RouterGrantSpec {
    /// Names of the routers that the grant is for; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<String>,
    /// Who is given the use.
    pub subjects: GrantSubjects,
    /// VLAN ids and ranges, such as `40` and `100-110`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<String>,
    /// Prefixes; a subnet, pool or accepted prefix must lie inside one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// AS numbers and ranges that peers may have, such as `64513` and `64600-64699`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asns: Vec<String>,
    /// Public ports that may be published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_ports: Vec<PublicPorts>,
    /// Host names that may be published; `*.apps.example.org` stands for every name below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
}

/// Who is given the use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrantSubjects {
    /// Namespaces of this cluster by name; `*` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Namespaces of this cluster by label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Clusters by Cluster API name; `local` is the cluster that holds the Router, `*` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
}

/// Public ports that may be published.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PublicPorts {
    /// The transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// A port or a range, such as `443` or `8000-8099`.
    pub ports: String,
}
