//! Cilium's ConfigMap `cilium-config`, and its retired CiliumBGPPeeringPolicy: read by `doctor` alone.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

/// The settings of a cluster's Cilium, as its ConfigMap has them: names and texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumConfig(pub BTreeMap<String, String>);

impl CiliumConfig {
    /// Name of the ConfigMap; its namespace is where Cilium was installed.
    pub const NAME: &'static str = "cilium-config";

    /// One setting; `None` where the ConfigMap does not say it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The settings in a ConfigMap. What is no text is told as JSON.
pub(super) fn settings(document: &Value) -> Result<CiliumConfig, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match document.get("data") {
        None | Some(Value::Null) => Ok(CiliumConfig::default()),
        Some(Value::Object(data)) => {
            Ok(CiliumConfig(data.iter().map(|(name, value)| (name.clone(), text(value))).collect()))
        }
        Some(_) => Err("data: not a map".to_owned()),
    }
}

/// `CiliumBGPPeeringPolicy` (cilium.io/v2alpha1), gone since Cilium 1.19.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeeringPolicy {
    /// Which nodes.
    pub node_selector: Option<Value>,
    /// Their speakers.
    pub virtual_routers: Vec<VirtualRouter>,
}

/// One speaker of a CiliumBGPPeeringPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualRouter {
    /// Its AS number.
    #[serde(rename = "localASN")]
    pub local_asn: i64,
    /// Whether the node's pod prefix is announced.
    #[serde(rename = "exportPodCIDR")]
    pub export_pod_cidr: bool,
    /// Which Services are announced; none when absent.
    pub service_selector: Option<LabelSelector>,
    /// Which of their addresses.
    pub service_advertisements: Vec<String>,
    /// The peers.
    pub neighbors: Vec<PolicyNeighbor>,
}

/// One peer of a CiliumBGPPeeringPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyNeighbor {
    /// Its address, as a prefix of one address.
    pub peer_address: String,
    /// Its port.
    pub peer_port: Option<u16>,
    /// Its AS number.
    #[serde(rename = "peerASN")]
    pub peer_asn: i64,
    /// Secret with the password.
    pub auth_secret_ref: Option<String>,
    /// TTL.
    #[serde(rename = "eBGPMultihopTTL")]
    pub ebgp_multihop_ttl: Option<u16>,
    /// Hold time in seconds.
    pub hold_time_seconds: Option<u16>,
    /// Keepalive interval in seconds.
    pub keep_alive_time_seconds: Option<u16>,
    /// Connect retry in seconds.
    pub connect_retry_time_seconds: Option<u16>,
    /// Graceful restart, as it is written.
    pub graceful_restart: Option<Value>,
    /// Families; both when empty.
    pub families: Vec<Value>,
}
