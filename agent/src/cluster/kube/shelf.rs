//! What the watches have brought, and what it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Identity;
use super::kinds::{OTHER_POD, POD, POLICY};
use super::pods::Pod;
use crate::cluster::parts::{Assembly, Part};
use crate::model::class::Found;
use crate::model::cluster::{Cluster, NodesKnown, ObjectName, Server, SourceState, Sources};
use crate::model::workload::{Guarded, Workloads};

/// The place of faults.
const PLACE: &str = "the API";

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Change {
    /// An object is there or has changed.
    Put(&'static str, ObjectName, Item),
    /// An object is gone.
    Gone(&'static str, ObjectName),
    /// All objects of a kind have been told: others are gone.
    Listed(&'static str, BTreeSet<ObjectName>),
    /// How a kind is followed.
    State(&'static str, SourceState),
}

/// An object as far as it is used.
#[derive(Debug)]
pub(super) enum Item {
    /// One that virtual addresses depend on; of the node's own Node, its identity too.
    Part(Box<Part>, Option<Identity>),
    /// A Pod.
    Pod(Pod),
    /// A virtual machine: the ports at which it arrives, while it moves to or from this node.
    Machine(BTreeSet<u16>),
    /// A policy, as text.
    Policy(String),
    /// It cannot be understood.
    Bad(String),
}

/// All that is known, and what of it has not been told yet.
#[derive(Debug)]
pub(super) struct Shelf {
    node: String,
    items: BTreeMap<(&'static str, ObjectName), Item>,
    sources: Sources,
    told_sources: Option<Sources>,
    told_cluster: Option<Cluster>,
    told_workloads: Option<Workloads>,
    told_guarded: Option<Guarded>,
    told_found: Option<Found>,
    told_policies: Option<String>,
}

impl Shelf {
    /// An empty one, for these kinds.
    pub(super) fn new(node: &str, kinds: impl Iterator<Item = &'static str>) -> Self {
        let kinds = kinds.map(|kind| (kind, SourceState::Starting)).collect();
        Self {
            node: node.to_owned(),
            items: BTreeMap::new(),
            sources: Sources { server: Server::Asked, kinds },
            told_sources: None,
            told_cluster: None,
            told_workloads: None,
            told_guarded: None,
            told_found: None,
            told_policies: None,
        }
    }

    /// Takes in what a watch tells.
    pub(super) fn take(&mut self, change: Change) {
        match change {
            // Of other nodes' Pods most are of no use: what is kept must not grow with the cluster.
            Change::Put(kind, name, Item::Pod(pod)) if kind == OTHER_POD.told && !pod.enrolled => {
                self.items.remove(&(kind, name));
            }
            Change::Put(kind, name, Item::Machine(ports)) if ports.is_empty() => {
                self.items.remove(&(kind, name));
            }
            Change::Put(kind, name, item) => _ = self.items.insert((kind, name), item),
            Change::Gone(kind, name) => _ = self.items.remove(&(kind, name)),
            Change::Listed(kind, names) => {
                self.items.retain(|(of, name), _| *of != kind || names.contains(name));
                self.sources.kinds.insert(kind, SourceState::Following);
            }
            Change::State(kind, state) => {
                if state == SourceState::Missing {
                    self.items.retain(|(of, _), _| *of != kind);
                }
                self.sources.kinds.insert(kind, state);
            }
        }
    }

    /// Takes in whether the server answers.
    pub(super) fn server(&mut self, server: Server) {
        self.sources.server = server;
    }

    /// The Node of this node, where there is one.
    pub(super) fn identity(&self) -> Option<Identity> {
        let name = ObjectName { namespace: None, name: self.node.clone() };
        match self.items.get(&("Node", name)) {
            Some(Item::Part(_, identity)) => identity.clone(),
            _ => None,
        }
    }

    /// How the source does, if that is news.
    pub(super) fn sources(&mut self) -> Option<Sources> {
        news(&mut self.told_sources, self.sources.clone())
    }

    /// The workloads of this node by address, if they are news.
    pub(super) fn workloads(&mut self) -> Option<Workloads> {
        let own = self.pods().filter(|(kind, _)| *kind == POD.told);
        let now = by_address(own.map(|(_, pod)| pod));
        news(&mut self.told_workloads, now)
    }

    /// Whether a Pod of this node is enrolled in the mesh.
    pub(super) fn is_enrolled(&self) -> bool {
        self.pods().any(|(kind, pod)| kind == POD.told && pod.enrolled)
    }

    /// The Pods that guards know by themselves, if they are news; never before the own ones are listed.
    pub(super) fn guarded(&mut self) -> Option<Guarded> {
        if self.sources.kinds.get(POD.told) != Some(&SourceState::Following) {
            return None;
        }
        let stores = self.pods().filter(|(kind, pod)| *kind == POD.told && pod.stores);
        let mut replicas: Vec<_> = stores.flat_map(|(_, pod)| pod.addresses.iter().copied()).collect();
        replicas.sort();
        let enrolled = by_address(self.pods().map(|(_, pod)| pod).filter(|pod| pod.enrolled));
        news(&mut self.told_guarded, Guarded { enrolled, replicas })
    }

    /// What is found of traffic classes, if that is news.
    pub(super) fn found(&mut self) -> Option<Found> {
        let machines = self.items.values().filter_map(|item| match item {
            Item::Machine(ports) => Some(ports),
            _ => None,
        });
        let migrations = machines.flatten().copied().collect();
        let own = self.pods().filter(|(kind, _)| *kind == POD.told);
        let storage = own.flat_map(|(_, pod)| pod.storage.iter().copied()).collect();
        news(&mut self.told_found, Found { migrations, storage })
    }

    fn pods(&self) -> impl Iterator<Item = (&'static str, &Pod)> {
        self.items.iter().filter_map(|((kind, _), item)| match item {
            Item::Pod(pod) => Some((*kind, pod)),
            _ => None,
        })
    }

    /// The objects of virtual addresses, if they are news; never before all of them are listed.
    pub(super) fn cluster(&mut self) -> Option<Cluster> {
        if !self.sources.are_complete() {
            return None;
        }
        let now = self.assemble();
        news(&mut self.told_cluster, now)
    }

    /// All policies as one text of documents, if they are news; never while not all of them are known, or the kind is not there.
    pub(super) fn policies(&mut self) -> Option<String> {
        if self.sources.kinds.get(POLICY.name) != Some(&SourceState::Following) {
            return None;
        }
        let texts = self.items.values().filter_map(|item| match item {
            Item::Policy(text) => Some(text.as_str()),
            _ => None,
        });
        let now = texts.collect::<Vec<_>>().join("\n---\n");
        news(&mut self.told_policies, now)
    }

    /// The policies are news again: nobody could take them.
    pub(super) fn tell_policies_again(&mut self) {
        self.told_policies = None;
    }

    fn assemble(&self) -> Cluster {
        let services: BTreeSet<&ObjectName> = self
            .items
            .iter()
            .filter(|(_, item)| matches!(item, Item::Part(part, _) if matches!(**part, Part::Service(_))))
            .map(|((_, name), _)| name)
            .collect();
        let mut assembly = Assembly::default();
        if self.sources.kinds.get("EndpointSlice") == Some(&SourceState::Following) {
            assembly.knows_endpoints();
        }
        for ((kind, name), item) in &self.items {
            match item {
                Item::Part(part, _) => match &**part {
                    Part::Slice(service, _) if !services.contains(service) => {}
                    part => assembly.add(PLACE, part.clone()),
                },
                Item::Bad(what) => {
                    assembly
                        .fault(PLACE, format!("{kind} {name}: {what}; it is left out until it is mended"));
                }
                Item::Pod(_) | Item::Machine(_) | Item::Policy(_) => {}
            }
        }
        for (kind, state) in &self.sources.kinds {
            if let SourceState::Refused(why) = state {
                assembly.fault(PLACE, format!("{kind} objects cannot be read: {why}"));
            }
        }
        Cluster { nodes_known: NodesKnown::Own, ..assembly.finish() }
    }
}

fn by_address<'a>(pods: impl Iterator<Item = &'a Pod>) -> Workloads {
    let of = |pod: &'a Pod| pod.addresses.iter().map(|address| (*address, Arc::clone(&pod.workload)));
    pods.flat_map(of).collect()
}

/// The value, if it is not what was told last.
fn news<T: Clone + PartialEq>(told: &mut Option<T>, now: T) -> Option<T> {
    if told.as_ref() == Some(&now) {
        return None;
    }
    *told = Some(now.clone());
    Some(now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::parts::reader;
    use crate::model::workload::Workload;

    fn object(group: &str, kind: &'static str, name: &str, document: &serde_json::Value) -> Change {
        let name = ObjectName { namespace: Some("shop".into()), name: name.into() };
        let item = match reader(group, kind).unwrap()(name.clone(), document) {
            Ok(part) => Item::Part(Box::new(part), None),
            Err(what) => Item::Bad(what),
        };
        Change::Put(kind, name, item)
    }

    fn service(name: &str, address: &str) -> Change {
        let document = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]},
                              "status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        object("", "Service", name, &document)
    }

    fn slice(service: &str) -> Change {
        let document = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": service}}});
        object("discovery.k8s.io", "EndpointSlice", service, &document)
    }

    fn listed(kind: &'static str, names: &[&str]) -> Change {
        let name = |name: &&str| ObjectName { namespace: Some("shop".into()), name: (*name).into() };
        Change::Listed(kind, names.iter().map(name).collect())
    }

    #[test]
    fn half_a_cluster_is_none_and_the_same_again_is_no_news() {
        let mut shelf = Shelf::new("n", ["Service", "EndpointSlice", "CiliumBGPNodeConfig"].into_iter());
        [service("web", "10.10.50.1"), slice("web"), slice("inner"), listed("Service", &["web"])]
            .into_iter()
            .for_each(|change| shelf.take(change));
        assert!(shelf.cluster().is_none(), "slices are not listed yet");
        shelf.take(listed("EndpointSlice", &["web", "inner"]));
        shelf.take(Change::State("CiliumBGPNodeConfig", SourceState::Missing));
        let cluster = shelf.cluster().unwrap();
        assert_eq!((cluster.services.len(), cluster.nodes_known), (1, NodesKnown::Own));
        assert_eq!(cluster.endpoints.unwrap().len(), 1, "only of Services that have an address");
        shelf.take(slice("inner"));
        assert!(shelf.cluster().is_none());
        shelf.take(Change::State("Service", SourceState::Refused("403".into())));
        let cluster = shelf.cluster().unwrap();
        assert_eq!((cluster.services.len(), cluster.faults.len()), (1, 1), "what was known counts on");
        shelf.take(listed("Service", &[]));
        assert_eq!(shelf.cluster().unwrap().services.len(), 0);
    }

    #[test]
    fn policies_are_told_once_all_are_known() {
        let name = |name: &str| ObjectName { namespace: None, name: name.into() };
        let put =
            |of: &str| Change::Put(POLICY.name, name(of), Item::Policy(format!("{{\"name\":\"{of}\"}}")));
        let mut shelf = Shelf::new("n", [POLICY.name].into_iter());
        shelf.take(put("b"));
        assert_eq!(shelf.policies(), None);
        shelf.take(put("a"));
        shelf.take(Change::Listed(POLICY.name, [name("a"), name("b")].into()));
        assert_eq!(shelf.policies().unwrap(), "{\"name\":\"a\"}\n---\n{\"name\":\"b\"}");
        assert_eq!(shelf.policies(), None);
        shelf.take(Change::State(POLICY.name, SourceState::Missing));
        assert_eq!(shelf.policies(), None, "a kind that is gone takes no policy out of force");
        shelf.take(Change::Listed(POLICY.name, BTreeSet::new()));
        assert_eq!(shelf.policies().unwrap(), "");
    }

    #[test]
    fn of_other_nodes_only_pods_in_the_mesh_are_kept() {
        let put = |kind: &'static str, name: &str, last: u8, enrolled: bool| {
            let workload = Workload { namespace: "shop".into(), name: name.into() };
            let pod = Pod {
                addresses: vec![[10, 1, 0, last].into()],
                workload: workload.into(),
                enrolled,
                stores: last == 1,
                storage: vec![],
            };
            let name = ObjectName { namespace: Some("shop".into()), name: name.into() };
            Change::Put(kind, name, Item::Pod(pod))
        };
        let mut shelf = Shelf::new("n", [POD.told].into_iter());
        shelf.take(put(POD.told, "plain", 1, false));
        assert!(shelf.guarded().is_none() && !shelf.is_enrolled(), "not all are listed");
        shelf.take(listed(POD.told, &["plain"]));
        let guarded = shelf.guarded().unwrap();
        assert_eq!((guarded.enrolled.len(), guarded.replicas), (0, vec![[10, 1, 0, 1].into()]));
        shelf.take(put(POD.told, "cart", 2, true));
        assert!(shelf.is_enrolled());
        for (name, last, enrolled) in [("stock", 3, true), ("printer", 4, false)] {
            shelf.take(put(OTHER_POD.told, name, last, enrolled));
        }
        assert_eq!((shelf.guarded().unwrap().enrolled.len(), shelf.items.len()), (2, 3));
        assert_eq!(shelf.workloads().unwrap().len(), 2, "only those of this node");
        shelf.take(put(OTHER_POD.told, "stock", 3, false));
        assert_eq!(
            (shelf.guarded().unwrap().enrolled.len(), shelf.items.len()),
            (1, 2),
            "it has left the mesh"
        );
    }

    #[test]
    fn a_broken_object_is_told_and_hides_no_other() {
        let mut shelf = Shelf::new("n", ["Service"].into_iter());
        [service("bad", "10.10.50.x"), service("good", "10.10.50.1"), listed("Service", &["bad", "good"])]
            .into_iter()
            .for_each(|change| shelf.take(change));
        let cluster = shelf.cluster().unwrap();
        assert_eq!((cluster.services.len(), cluster.faults.len()), (1, 1));
        assert!(
            cluster.faults[0].to_string().starts_with("the API: Service shop/bad: "),
            "{}",
            cluster.faults[0]
        );
        assert_eq!(shelf.sources().unwrap().kinds["Service"], SourceState::Following);
        assert!(shelf.sources().is_none());
    }
}
