//! `RouterChange`: one change as it was planned, sent, verified and kept. Written by the controller.

use super::refs::RouterRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One change of a router: written before anything is sent, kept as the record of what happened. Secrets are
/// redacted.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "RouterChange",
    status = "RouterChangeStatus",
    category = "weir",
    doc = "One change of a router: written before anything is sent, kept as the record of what happened.",
    printcolumn(name = "Router", type_ = "string", json_path = ".spec.routerRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.result"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.planHash == oldSelf.planHash").message("a change is never edited"))]
pub struct RouterChangeSpec {
    /// The router.
    pub router_ref: RouterRef,
    /// SHA-256 of the plan; a plan that failed is not tried again unchanged.
    pub plan_hash: String,
    /// The commands, with secrets redacted, in the order in which they are sent.
    pub commands: Vec<String>,
    /// The commands that take the change back, with secrets redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
    /// The objects that asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// When the router undoes it by itself (RFC 3339), if it is not confirmed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// How far a change came.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangePhase {
    /// Written, nothing sent.
    #[default]
    Planned,
    /// The undo is armed.
    Armed,
    /// The commands were sent; the reply may be outstanding or lost.
    Sent,
    /// The router runs it.
    Committed,
    /// The checks passed.
    Verified,
    /// Confirmed and saved.
    Saved,
    /// Undone.
    RolledBack,
}

/// What became of a change.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeResult {
    /// It is in force and saved.
    Applied,
    /// It was refused or undone.
    Failed,
    /// The reply was lost; the next read of the router tells.
    Unknown,
}

/// What the controller reports on a change.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouterChangeStatus {
    /// How far it came.
    #[serde(default)]
    pub phase: ChangePhase,
    /// What became of it; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ChangeResult>,
    /// The reason in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Conditions in the usual form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
