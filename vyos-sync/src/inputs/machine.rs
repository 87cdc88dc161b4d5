//! Which node a Machine of Cluster API became.

use super::{CapiMachine, ClusterName, Inputs, Node, NodeKey, Object, ObjectId};

impl Inputs {
    /// The node of a Machine. Machines live in the management cluster, their nodes in their own, which may be the same one.
    ///
    /// Cluster API says it in `status.nodeRef`, once it has found the node itself. Without that the provider's id tells, which
    /// Harvester's and other providers write on Machine and Node alike, then an address that one node alone has, then the name.
    pub fn node_of(&self, machine: &Object<CapiMachine>) -> Option<NodeKey> {
        let clusters = [ClusterName::from(machine.spec.cluster.as_str()), ClusterName::local()];
        let named = |name: &str| {
            let cluster = clusters.iter().find(|cluster| self.has_node(cluster, name))?;
            Some((cluster.clone(), name.to_owned()))
        };
        if let Some(name) = &machine.spec.node {
            return named(name);
        }
        let alone = |fits: &dyn Fn(&Object<Node>) -> bool| {
            clusters.iter().find_map(|cluster| self.only_node(cluster, fits))
        };
        let by_provider = |node: &Object<Node>| {
            machine.spec.provider_id.is_some() && node.spec.provider_id == machine.spec.provider_id
        };
        let by_address = |node: &Object<Node>| {
            let mut theirs = machine.spec.addresses.iter().chain(&machine.spec.external);
            theirs.any(|ip| node.spec.addresses.contains(ip)) && !self.is_anothers(node, machine)
        };
        alone(&by_provider).or_else(|| alone(&by_address)).or_else(|| named(&machine.id.name))
    }

    fn has_node(&self, cluster: &ClusterName, name: &str) -> bool {
        let there = |id: &ObjectId| id.cluster == *cluster && id.name == name;
        self.bgp_nodes.iter().any(|each| there(&each.id)) || self.nodes.iter().any(|each| there(&each.id))
    }

    /// The node of a cluster that fits, if it is the only one.
    fn only_node(&self, cluster: &ClusterName, fits: &dyn Fn(&Object<Node>) -> bool) -> Option<NodeKey> {
        let mut all = self.nodes.iter().filter(|node| node.id.cluster == *cluster && fits(node));
        let node = all.next()?;
        all.next().is_none().then(|| (cluster.clone(), node.id.name.clone()))
    }

    /// Whether a node is known to be of another Machine: an address may have been given to a successor.
    fn is_anothers(&self, node: &Object<Node>, machine: &Object<CapiMachine>) -> bool {
        let ids = (&node.spec.provider_id, &machine.spec.provider_id);
        let named = |other: &Object<CapiMachine>| {
            other.spec.cluster == machine.spec.cluster && other.spec.node.as_deref() == Some(&*node.id.name)
        };
        matches!(ids, (Some(theirs), Some(ours)) if theirs != ours) || self.capi_machines.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Collector;
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, address: &str, provider: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"providerID": provider},
               "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    }

    /// A Machine as Cluster API keeps it for Harvester's and Talos's providers.
    fn machine(name: &str, provider: &str, status: &Value) -> Value {
        json!({"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "Machine", "metadata": {"name": name, "namespace": "ns"},
               "spec": {"clusterName": "media", "providerID": provider,
                        "bootstrap": {"configRef": {"apiVersion": "bootstrap.cluster.x-k8s.io/v1alpha3", "kind": "TalosConfig", "name": name}},
                        "infrastructureRef": {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "HarvesterMachine", "name": name}},
               "status": status})
    }

    /// The node of the Machine `m`.
    fn found(machines: &[Value], nodes: &[Value]) -> Option<String> {
        let mut collector = Collector::default();
        machines.iter().for_each(|each| collector.document("a", &ClusterName::local(), each.clone()));
        nodes.iter().for_each(|each| collector.document("b", &ClusterName::from("media"), each.clone()));
        let inputs = collector.finish();
        let machine = inputs.capi_machines.iter().find(|each| each.id.name == "m").unwrap();
        let (cluster, node) = inputs.node_of(machine)?;
        assert_eq!(cluster, ClusterName::from("media"));
        Some(node)
    }

    const ID: &str = "harvester://7c9e6679-7425-40de-944b-e07fc1f90ae7";

    fn at(address: &str) -> Value {
        json!({"addresses": [{"type": "ExternalIP", "address": address}, {"type": "ExternalIP", "address": "vm.local"}]})
    }

    #[test]
    fn what_cluster_api_says_counts_first() {
        let nodes = [node("a", "10.0.0.1", ID), node("b", "10.0.0.2", "harvester://other")];
        let named = machine("m", ID, &json!({"nodeRef": {"name": "b"}}));
        assert_eq!(found(&[named], &nodes).as_deref(), Some("b"));
        let gone = machine("m", ID, &json!({"nodeRef": {"name": "c"}}));
        assert_eq!(found(&[gone], &nodes), None);
    }

    #[test]
    fn the_providers_id_tells_then_an_address_then_the_name() {
        let nodes = [node("a", "10.0.0.1", ID), node("b", "10.0.0.2", ""), node("m", "10.0.0.3", "")];
        assert_eq!(found(&[machine("m", ID, &at("10.0.0.2"))], &nodes).as_deref(), Some("a"));
        assert_eq!(found(&[machine("m", "", &at("10.0.0.2"))], &nodes).as_deref(), Some("b"));
        assert_eq!(found(&[machine("m", "", &json!({}))], &nodes).as_deref(), Some("m"));
        assert_eq!(found(&[machine("m", "", &json!({}))], &nodes[..2]), None);
    }

    #[test]
    fn an_address_that_is_anothers_by_now_tells_nothing() {
        let successor = node("a", "10.0.0.1", "harvester://successor");
        assert_eq!(found(&[machine("m", ID, &at("10.0.0.1"))], &[successor]), None);
        let claimed = machine("new", "", &json!({"nodeRef": {"name": "a"}}));
        assert_eq!(found(&[machine("m", "", &at("10.0.0.1")), claimed], &[node("a", "10.0.0.1", "")]), None);
        let twice = [node("a", "10.0.0.1", ""), node("b", "10.0.0.1", "")];
        assert_eq!(found(&[machine("m", "", &at("10.0.0.1"))], &twice), None);
    }
}
