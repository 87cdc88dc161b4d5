//! Pods of this node, as far as packets tell of them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use crate::cluster::core::address;
use crate::cluster::parts::typed;
use crate::model::workload::{Owner, Workload, name};

/// The addresses of a Pod and what it belongs to; no addresses where it has those of the node.
pub(super) fn pod(document: &Value, node: &str) -> Result<(Vec<IpAddr>, Workload), String> {
    let pod: core::Pod = typed(document.clone())?;
    let (metadata, status) = (pod.metadata, pod.status.unwrap_or_default());
    let owners = metadata.owner_references.unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true));
    let owner = owner.map(|owner| Owner { kind: &owner.kind, name: &owner.name });
    let labels = metadata.labels.unwrap_or_default();
    let hash = labels.get("pod-template-hash").map(String::as_str);
    let own_name = metadata.name.unwrap_or_default();
    let workload = Workload {
        namespace: metadata.namespace.unwrap_or_default(),
        name: name(&own_name, owner, hash, node),
    };
    if pod.spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return Ok((Vec::new(), workload));
    }
    let texts = status.pod_ips.into_iter().flatten().map(|one| one.ip).chain(status.pod_ip);
    let mut addresses = texts.map(|text| address(&text)).collect::<Result<Vec<_>, _>>()?;
    addresses.sort();
    addresses.dedup();
    Ok((addresses, workload))
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
        let (addresses, workload) = pod(&document, "node-1").unwrap();
        assert_eq!((addresses.len(), workload.to_string().as_str()), (2, "shop/web"));
        document["spec"]["hostNetwork"] = true.into();
        assert_eq!(pod(&document, "node-1").unwrap().0, Vec::<IpAddr>::new());
        document["status"]["podIP"] = "10.0.1.x".into();
        document["spec"]["hostNetwork"] = false.into();
        assert!(pod(&document, "node-1").unwrap_err().contains("10.0.1.x"));
    }
}
