//! `PortPublication`: a Service made reachable from outside, by destination NAT, hairpin NAT and host names.

use super::refs::{IntentStatus, NetworkRef, RouterRef, ServiceRef};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Publishes ports of a Service with a VIP on a public address of the router.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "PortPublication",
    namespaced,
    status = "IntentStatus",
    category = "weir",
    doc = "Publishes ports of a Service with a VIP on a public address of the router.",
    printcolumn(name = "Router", type_ = "string", json_path = ".spec.routerRef.name"),
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.serviceRef.name"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.hairpin) || has(self.address)").message("hairpin needs a fixed public address"))]
pub struct PortPublicationSpec {
    /// The router.
    pub router_ref: RouterRef,
    /// Words for people, shown in the router's descriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 190))]
    pub description: Option<String>,
    /// The Service; it needs an address in `status.loadBalancer`.
    pub service_ref: ServiceRef,
    /// The interface that outside traffic comes in by.
    pub interface: String,
    /// The public IPv4 address; absent for whatever address the interface has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The ports; all of the Service's ports when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// Prefixes that may come in; everybody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
    /// Networks whose hosts use the public address too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<Hairpin>,
    /// Names that the router's DNS forwarder answers with the VIP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
}

/// One published port.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// The public port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The Service's port, by default the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub service_port: Option<u16>,
    /// The transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

/// Networks whose hosts use the public address too.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Hairpin {
    /// The RouterNetworks.
    pub networks: Vec<NetworkRef>,
}
