//! Drops what is not read, so that memory is bounded by what counts.

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use crate::inputs::{Kind, Meta};

/// Annotations that are read; all others go, `last-applied-configuration` before all.
const ANNOTATIONS: &[&str] = &["network.harvesterhci.io/route", "cluster.x-k8s.io/cluster-name", "weir.dev/"];
/// Those of a Machine that keep its deletion waiting.
const HOOKS: &[&str] = &[
    "pre-drain.delete.hook.machine.cluster.x-k8s.io/",
    "pre-terminate.delete.hook.machine.cluster.x-k8s.io/",
];

/// The parts of a kind that are read, as JSON pointers.
fn parts(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Namespace | Kind::CapiCluster => &[],
        Kind::CiliumNode => &["/spec/addresses", "/spec/ipam/podCIDRs"],
        Kind::Node => &["/spec/podCIDR", "/spec/podCIDRs", "/spec/providerID", "/status/addresses"],
        Kind::Service => &[
            "/spec/type",
            "/spec/clusterIP",
            "/spec/clusterIPs",
            "/spec/externalIPs",
            "/spec/ports",
            "/spec/loadBalancerClass",
            "/status/loadBalancer/ingress",
        ],
        Kind::Secret => &["/data"],
        Kind::NetworkAttachmentDefinition => &["/spec/config"],
        Kind::Hardware => &["/spec/interfaces"],
        Kind::VirtualMachineInstance => {
            &["/spec/networks", "/spec/domain/devices/interfaces", "/status/interfaces"]
        }
        Kind::VirtualMachine => &["/spec/template/spec/networks"],
        Kind::CapiMachine => &[
            "/spec/clusterName",
            "/spec/providerID",
            "/status/nodeRef/name",
            "/status/addresses",
            "/status/conditions",
            "/status/v1beta2/conditions",
        ],
        Kind::NodeDatapath => &[
            "/spec",
            "/status/carries",
            "/status/reasons",
            "/status/reportedAt",
            "/status/reportSeconds",
            "/status/vips/newFlowsPerKilosecond",
        ],
        _ => &["/spec"],
    }
}

/// The object as far as it is read, and what is needed to write to it.
pub(super) fn trim(kind: Kind, mut object: DynamicObject) -> (Value, Meta) {
    let conditions = object.data.pointer("/status/conditions").cloned();
    let metadata = &mut object.metadata;
    let meta = Meta {
        uid: metadata.uid.take().unwrap_or_default(),
        generation: metadata.generation,
        finalizers: metadata.finalizers.take().unwrap_or_default(),
        deleted_at: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        observed_generation: object.data.pointer("/status/observedGeneration").and_then(Value::as_i64),
        conditions: conditions.and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default(),
    };
    let read = |key: &String| {
        let hook = kind == Kind::CapiMachine && HOOKS.iter().any(|each| key.starts_with(each));
        hook || ANNOTATIONS.iter().any(|each| key.starts_with(each))
    };
    let annotations: Map<String, Value> = metadata
        .annotations
        .take()
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| read(key))
        .map(|(k, v)| (k, v.into()))
        .collect();
    let mut document = json!({
        "apiVersion": format!("{}/v1", kind.group()).trim_start_matches('/'),
        "kind": kind.as_str(),
        "metadata": {"name": metadata.name, "labels": metadata.labels, "annotations": annotations},
    });
    if let Some(namespace) = metadata.namespace.take() {
        document["metadata"]["namespace"] = namespace.into();
    }
    if let Some(time) = meta.deleted_at {
        document["metadata"]["deletionTimestamp"] = time.to_string().into();
    }
    for part in parts(kind) {
        copy(&object.data, &mut document, part);
    }
    (document, meta)
}

fn copy(from: &Value, to: &mut Value, pointer: &str) {
    let Some(value) = from.pointer(pointer) else { return };
    let mut words = pointer.trim_start_matches('/').split('/').peekable();
    let mut at = to;
    while let Some(word) = words.next() {
        at = &mut at[word];
        if words.peek().is_none() {
            *at = value.clone();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_node_loses_what_nobody_reads() {
        let node = object(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n", "uid": "u", "generation": 3, "managedFields": [],
                         "labels": {"a": "b"}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x",
                         "cluster.x-k8s.io/cluster-name": "media", "weir.dev/cluster": "other"}},
            "spec": {"podCIDR": "10.0.0.0/24", "taints": []},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "images": [1, 2, 3]}}));
        let (document, meta) = trim(Kind::Node, node);
        assert_eq!((meta.uid.as_str(), meta.generation), ("u", Some(3)));
        assert_eq!(document["metadata"]["annotations"]["cluster.x-k8s.io/cluster-name"], "media");
        assert!(
            document["metadata"]["annotations"]
                .get("kubectl.kubernetes.io/last-applied-configuration")
                .is_none()
        );
        assert!(document["status"].get("images").is_none() && document["spec"].get("taints").is_none());
        let (id, inputs) =
            crate::inputs::read_one("here", &crate::inputs::ClusterName::from("media"), &document).unwrap();
        // Who wrote the object does not choose the cluster that it speaks for.
        assert_eq!((id.to_string().as_str(), inputs.nodes.len()), ("Node media:n", 1));
    }

    #[test]
    fn every_kind_that_is_read_is_known_by_its_group() {
        for read in super::super::kinds::READ {
            let (document, _) = trim(read.kind, object(json!({"metadata": {"name": "x", "namespace": "y"}})));
            let read_back = crate::inputs::read_one("here", &crate::inputs::ClusterName::local(), &document);
            assert_eq!(read_back.map(|(id, _)| id.kind), Some(read.kind));
        }
    }
}
