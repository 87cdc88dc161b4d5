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
    /// Whether it is an instance manager of Longhorn with a network of its own for what replicas say.
    pub(super) stores: bool,
    /// Its addresses there, once it has them.
    pub(super) storage: Vec<IpAddr>,
}

/// Label, and annotation with the networks that Multus is to attach, of Longhorn's instance managers; the interface of the storage
/// network has this name.
const COMPONENT: (&str, &str) = ("longhorn.io/component", "instance-manager");
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// What Multus attached.
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// What is kept of annotations.
pub(super) const ANNOTATIONS: [&str; 3] = [REDIRECTION.0, NETWORKS, STATUS];
const STORAGE: &str = "lhnet1";

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
    let networks = metadata.annotations.as_ref().and_then(|all| all.get(NETWORKS));
    let manages = labels.get(COMPONENT.0).is_some_and(|value| value == COMPONENT.1);
    let stores = manages && networks.is_some_and(|networks| names_interface(networks, STORAGE));
    let attached = metadata.annotations.as_ref().and_then(|all| all.get(STATUS)).filter(|_| stores);
    let storage = attached.map(|status| addresses_at(status, STORAGE)).unwrap_or_default();
    let workload = Arc::new(Workload {
        namespace: metadata.namespace.unwrap_or_default(),
        name: name(&own_name, owner, hash, node),
    });
    if pod.spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return Ok(Pod { addresses: Vec::new(), workload, enrolled: false, stores, storage });
    }
    let texts = status.pod_ips.into_iter().flatten().map(|one| one.ip).chain(status.pod_ip);
    let mut addresses = texts.map(|text| address(&text)).collect::<Result<Vec<_>, _>>()?;
    addresses.sort();
    addresses.dedup();
    Ok(Pod { addresses, workload, enrolled, stores, storage })
}

/// Whether Multus is to attach an interface of that name: in its JSON, or as `network@interface` in its short form.
fn names_interface(networks: &str, interface: &str) -> bool {
    match serde_json::from_str::<Vec<Value>>(networks) {
        Ok(all) => all.iter().any(|one| one["interface"] == interface),
        Err(_) => {
            networks.split(',').any(|one| one.trim().rsplit_once('@').is_some_and(|(_, at)| at == interface))
        }
    }
}

/// The addresses that Multus says an interface has; what is no address is none.
fn addresses_at(status: &str, interface: &str) -> Vec<IpAddr> {
    let all: Vec<Value> = serde_json::from_str(status).unwrap_or_default();
    let ips = all.iter().filter(|one| one["interface"] == interface).filter_map(|one| one["ips"].as_array());
    ips.flatten().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
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
        assert!(!read.enrolled && !read.stores);
        for (state, enrolled) in [("pending", false), ("enabled", true)] {
            document["metadata"]["annotations"] = json!({"ambient.istio.io/redirection": state});
            assert_eq!(pod(&document, "node-1").unwrap().enrolled, enrolled);
        }
        document["metadata"]["labels"]["longhorn.io/component"] = "instance-manager".into();
        for (networks, stores) in [
            ("[{\"namespace\": \"kube-system\", \"name\": \"storage\", \"interface\": \"lhnet1\"}]", true),
            ("kube-system/storage@lhnet1", true),
            ("kube-system/storage", false),
            ("[{", false),
        ] {
            document["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": networks});
            document["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"] =
                "[{\"name\": \"cilium\", \"ips\": [\"10.0.1.9\"]}, {\"interface\": \"lhnet1\", \"ips\": [\"10.10.60.9\", \"?\"]}]".into();
            let read = pod(&document, "node-1").unwrap();
            assert_eq!(read.stores, stores, "{networks}");
            assert_eq!(read.storage, if stores { vec![IpAddr::from([10, 10, 60, 9])] } else { vec![] });
        }
        document["spec"]["hostNetwork"] = true.into();
        assert_eq!(pod(&document, "node-1").unwrap().addresses, Vec::<IpAddr>::new());
        document["status"]["podIP"] = "10.0.1.x".into();
        document["spec"]["hostNetwork"] = false.into();
        assert!(pod(&document, "node-1").unwrap_err().contains("10.0.1.x"));
    }
}
