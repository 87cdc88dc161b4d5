//! Pods, as far as packets tell of them.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use crate::cluster::core::address;
use crate::cluster::parts::typed;
use crate::model::ambient::REDIRECTION;
use crate::model::workload::{Owner, Workload, name};

/// What is used of a Pod.
#[derive(Debug)]
pub(super) struct Pod {
    /// Its addresses; none where it has those of the node.
    pub(super) addresses: Vec<IpAddr>,
    /// What it belongs to.
    pub(super) workload: Arc<Workload>,
    /// Whether its packets go through Istio's ambient mesh.
    pub(super) enrolled: bool,
}

/// Reads a Pod.
pub(super) fn pod(document: &Value, node: &str) -> Result<Pod, String> {
    let pod: core::Pod = typed(document.clone())?;
    let (metadata, status) = (pod.metadata, pod.status.unwrap_or_default());
    let owners = metadata.owner_references.unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true));
    let owner = owner.map(|owner| Owner { kind: &owner.kind, name: &owner.name });
    let labels = metadata.labels.unwrap_or_default();
    let hash = labels.get("pod-template-hash").map(String::as_str);
    let own_name = metadata.name.unwrap_or_default();
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(REDIRECTION.0));
    let enrolled = annotation.is_some_and(|value| value == REDIRECTION.1);
    let workload = Arc::new(Workload {
        namespace: metadata.namespace.unwrap_or_default(),
        name: name(&own_name, owner, hash, node),
    });
    if pod.spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return Ok(Pod { addresses: Vec::new(), workload, enrolled: false });
    }
    let texts = status.pod_ips.into_iter().flatten().map(|one| one.ip).chain(status.pod_ip);
    let mut addresses = texts.map(|text| address(&text)).collect::<Result<Vec<_>, _>>()?;
    addresses.sort();
    addresses.dedup();
    Ok(Pod { addresses, workload, enrolled })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_of_the_hosts_network_has_no_address_of_its_own() {
        let mut document = json!({"metadata": {"name": "web-5d-x", "namespace": "shop",
                "labels": {"pod-template-hash": "5d"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "u", "controller": true}]},
            "spec": {"containers": []},
            "status": {"podIP": "10.0.1.9", "podIPs": [{"ip": "10.0.1.9"}, {"ip": "fd00::9"}]}});
        let read = pod(&document, "node-1").unwrap();
        assert_eq!((read.addresses.len(), read.workload.to_string().as_str()), (2, "shop/web"));
        assert!(!read.enrolled);
        for (state, enrolled) in [("pending", false), ("enabled", true)] {
            document["metadata"]["annotations"] = json!({"ambient.istio.io/redirection": state});
            assert_eq!(pod(&document, "node-1").unwrap().enrolled, enrolled);
        }
        document["spec"]["hostNetwork"] = true.into();
        assert_eq!(pod(&document, "node-1").unwrap().addresses, Vec::<IpAddr>::new());
        document["status"]["podIP"] = "10.0.1.x".into();
        document["spec"]["hostNetwork"] = false.into();
        assert!(pod(&document, "node-1").unwrap_err().contains("10.0.1.x"));
    }
}
