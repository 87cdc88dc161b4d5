//! Which workload has an address: the Pods of this node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

/// What a Pod belongs to. There are as many as there are Deployments and the like, not as Pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for Workload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The workloads by the addresses of their Pods; those with an address of their own.
pub type Workloads = BTreeMap<IpAddr, Arc<Workload>>;

/// Pods that guards of policies know by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// The workloads in Istio's ambient mesh, by address: of all nodes where this one has any.
    pub enrolled: Workloads,
    /// Addresses in the cluster's network of this node's instance managers of Longhorn that have a network of their own for what
    /// replicas say.
    pub replicas: Vec<IpAddr>,
}

/// Who made a Pod (`metadata.ownerReferences` with `controller: true`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The owner's kind.
    pub kind: &'a str,
    /// The owner's name.
    pub name: &'a str,
}

/// The name of the workload of a Pod on a node. A ReplicaSet stands for the Deployment that names it by its hash, a Job for the
/// CronJob that names it by the time.
pub fn name(pod: &str, owner: Option<Owner<'_>>, hash: Option<&str>, node: &str) -> String {
    let name = match owner {
        Some(Owner { kind: "ReplicaSet", name }) => {
            hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-')).unwrap_or(name)
        }
        Some(Owner { kind: "Job", name }) => scheduled(name).unwrap_or(name),
        // A static Pod is named after its node, which owns it.
        Some(Owner { kind: "Node", .. }) => {
            pod.strip_suffix(node).and_then(|rest| rest.strip_suffix('-')).unwrap_or(pod)
        }
        Some(Owner { name, .. }) => name,
        None => pod,
    };
    name.to_owned()
}

/// The CronJob in the name of a Job: the controller appends the scheduled minute since 1970 (8 digits until 2160).
fn scheduled(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    (minute.len() == 8 && minute.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_outlives_its_pods() {
        let of = |pod, kind, owner, hash| name(pod, Some(Owner { kind, name: owner }), hash, "node-1");
        assert_eq!(of("web-6d4b75cb6d-x2x4z", "ReplicaSet", "web-6d4b75cb6d", Some("6d4b75cb6d")), "web");
        assert_eq!(of("x-1", "ReplicaSet", "x", Some("6d4b75cb6d")), "x", "a ReplicaSet of nobody");
        assert_eq!(of("backup-29012345-abcde", "Job", "backup-29012345", None), "backup");
        assert_eq!(of("once-abcde", "Job", "once-2024", None), "once-2024");
        assert_eq!(of("db-0", "StatefulSet", "db", None), "db");
        assert_eq!(of("etcd-node-1", "Node", "node-1", None), "etcd");
        assert_eq!(name("bare", None, None, "node-1"), "bare");
    }
}
