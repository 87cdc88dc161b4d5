//! From documents to [`Inputs`]: each object is read by itself, and a bad one is named and left out.

use super::{ClusterName, Completeness, Fault, Inputs, Kind, Object, ObjectId};
use super::{cilium, cilium_config, core, node, platform, secret};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The label or annotation that says which cluster an object lives in.
const CLUSTER_MARK: &str = "weir.dev/cluster";

/// Reads one object of a living cluster: who it is, and it alone as inputs, or what is wrong with it as their fault.
///
/// The cluster is the one that was asked. What the object says of itself does not count, since others may have written it.
#[must_use]
pub fn read_one(place: &str, cluster: &ClusterName, document: &Value) -> Option<(ObjectId, Inputs)> {
    let mut id = identify(document, cluster).ok().flatten()?;
    id.cluster = cluster.clone();
    let mut inputs = Inputs { completeness: Completeness::Complete, ..Inputs::default() };
    if let Err(what) = read(&mut inputs, id.clone(), document) {
        let way_out = "mend the field: the object is left out until then".to_owned();
        inputs.faults.push(Fault { place: place.to_owned(), object: Some(id.clone()), what, way_out });
    }
    Some((id, inputs))
}

/// Takes documents in any order and gives [`Inputs`].
#[derive(Debug, Default)]
pub struct Collector {
    inputs: Inputs,
    faults: Vec<Fault>,
    seen: BTreeMap<ObjectId, Seen>,
}

/// Where an object was declared first, and how: documents themselves are not kept, as thousands take much memory.
#[derive(Debug)]
struct Seen {
    place: String,
    digest: u64,
}

/// Equal for equal documents, whatever the order of their fields.
fn digest(document: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    hasher.finish()
}

impl Collector {
    /// Takes one document that was read at `place`, from a cluster unless the object itself says another.
    pub fn document(&mut self, place: &str, cluster: &ClusterName, document: Value) {
        if document.is_null() {
            return;
        }
        if let Some(items) = list_items(&document) {
            items.iter().for_each(|item| self.document(place, cluster, item.clone()));
            return;
        }
        match identify(&document, cluster) {
            Ok(Some(id)) => self.object(place, id, &document),
            Ok(None) => {}
            Err(what) => self.fault(
                place,
                None,
                what,
                "give it apiVersion, kind, and a name that the API server would take (RFC 1123)",
            ),
        }
    }

    /// Notes a place that could not be read at all.
    pub fn unreadable(&mut self, place: &str, what: impl Into<String>) {
        self.fault(
            place,
            None,
            what.into(),
            "mend or remove it: nothing of the source is pruned until it can be read",
        );
    }

    /// Everything that was taken.
    #[must_use]
    pub fn finish(mut self) -> Inputs {
        if self.seen.is_empty() && self.faults.is_empty() {
            let what = "it holds no object that is known here".to_owned();
            self.fault("source", None, what, "check the path: an empty source never means to delete all");
        }
        self.inputs.sort();
        self.faults.sort();
        let complete = self.faults.is_empty();
        self.inputs.completeness = if complete { Completeness::Complete } else { Completeness::Incomplete };
        self.inputs.faults = self.faults;
        self.inputs
    }

    fn object(&mut self, place: &str, id: ObjectId, document: &Value) {
        let digest = digest(document);
        match self.seen.get(&id) {
            Some(first) if first.digest != digest => {
                let what = format!("{id} is declared here and, differently, in {}", first.place);
                self.fault(
                    place,
                    Some(id),
                    what,
                    "keep one of them: the first by file name is used until then",
                );
            }
            Some(_) => {}
            None => {
                self.seen.insert(id.clone(), Seen { place: place.to_owned(), digest });
                if let Err(what) = read(&mut self.inputs, id.clone(), document) {
                    self.fault(place, Some(id), what, "mend the field: the object is left out until then");
                }
            }
        }
    }

    fn fault(&mut self, place: &str, object: Option<ObjectId>, what: String, way_out: &str) {
        self.faults.push(Fault { place: place.to_owned(), object, what, way_out: way_out.to_owned() });
    }
}

fn list_items(document: &Value) -> Option<&Vec<Value>> {
    let is_list = document.get("kind")?.as_str()?.ends_with("List");
    is_list.then(|| document.get("items")?.as_array()).flatten()
}

