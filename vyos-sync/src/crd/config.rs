//! `RouterConfig`: the escape hatch, raw paths inside a subtree that the object owns as a whole.

use super::refs::{IntentStatus, RouterRef};
use kube::{CustomResource, KubeSchema};
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
    /// What is set below the subtree; each entry is the words after it, the value last.
    pub set: Vec<Vec<String>>,
}
