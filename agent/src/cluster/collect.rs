//! From documents to the objects of a cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parts::{Assembly, reader};
use crate::model::cluster::{Cluster, ObjectName};

/// Takes documents one by one; [`Collector::finish`] makes a cluster of them.
#[derive(Debug, Default)]
pub struct Collector {
    assembly: Assembly,
    seen: BTreeMap<(String, ObjectName), (String, Value)>,
}

impl Collector {
    /// Takes a document: an object, or a List of them. Kinds that are not read are passed over.
    pub fn document(&mut self, place: &str, document: &Value) {
        let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        match document.get("items").and_then(Value::as_array).filter(|_| is_list) {
            Some(items) => items.iter().for_each(|item| self.document(place, item)),
            None => self.object(place, document),
        }
    }

    /// Notes something that could not be read at all.
    pub fn unreadable(&mut self, place: &str, what: String) {
        self.assembly.fault(place, format!("{what}; mend it: the rest is used"));
    }

    /// The objects.
    pub fn finish(self) -> Cluster {
        self.assembly.finish()
    }

    fn object(&mut self, place: &str, document: &Value) {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        // Values files and the like lie beside manifests.
        let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else { return };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let Some(read) = reader(group, kind) else { return };
        let Some(name) = text("/metadata/name").filter(|name| !name.is_empty()) else {
            return self.assembly.fault(place, format!("a {kind} without metadata.name; give it one"));
        };
        let namespaced = matches!(kind, "Service" | "EndpointSlice");
        // The API server puts a namespaced object without a namespace into `default`.
        let namespace = namespaced.then(|| text("/metadata/namespace").unwrap_or("default").to_owned());
        let name = ObjectName { namespace, name: name.to_owned() };
        let key = (kind.to_owned(), name.clone());
        if let Some((first, known)) = self.seen.get(&key) {
            if known != document {
                let what = format!(
                    "{kind} {name} is declared here and, differently, in {first}; keep one: the first is used"
                );
                self.assembly.fault(place, what);
            }
            return;
        }
        self.seen.insert(key, (place.to_owned(), document.clone()));
        match read(name.clone(), document) {
            Ok(part) => self.assembly.add(place, part),
            Err(what) => self
                .assembly
                .fault(place, format!("{kind} {name}: {what}; the object is left out until it is mended")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::cluster::{EndpointState, Here, Intent, TrafficPolicy};

    fn collect(documents: &[Value]) -> Cluster {
        let mut collector = Collector::default();
        for (at, document) in documents.iter().enumerate() {
            collector.document(&format!("file {at}"), document);
        }
        collector.finish()
    }

    fn service(name: &str, spec: Value, ingress: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec,
               "status": {"loadBalancer": {"ingress": ingress}}})
    }

    #[test]
    fn one_bad_object_is_named_with_its_field_and_the_good_ones_stay() {
        let good = service("good", json!({"ports": [{"port": 80}]}), json!([{"ip": "FD00:0::1"}]));
        for (bad, says) in [
            (
                service("bad", json!({"ports": [{"port": 99_999}]}), json!([{"ip": "10.0.0.1"}])),
                "spec.ports[0].port: 99999",
            ),
            (service("bad", json!({"ports": "80"}), json!([])), "spec.ports: "),
            (
                service("bad", json!({}), json!([{"ip": "10.0.0.x"}])),
                "status.loadBalancer.ingress[0].ip: `10.0.0.x`",
            ),
            (
                service("bad", json!({"externalTrafficPolicy": "Nearby"}), json!([{"ip": "10.0.0.1"}])),
                "spec.externalTrafficPolicy: `Nearby`",
            ),
            (
                json!({"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "bad"},
                       "spec": {"blocks": [{"start": "10.0.0.9", "stop": "10.0.0.1"}]}}),
                "spec.blocks[0]: 10.0.0.9 to 10.0.0.1",
            ),
            (json!({"apiVersion": "v1", "kind": "Node", "metadata": {}}), "a Node without metadata.name"),
        ] {
            let cluster = collect(&[bad, good.clone()]);
            assert_eq!(cluster.services.len(), 1, "{says}");
            assert_eq!(cluster.faults.len(), 1, "{:?}", cluster.faults);
            assert!(cluster.faults[0].what.contains(says), "{}", cluster.faults[0]);
            assert_eq!(cluster.faults[0].place, "file 0");
        }
    }

    #[test]
    fn order_does_not_matter_and_two_declarations_are_a_fault() {
        let (a, b) = (
            service("a", json!({}), json!([{"ip": "10.0.0.1"}])),
            service("b", json!({}), json!([{"ip": "10.0.0.2"}])),
        );
        assert_eq!(collect(&[a.clone(), b.clone()]), collect(&[b, a.clone()]));
        let again = collect(&[a.clone(), service("a", json!({}), json!([{"ip": "10.0.0.9"}])), a]);
        assert_eq!((again.services.len(), again.faults.len()), (1, 1));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            service("a", json!({}), json!([{"ip": "10.0.0.1"}])),
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}]});
        assert_eq!(collect(&[list]).services.len(), 1);
    }

    #[test]
    fn conditions_of_endpoints_are_those_of_kubernetes() {
        let endpoint =
            |conditions: Value| json!({"addresses": ["10.0.0.1"], "nodeName": "n", "conditions": conditions});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [endpoint(json!({})), endpoint(json!({"ready": false})),
                endpoint(json!({"ready": false, "serving": true, "terminating": true})),
                endpoint(json!({"ready": false, "serving": false, "terminating": true}))]});
        let cluster = collect(&[slice]);
        let states: Vec<_> =
            cluster.endpoints.unwrap().into_values().flatten().map(|one| one.state).collect();
        assert_eq!(states, [EndpointState::Ready, EndpointState::Unready, EndpointState::Draining]);
        assert_eq!(collect(&[]).endpoints, None, "no slice at all says nothing");
    }

    #[test]
    fn an_address_behind_a_proxy_is_none_of_ours() {
        let proxied =
            service("a", json!({"clusterIP": "10.96.0.1"}), json!([{"ip": "10.0.0.1", "ipMode": "Proxy"}]));
        assert_eq!(collect(&[proxied]).services[0].vips.len(), 0);
    }

    /// A cluster configuration speaks for nodes without a configuration of their own, and selectors choose.
    #[test]
    fn who_is_to_advertise_follows_ciliums_objects() {
        let node = |name: &str, bgp: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"bgp": bgp}}});
        let peers = json!([{"name": "tor", "peerAddress": "10.0.0.254", "peerConfigRef": {"name": "tor"}}]);
        let cluster = collect(&[
            node("a", "on"),
            node("b", "off"),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPClusterConfig", "metadata": {"name": "c"},
                   "spec": {"nodeSelector": {"matchLabels": {"bgp": "on"}}, "bgpInstances": [{"name": "i", "peers": peers}]}}),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "tor"},
                   "spec": {"families": [{"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"to": "tor"}}}]}}),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement",
                   "metadata": {"name": "adv", "labels": {"to": "tor"}},
                   "spec": {"advertisements": [{"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"],
                       "aggregationLengthIPv4": 24}, "selector": {"matchLabels": {"io.kubernetes.service.name": "web"}}}]}}),
            service(
                "web",
                json!({"externalTrafficPolicy": "Local"}),
                json!([{"ip": "10.0.1.1"}, {"ip": "fd00::1"}]),
            ),
            service("other", json!({}), json!([{"ip": "10.0.1.2"}])),
            service("metal", json!({"loadBalancerClass": "metallb.io/x"}), json!([{"ip": "10.0.1.3"}])),
        ]);
        assert_eq!(cluster.faults, []);
        let here = |vip: &str, node: &str| Intent::of(&cluster, vip.parse().unwrap()).here(node);
        let Here::Yes(wishes) = here("10.0.1.1", "a") else { panic!("{:?}", here("10.0.1.1", "a")) };
        assert_eq!((wishes[0].name.as_str(), wishes[0].advertisement.as_str()), ("tor", "adv"));
        assert_eq!(here("10.0.1.1", "b"), Here::NoSpeaker);
        assert_eq!(here("fd00::1", "a"), Here::NotSelected, "the peer has no IPv6 family");
        assert_eq!(here("10.0.1.2", "a"), Here::NotSelected);
        assert_eq!(here("10.0.1.3", "a"), Here::OtherClass);
        assert_eq!(here("10.0.9.9", "a"), Here::Unknown);
        let intent = Intent::of(&cluster, "10.0.1.1".parse().unwrap());
        assert_eq!((intent.prefix_lengths(), intent.nodes()), (vec![24, 32], vec!["a"]));
        assert_eq!(intent.services[0].policy, TrafficPolicy::Local);
    }

    #[test]
    fn the_examples_of_other_projects_are_read() {
        let root =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/examples/cilium-bgp-cases");
        if !root.is_dir() {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED the_examples_of_other_projects_are_read: ../shared is missing"
            );
            return;
        }
        for case in std::fs::read_dir(root).unwrap().flatten() {
            let cluster = crate::cluster::folder(&case.path());
            // One object in several versions, a file each: the first by name is used, and the others are told.
            let others = cluster.faults.iter().filter(|fault| !fault.what.contains("differently"));
            assert_eq!(others.count(), 0, "{}: {:?}", case.path().display(), cluster.faults);
        }
    }
}
