//! The kinds of group `weir.dev/v1alpha1`: what people write, and what they read back.
//!
//! Addresses, prefixes and ranges are strings here, as in the Kubernetes API. `intent` parses each of them once
//! and names the field when one is wrong, so one bad field never hides the other objects.

#![expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the KubeSchema derive repeats each struct inside a function; printer columns have types in common"
)]

mod change;
mod config;
mod grant;
mod network;
mod peering;
mod publication;
mod refs;
mod router;

pub use change::{ChangePhase, ChangeResult, RouterChange, RouterChangeSpec, RouterChangeStatus};
pub use config::{RawSetting, RouterConfig, RouterConfigSpec};
pub use grant::{GrantSubjects, PublicPorts, RouterGrant, RouterGrantSpec};
pub use network::{
    AddressRange, Dhcp, Dhcp6Server, DhcpServer, DnsForwarding, Nat66, NatOneToOne, NetworkSubnet, Parent,
    ParentKind, Pxe, Relay, ReservationSource, Reservations, RouterAdvertisement, RouterNetwork,
    RouterNetworkSpec, SourceNat, StaticReservation, V6Addressing,
};
pub use peering::{
    AcceptedPrefix, BGPPeering, BGPPeeringSpec, Bfd, Drain, DynamicPeers, PeeringMode, StaticPeer, Timers,
};
pub use publication::{Hairpin, PortPublication, PortPublicationSpec, Protocol, PublishedPort};
pub use refs::{
    IntentStatus, NamespacedRef, NetworkRef, PasswordRef, RouterRef, SecretKeyRef, SecretStore, ServiceRef,
};
pub use router::{
    ApiKey, BaoKeyRef, CiliumSource, Commit, DeadMan, DialectChoice, Drift, GrantPolicy, HarvesterSource,
    HealthGate, KubeVirtSource, MachineDrain, Mode, PeerDiscovery, Probe, Router, RouterBgp, RouterSpec,
    RouterStatus, RuleRange, RuleRanges, Sources, TinkerbellMode, TinkerbellSource, Tls,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of every kind in this room.
pub const GROUP: &str = "weir.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";

/// Every definition, in the order in which they should be applied.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        Router::crd(),
        RouterGrant::crd(),
        RouterNetwork::crd(),
        BGPPeering::crd(),
        PortPublication::crd(),
        RouterConfig::crd(),
        RouterChange::crd(),
        weir_api::NodeDatapath::crd(),
    ]
}

/// Every definition as one multi-document YAML text, as `vyos-sync crds` prints it.
///
/// # Errors
/// Never in practice: the definitions are plain data. The serializer's error is passed on all the same.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::new();
    for definition in all() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}

/// The admission policies, for these accounts: who may write what, which no schema can say.
#[must_use]
pub fn admission(account: &str, agent: &str) -> String {
    include_str!("admission.yaml")
        .replace("'ACCOUNT'", &format!("'{account}'"))
        .replace("'AGENT'", &format!("'{agent}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_status_columns_and_a_structural_schema() {
        for definition in all() {
            let name = definition.metadata.name.clone().unwrap_or_default();
            let version = &definition.spec.versions[0];
            assert!(
                version.subresources.as_ref().is_some_and(|s| s.status.is_some()),
                "{name}: status subresource"
            );
            assert!(
                version.additional_printer_columns.as_ref().is_some_and(|c| !c.is_empty()),
                "{name}: columns"
            );
            assert_eq!(definition.spec.group, GROUP);
        }
    }

    #[test]
    fn every_field_is_documented() {
        for definition in all() {
            let schema = definition.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema);
            let schema = serde_json::to_value(schema).unwrap();
            let spec = &schema["properties"]["spec"]["properties"];
            for (field, node) in spec.as_object().expect("spec has fields") {
                assert!(node["description"].is_string(), "{}: spec.{field}", definition.spec.names.kind);
            }
        }
    }

    /// A structural schema has no references, and a type at every node that is not "any".
    #[test]
    fn schemas_are_structural() {
        fn walk(kind: &str, path: &str, node: &serde_json::Value) {
            for word in ["$ref", "oneOf", "anyOf", "allOf", "definitions", "$defs"] {
                assert!(node.get(word).is_none(), "{kind}{path}: {word}");
            }
            assert!(node["type"].is_string(), "{kind}{path}: no type");
            for (name, child) in node["properties"].as_object().into_iter().flatten() {
                walk(kind, &format!("{path}.{name}"), child);
            }
            for inner in ["items", "additionalProperties"] {
                if node[inner].is_object() {
                    walk(kind, &format!("{path}[]"), &node[inner]);
                }
            }
        }
        for definition in all() {
            let schema = definition.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema);
            let schema = serde_json::to_value(schema).unwrap();
            for part in ["spec", "status"] {
                walk(&definition.spec.names.kind, &format!(".{part}"), &schema["properties"][part]);
            }
        }
    }

    #[test]
    fn the_yaml_reads_back() {
        let text = yaml().unwrap();
        let back: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(back.len(), all().len());
    }
}
