//! Which machines are on which Harvester network: a VLAN is not taken from under a machine.

use super::network;
use super::problem::{Findings, Problem};
use crate::crd::{HarvesterSource, RouterNetworkSpec};
use crate::inputs::{Attachment, ClusterName, Inputs, Kind, Object, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// Machines, and the Harvester network that they are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use<'a> {
    /// The NetworkAttachmentDefinition, which may be gone.
    pub(crate) attachment: ObjectId,
    /// The machines.
    pub(crate) machines: BTreeSet<&'a ObjectId>,
}

/// What whoever wants a VLAN gone can do about its machines.
pub(crate) const WAY_OUT: &str = "delete the machine, or take this network out of it";

impl Use<'_> {
    /// The machines in words.
    pub(crate) fn words(&self) -> String {
        let first = self.machines.first().map(ToString::to_string).unwrap_or_default();
        match self.machines.len() {
            0 | 1 => first,
            all => format!("{first} and {} more", all - 1),
        }
    }
}

/// All machines that name a network, by the network.
pub(crate) struct Users<'a> {
    inputs: &'a Inputs,
    machines: BTreeMap<ObjectId, BTreeSet<&'a ObjectId>>,
}

impl<'a> Users<'a> {
    pub(crate) fn of(inputs: &'a Inputs) -> Self {
        let running = inputs.machine_instances.iter().map(|each| (&each.id, &each.spec.networks));
        let defined = inputs.virtual_machines.iter().map(|each| (&each.id, &each.spec.networks));
        let mut machines = BTreeMap::<ObjectId, BTreeSet<&ObjectId>>::new();
        for (id, networks) in running.chain(defined) {
            for network in networks {
                machines.entry(named(network, id)).or_default().insert(id);
            }
        }
        Self { inputs, machines }
    }

    /// Everybody, network by network.
    pub(crate) fn all(&self) -> impl Iterator<Item = Use<'a>> {
        self.machines
            .iter()
            .map(|(attachment, machines)| Use { attachment: attachment.clone(), machines: machines.clone() })
    }

    /// The network's definition, while there is one.
    pub(crate) fn definition(&self, on: &Use<'_>) -> Option<&'a Attachment> {
        self.inputs.attachments.iter().find(|each| each.id == on.attachment).map(|each| &each.spec)
    }

    /// Who is on what a RouterNetwork stands for: the network that it names, or those of its VLAN.
    fn on(&self, network: &Object<RouterNetworkSpec>) -> Option<Use<'a>> {
        let router = self.inputs.router(&network.spec.router_ref.name);
        let source = router.and_then(|router| router.spec.sources.harvester.as_ref());
        let vlan = network::declared_as(self.inputs, &network.spec);
        self.all().find(|on| {
            is_named(self.inputs, &network.spec, &on.attachment)
                || self.definition(on).is_some_and(|definition| {
                    definition.vlan.is_some()
                        && definition.vlan == vlan
                        && carries(source, &network.spec.parent.name, definition)
                })
        })
    }
}

/// Whether Harvester's network can be what a port of the router carries: the port is told, or could be any.
pub(crate) fn carries(source: Option<&HarvesterSource>, port: &str, definition: &Attachment) -> bool {
    source.is_none_or(|source| {
        source.parent.name == port
            && (source.cluster_network.is_none() || source.cluster_network == definition.cluster_network)
    })
}

