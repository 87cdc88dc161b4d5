//! References between objects, and the status that the intent kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names the Router object that an object is meant for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RouterRef {
    /// Name of the (cluster-scoped) Router.
    pub name: String,
}

/// Names an object in some namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NamespacedRef {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

/// Names a RouterNetwork; the namespace defaults to the referrer's.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NetworkRef {
    /// Namespace of the RouterNetwork, by default the referrer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the RouterNetwork.
    pub name: String,
}

/// Names one key of a Secret in some namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SecretKeyRef {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Key inside the Secret's data.
    pub key: String,
}

/// Names a Secret in the referrer's namespace that holds a password, or such an entry of OpenBAO.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PasswordRef {
    /// Name of the Secret, or of the entry.
    pub name: String,
    /// Key inside its data, by default `password` (as Cilium's own secrets have it).
    #[serde(default = "password_key")]
    pub key: String,
    /// `Secret`: a Secret of this namespace. `OpenBAO`: the entry `bgp/NAMESPACE/NAME` below vyos-sync's prefix, this
    /// namespace's own too.
    #[serde(default, skip_serializing_if = "SecretStore::is_default")]
    pub store: SecretStore,
}

/// Where a password is kept.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretStore {
    /// In a Secret.
    #[default]
    Secret,
    /// In OpenBAO.
    OpenBAO,
}

impl SecretStore {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn password_key() -> String {
    "password".to_owned()
}

/// Names a Service, in this or in another cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// Cluster API name of the cluster that holds the Service, by default the cluster of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Namespace of the Service, by default the referrer's. Another namespace needs a grant with that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the Service.
    pub name: String,
}

/// What the controller reports on an intent object.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IntentStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted` (the spec makes sense), `Synced` (the router runs it) and the summary `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