/// Who a document is; `None` for a kind that is not read.
fn identify(document: &Value, cluster: &ClusterName) -> Result<Option<ObjectId>, String> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else {
        // Values files and the like live beside manifests; they are none of ours.
        return Ok(None);
    };
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let Some(kind) = Kind::of(group, kind) else { return Ok(None) };
    let name = text("/metadata/name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("a {} without metadata.name", kind.as_str()))?;
    if kind == Kind::ConfigMap && name != cilium_config::CiliumConfig::NAME {
        return Ok(None);
    }
    let namespace = text("/metadata/namespace");
    for (field, name) in [("name", Some(name)), ("namespace", namespace)] {
        if let Some(bad) = name.filter(|name| !is_name(name)) {
            return Err(format!("a {} whose metadata.{field} {bad:?} is no Kubernetes name", kind.as_str()));
        }
    }
    let mark = |field: &str| document.pointer("/metadata")?.get(field)?.get(CLUSTER_MARK)?.as_str();
    Ok(Some(ObjectId {
        kind,
        cluster: mark("annotations")
            .or_else(|| mark("labels"))
            .map_or_else(|| cluster.clone(), ClusterName::from),
        namespace: namespace.map(str::to_owned).or_else(|| default_namespace(kind)),
        name: name.to_owned(),
    }))
}

/// A DNS subdomain (RFC 1123), as the API server asks of the names of every kind that is read. Names become names on the
/// router, so a file may not say what the API server would refuse.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The API server puts a namespaced object without a namespace into `default`.
fn default_namespace(kind: Kind) -> Option<String> {
    let namespaced = matches!(
        kind,
        Kind::RouterNetwork
            | Kind::BgpPeering
            | Kind::PortPublication
            | Kind::Service
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::NetworkAttachmentDefinition
            | Kind::Hardware
            | Kind::VirtualMachineInstance
            | Kind::VirtualMachine
            | Kind::CapiCluster
            | Kind::CapiMachine
    );
    namespaced.then(|| "default".to_owned())
}

fn read(inputs: &mut Inputs, id: ObjectId, document: &Value) -> Result<(), String> {
    match id.kind {
        Kind::Router => push(&mut inputs.routers, id, document, own_spec),
        Kind::RouterGrant => push(&mut inputs.grants, id, document, own_spec),
        Kind::RouterNetwork => push(&mut inputs.networks, id, document, own_spec),
        Kind::BgpPeering => push(&mut inputs.peerings, id, document, own_spec),
        Kind::PortPublication => push(&mut inputs.publications, id, document, own_spec),
        Kind::RouterConfig => push(&mut inputs.configs, id, document, own_spec),
        Kind::CiliumBgpClusterConfig => push(&mut inputs.bgp_clusters, id, document, spec),
        Kind::CiliumBgpPeerConfig => push(&mut inputs.bgp_peer_configs, id, document, spec),
        Kind::CiliumBgpNodeConfig => push(&mut inputs.bgp_nodes, id, document, spec),
        Kind::CiliumBgpNodeConfigOverride => push(&mut inputs.bgp_overrides, id, document, spec),
        Kind::CiliumBgpAdvertisement => push(&mut inputs.bgp_advertisements, id, document, spec),
        Kind::CiliumBgpPeeringPolicy => {
            push(&mut inputs.retired_policies, id, document, spec)?;
            Err("CiliumBGPPeeringPolicy was removed in Cilium 1.19 and is not followed: write CiliumBGPClusterConfig, \
                 CiliumBGPPeerConfig and CiliumBGPAdvertisement"
                .to_owned())
        }
        Kind::CiliumLoadBalancerIpPool => push(&mut inputs.pools, id, document, spec),
        Kind::CiliumNode => push(&mut inputs.cilium_nodes, id, document, cilium::cilium_node),
        Kind::Node => push(&mut inputs.nodes, id, document, core::node),
        Kind::Service => push(&mut inputs.services, id, document, core::service),
        Kind::ConfigMap => push(&mut inputs.cilium_configs, id, document, cilium_config::settings),
        Kind::Namespace => push(&mut inputs.namespaces, id, document, |_| Ok(core::Namespace)),
        Kind::Secret => push(&mut inputs.secrets, id, document, secret::parse),
        Kind::NetworkAttachmentDefinition => {
            push(&mut inputs.attachments, id, document, platform::attachment)
        }
        Kind::Hardware => push(&mut inputs.hardware, id, document, platform::hardware),
        Kind::VirtualMachineInstance => {
            push(&mut inputs.machine_instances, id, document, platform::machine_instance)
        }
        Kind::VirtualMachine => {
            push(&mut inputs.virtual_machines, id, document, |object| Ok(platform::virtual_machine(object)))
        }
        Kind::CapiCluster => push(&mut inputs.capi_clusters, id, document, |_| Ok(platform::CapiCluster)),
        Kind::CapiMachine => push(&mut inputs.capi_machines, id, document, platform::capi_machine),
        Kind::NodeDatapath => push(&mut inputs.node_words, id, document, node::word),
    }
}