/// The definition that a machine names as `namespace/name`, or as `name` in its own namespace.
fn named(network: &str, machine: &ObjectId) -> ObjectId {
    let own = machine.namespace.as_deref().unwrap_or_default();
    let (namespace, name) = network.split_once('/').unwrap_or((own, network));
    ObjectId {
        kind: Kind::NetworkAttachmentDefinition,
        cluster: machine.cluster.clone(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// Whether a RouterNetwork's reference means this definition. One that is gone may have been in any cluster.
fn is_named(inputs: &Inputs, spec: &RouterNetworkSpec, attachment: &ObjectId) -> bool {
    let Some(reference) = &spec.harvester_ref else { return false };
    let means = |id: &ObjectId| {
        id.name == reference.name && id.namespace.as_deref() == Some(reference.namespace.as_str())
    };
    let there: Option<&ClusterName> =
        inputs.attachments.iter().find(|each| means(&each.id)).map(|each| &each.id.cluster);
    means(attachment) && there.is_none_or(|cluster| *cluster == attachment.cluster)
}

/// The RouterNetworks in deletion that stay on the router, because a machine is on what they stand for. One whose VLAN another
/// RouterNetwork has taken over may go, and so may all that a Router in deletion takes with it.
pub(crate) fn lingering(inputs: &Inputs) -> BTreeMap<&ObjectId, Use<'_>> {
    let mut leaving = inputs.networks.iter().filter(|each| each.deleting).peekable();
    if leaving.peek().is_none() {
        return BTreeMap::new();
    }
    let users = Users::of(inputs);
    let stays = |network: &&Object<RouterNetworkSpec>| {
        let router = inputs.router(&network.spec.router_ref.name);
        router.is_some_and(|router| !router.deleting) && !is_taken_over(inputs, network)
    };
    leaving.filter(stays).filter_map(|network| Some((&network.id, users.on(network)?))).collect()
}

fn is_taken_over(inputs: &Inputs, network: &Object<RouterNetworkSpec>) -> bool {
    let vlan = network::declared_as(inputs, &network.spec);
    let port = |spec: &RouterNetworkSpec| (spec.router_ref.name.clone(), spec.parent.name.clone());
    let same = |other: &&Object<RouterNetworkSpec>| {
        let (theirs, ours) = (&other.spec, &network.spec);
        let by_name = ours.harvester_ref.is_some() && theirs.harvester_ref == ours.harvester_ref;
        let by_vlan = vlan.is_some() && network::declared_as(inputs, theirs) == vlan;
        !other.deleting && port(theirs) == port(ours) && (by_name || by_vlan)
    };
    inputs.networks.iter().any(|other| same(&other))
}

/// Says of a router's networks that they stay, and for whom.
pub(super) fn name_lingering(inputs: &Inputs, router: &str, problems: &mut Vec<Problem>) {
    let lingering = lingering(inputs);
    let ours = inputs.networks.iter().filter(|each| each.spec.router_ref.name == router);
    for (object, on) in ours.filter_map(|each| Some((&each.id, lingering.get(&each.id)?))) {
        let what = format!(
            "it is being deleted, and {} is still on {}; it stays on the router",
            on.words(),
            on.attachment
        );
        Findings::on(object, problems).note("metadata.deletionTimestamp", what, WAY_OUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Collector;
    use crate::intent::derive;
    use serde_json::{Value, json};

    fn router() -> Value {
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"},
               "spec": {"endpoints": ["https://192.0.2.1"], "tls": {}, "apiKey": {}, "grants": "Open"}})
    }

    fn network(name: &str, more: &Value) -> Value {
        let mut spec = json!({"routerRef": {"name": "gw"}, "parent": {"name": "eth1"}, "subnets": [{"cidr": "10.10.40.0/24"}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork", "metadata": {"name": name, "namespace": "lab"}, "spec": spec})
    }

    fn leaving(mut object: Value) -> Value {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object
    }

    fn attachment(namespace: &str) -> Value {
        json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
               "metadata": {"name": "tenant", "namespace": namespace}, "spec": {"config": r#"{"type":"bridge","vlan":40}"#}})
    }

    fn machine(network: &str) -> Value {
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "default"},
               "spec": {"template": {"spec": {"networks": [{"name": "pod", "pod": {}}, {"name": "a", "multus": {"networkName": network}}]}}}})
    }

    fn instance(network: &str) -> Value {
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "namespace": "default"},
               "spec": {"networks": [{"name": "a", "multus": {"networkName": network}}]}})
    }

    fn inputs(objects: &[Value]) -> Inputs {
        let mut collector = Collector::default();
        for each in [router()].iter().chain(objects) {
            collector.document("file", &ClusterName::local(), each.clone());
        }
        collector.finish()
    }

    fn who(objects: &[Value]) -> Vec<String> {
        lingering(&inputs(objects))
            .into_values()
            .map(|on| format!("{} on {}", on.words(), on.attachment))
            .collect()
    }

    const REFERENCE: &str = r#"{"harvesterRef": {"namespace": "default", "name": "tenant"}}"#;

    fn by_reference(name: &str) -> Value {
        network(name, &serde_json::from_str(REFERENCE).unwrap())
    }

    #[test]
    fn a_network_in_deletion_stays_for_the_machine_on_it() {
        let going = leaving(by_reference("a"));
        let on = ["VirtualMachine default/web on NetworkAttachmentDefinition default/tenant"];
        for named in ["default/tenant", "tenant"] {
            assert_eq!(who(&[going.clone(), attachment("default"), machine(named)]), on);
        }
        // Also where the definition went first.
        assert_eq!(who(&[going.clone(), machine("tenant")]), on);
        let both = who(&[going.clone(), attachment("default"), machine("tenant"), instance("tenant")]);
        assert_eq!(
            both,
            ["VirtualMachine default/web and 1 more on NetworkAttachmentDefinition default/tenant"]
        );
        let by_vlan = leaving(network("a", &json!({"vlan": 40})));
        assert_eq!(who(&[by_vlan, attachment("default"), machine("tenant")]), on);
    }

    #[test]
    fn it_goes_where_nobody_is_on_it_or_another_has_its_vlan() {
        let going = leaving(by_reference("a"));
        let none = Vec::<String>::new();
        assert_eq!(who(&[going.clone(), attachment("default"), machine("other/tenant")]), none);
        assert_eq!(who(&[going.clone(), attachment("default"), machine("tenant"), by_reference("b")]), none);
        let by_vlan = network("b", &json!({"vlan": 40}));
        assert_eq!(who(&[going.clone(), attachment("default"), machine("tenant"), by_vlan]), none);
        assert_eq!(
            who(&[by_reference("a"), attachment("default"), machine("tenant")]),
            none,
            "it is not leaving"
        );
        let objects = [going, attachment("default"), machine("tenant")];
        let mut gone = inputs(&objects);
        gone.routers[0].deleting = true;
        assert!(lingering(&gone).is_empty(), "a Router takes all of it with it");
    }

    #[test]
    fn the_machine_and_the_way_out_are_named_on_the_network() {
        let inputs = inputs(&[leaving(by_reference("a")), attachment("default"), machine("tenant")]);
        let intent = derive(&inputs, &"gw".into());
        assert_eq!(intent.networks.len(), 1);
        assert_eq!(
            intent.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "RouterNetwork lab/a: metadata.deletionTimestamp: it is being deleted, and VirtualMachine default/web is still on \
              NetworkAttachmentDefinition default/tenant; it stays on the router; delete the machine, or take this network out of it"
            ]
        );
    }
}
