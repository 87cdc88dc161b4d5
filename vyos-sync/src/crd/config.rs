//! `RouterConfig`: the escape hatch, raw paths inside a subtree that the object owns as a whole.

use super::refs::{IntentStatus, RouterRef};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Raw configuration inside one subtree. For cluster administrators: it is checked against the schema, but no grant
/// bounds it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "RouterConfig",
    status = "IntentStatus",
    category = "weir",
    doc = "Raw configuration inside one subtree that the object owns as a whole. For cluster administrators.",
    printcolumn(name = "Router", type_ = "string", json_path = ".spec.routerRef.name"),
    printcolumn(name = "Subtree", type_ = "string", json_path = ".spec.subtree"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RouterConfigSpec {
    /// The router.
    pub router_ref: RouterRef,
    /// The subtree that the object owns, as words: `[protocols, static, route, 0.0.0.0/0]`.
    #[x_kube(validation = Rule::new("self.size() >= 2").message("a subtree has at least two words"))]
    pub subtree: Vec<String>,
    /// What is set in the subtree. The subtree holds this and nothing else.
    pub set: Vec<RawSetting>,
}

/// One statement inside the subtree.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RawSetting {
    /// The words below the subtree, without the value: `[next-hop, 192.0.2.1]`.
    pub path: Vec<String>,
    /// The value of a leaf; absent for a node without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}