fn push<T>(
    into: &mut Vec<Object<T>>,
    id: ObjectId,
    document: &Value,
    parse: impl FnOnce(&Value) -> Result<T, String>,
) -> Result<(), String> {
    let spec = parse(document)?;
    into.push(Object {
        id,
        labels: core::field(document, "/metadata/labels")?,
        annotations: core::field(document, "/metadata/annotations")?,
        deleting: document.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string),
        spec,
    });
    Ok(())
}

fn spec<T: DeserializeOwned>(document: &Value) -> Result<T, String> {
    let spec = document.get("spec").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))
}

/// The spec of one of our kinds. An unknown field is a mistyped one, perhaps of what protects a router, or one of a later release: to
/// act without it would be a guess.
fn own_spec<T: DeserializeOwned>(document: &Value) -> Result<T, String> {
    let Some(spec) = document.get("spec") else { return spec(document) };
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(spec, |path| unknown.push(path.to_string()))
        .map_err(|error| format!("spec: {error}"))?;
    match unknown.first() {
        Some(field) => Err(format!("spec.{field} is no field of this kind")),
        None => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn collect(documents: &[Value]) -> Inputs {
        let mut collector = Collector::default();
        for (at, document) in documents.iter().enumerate() {
            collector.document(&format!("file {at}"), &ClusterName::local(), document.clone());
        }
        collector.finish()
    }

    fn pool(name: &str, cidr: &str) -> Value {
        json!({"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumLoadBalancerIPPool",
               "metadata": {"name": name}, "spec": {"blocks": [{"cidr": cidr}]}})
    }

    #[test]
    fn order_does_not_matter() {
        let (a, b) = (pool("a", "10.0.0.0/24"), pool("b", "10.0.1.0/24"));
        assert_eq!(collect(&[a.clone(), b.clone()]), collect(&[b, a]));
    }

    #[test]
    fn nothing_is_incomplete() {
        assert_eq!(collect(&[]).completeness, Completeness::Incomplete);
        assert_eq!(collect(&[pool("a", "10.0.0.0/24")]).completeness, Completeness::Complete);
    }

    #[test]
    fn one_bad_object_is_named_and_the_good_ones_stay() {
        let bad = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
                         "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.x"}]}});
        let inputs = collect(&[bad, pool("a", "10.0.0.0/24")]);
        assert_eq!((inputs.pools.len(), inputs.completeness), (1, Completeness::Incomplete));
        assert!(inputs.faults[0].to_string().contains("10.0.0.x"), "{:?}", inputs.faults);
        assert_eq!(inputs.faults[0].object.as_ref().map(ToString::to_string).as_deref(), Some("Node n"));
    }

    #[test]
    fn names_that_no_api_server_would_take_are_refused() {
        for name in ["with a blank", "Upper", "-a", "a.", "a..b", "a_b", "a\nb", &"a".repeat(254)] {
            let inputs = collect(&[pool(name, "10.0.0.0/24"), pool("good", "10.0.1.0/24")]);
            assert_eq!((inputs.pools.len(), inputs.faults.len()), (1, 1), "{name}");
            assert!(inputs.faults[0].what.contains("metadata.name"), "{:?}", inputs.faults);
        }
    }

    #[test]
    fn a_mistyped_field_of_ours_is_named_and_a_foreign_one_is_not() {
        let grant = |field: &str| {
            json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterGrant", "metadata": {"name": "g"},
                   "spec": {"routers": ["gw"], "subjects": {"clusters": ["a"]}, field: []}})
        };
        assert_eq!(collect(&[grant("vlans")]).faults, []);
        let inputs = collect(&[grant("vlanz")]);
        assert_eq!((inputs.grants.len(), inputs.completeness), (0, Completeness::Incomplete));
        assert!(inputs.faults[0].what.contains("spec.vlanz is no field"), "{:?}", inputs.faults);
        let mut foreign = pool("a", "10.0.0.0/24");
        foreign["spec"]["fromTheFuture"] = json!(1);
        assert_eq!(collect(&[foreign]).faults, []);
    }

    #[test]
    fn two_different_declarations_are_a_fault() {
        let inputs = collect(&[pool("a", "10.0.0.0/24"), pool("a", "10.0.1.0/24"), pool("a", "10.0.0.0/24")]);
        assert_eq!((inputs.pools.len(), inputs.faults.len()), (1, 1));
    }

    #[test]
    fn lists_are_taken_apart_and_foreign_kinds_left_alone() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [pool("a", "10.0.0.0/24"),
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}]});
        assert_eq!(collect(&[list]).pools.len(), 1);
    }
}
