//! What will bite in a cluster's Cilium: its ConfigMap and BGP objects, beside the router and Istio. Pure.
//!
//! What concerns one peer alone (a missing password, graceful restart against BFD, a wrong port) is told by `intent` already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Contradiction, say};
use crate::{
    compile::Compiled,
    crd::RouterSpec,
    inputs::{CiliumConfig, ClusterName, Inputs, Object, PeeringPolicy, PolicyNeighbor, VirtualRouter},
};

/// All of it.
pub(super) fn bites(inputs: &Inputs, router: &Object<RouterSpec>, compiled: &Compiled) -> Vec<Contradiction> {
    let mut found: Vec<Contradiction> = inputs.retired_policies.iter().map(retired).collect();
    found.extend(paths(router, compiled));
    for config in &inputs.cilium_configs {
        let what = settings(config, inputs);
        found.extend(what.into_iter().map(|what| say(&config.id, what)));
    }
    found
}

/// Fewer equal paths than nodes: the router leaves some nodes without traffic.
fn paths(router: &Object<RouterSpec>, compiled: &Compiled) -> Option<Contradiction> {
    let bgp = compiled.intent.bgp.as_ref()?;
    let mut peers: BTreeMap<(String, bool), usize> = BTreeMap::new();
    for peer in &bgp.peers {
        *peers.entry((format!("{:?}", peer.session.policy), peer.address.is_ipv6())).or_default() += 1;
    }
    let most = peers.into_values().max().filter(|count| *count > 1)?;
    let what = match bgp.maximum_paths {
        Some(paths) if usize::from(paths) >= most => return None,
        Some(paths) => format!(
            "bgp.maximumPaths is {paths}, and {most} nodes announce the same addresses: the router uses {paths} of them; \
             set it to {most} or more"
        ),
        None => format!(
            "bgp.maximumPaths is not set, and {most} nodes announce the same addresses: how many are used is then the \
             release's choice; set it to {most} or more"
        ),
    };
    Some(say(&router.id, what))
}

fn settings(config: &Object<CiliumConfig>, inputs: &Inputs) -> Vec<String> {
    let cluster = &config.id.cluster;
    let set = |name: &str| config.spec.setting(name);
    let mut found = Vec::new();
    let mut bite = |holds: bool, what: String| {
        if holds {
            found.push(what);
        }
    };
    let speaks = inputs.bgp_clusters.iter().any(|each| each.id.cluster == *cluster);
    bite(
        speaks && set("enable-bgp-control-plane") != Some("true"),
        "enable-bgp-control-plane is not true: Cilium ignores the cluster's CiliumBGPClusterConfig; set Helm \
         bgpControlPlane.enabled"
            .into(),
    );
    bite(
        speaks && set("enable-bgp-control-plane-status-report") == Some("false"),
        "enable-bgp-control-plane-status-report is false: CiliumBGPNodeConfig has no status, so what a node announces cannot \
         be compared; set Helm bgpControlPlane.statusReport.enabled"
            .into(),
    );
    bite(
        speaks && set("enable-no-service-endpoints-routable") == Some("false"),
        "enable-no-service-endpoints-routable is false: an address whose Service has no endpoint is withdrawn, and comes \
         back as a new route"
            .into(),
    );
    bite(
        set("enable-tcx") == Some("false"),
        "enable-tcx is false: Cilium then deletes every other legacy tc filter of a device, the agent's too where it has no \
         TCX; leave it on from Linux 6.6 on"
            .into(),
    );
    let acceleration = set("bpf-lb-acceleration").filter(|mode| *mode != "disabled" && !mode.is_empty());
    bite(
        acceleration.is_some(),
        format!(
            "bpf-lb-acceleration is {}: Cilium owns XDP on its devices, so packets that it answers there are seen by no other \
             program; the agent's counts miss them",
            acceleration.unwrap_or_default()
        ),
    );
    found.extend(devices(config, inputs));
    found.extend(ambient(config, inputs));
    found
}

/// Devices that Cilium keeps out, or whose VLANs its filter drops.
fn devices(config: &Object<CiliumConfig>, inputs: &Inputs) -> Vec<String> {
    let named: Vec<&str> = config
        .spec
        .setting("devices")
        .unwrap_or_default()
        .split([' ', ','])
        .filter(|it| !it.is_empty())
        .collect();
    let mut found = Vec::new();
    let bridges: BTreeSet<&str> = inputs
        .attachments
        .iter()
        .filter(|each| each.id.cluster == config.id.cluster)
        .filter_map(|each| each.labels.get("network.harvesterhci.io/clusternetwork").map(String::as_str))
        .collect();
    if named.is_empty() && !bridges.is_empty() {
        let names: Vec<String> = bridges.iter().map(|network| format!("{network}-br")).collect();
        found.push(format!(
            "devices is not set, and Cilium's own search leaves out bridges and their members: services are not served on {}; \
             name the devices",
            names.join(", ")
        ));
    }
    let bypass = config.spec.setting("vlan-bpf-bypass").unwrap_or_default();
    let allowed: Vec<&str> = bypass.split([' ', ',']).filter(|it| !it.is_empty()).collect();
    let vlans: BTreeSet<&str> = named
        .iter()
        .filter_map(|device| device.rsplit_once('.').map(|(_, vlan)| vlan))
        .filter(|vlan| vlan.parse::<u16>().is_ok_and(|it| (1..4095).contains(&it)))
        .filter(|vlan| !allowed.contains(vlan) && !allowed.contains(&"0"))
        .collect();
    if !vlans.is_empty() {
        let vlans: Vec<&str> = vlans.into_iter().collect();
        found.push(format!(
            "devices names VLAN {} and vlan-bpf-bypass does not: Cilium's filter on the parent drops its packets; add them \
             to Helm bpf.vlanBypass",
            vlans.join(", ")
        ));
    }
    found
}

/// What Istio's ambient mode needs from Cilium, where a namespace is enrolled.
fn ambient(config: &Object<CiliumConfig>, inputs: &Inputs) -> Vec<String> {
    let enrolled = |cluster: &ClusterName| {
        let mode = |labels: &BTreeMap<String, String>| {
            labels.get("istio.io/dataplane-mode").is_some_and(|mode| mode == "ambient")
        };
        inputs.namespaces.iter().find(|each| each.id.cluster == *cluster && mode(&each.labels))
    };
    let Some(namespace) = enrolled(&config.id.cluster) else { return Vec::new() };
    let mut found = Vec::new();
    for (setting, wanted, default, without) in [
        (
            "cni-exclusive",
            "false",
            "true",
            "Cilium renames Istio's CNI configuration away, and pods are not enrolled",
        ),
        (
            "bpf-lb-sock-hostns-only",
            "true",
            "false",
            "Cilium translates Services in the pod's sockets, and ztunnel sees no Service",
        ),
    ] {
        let now = config.spec.setting(setting).unwrap_or(default);
        if now != wanted {
            found.push(format!(
                "{setting} is {now}, and {} is enrolled in Istio ambient: {without}; set it to {wanted}",
                namespace.id
            ));
        }
    }
    found
}

fn retired(policy: &Object<PeeringPolicy>) -> Contradiction {
    let what = format!(
        "Cilium has no CiliumBGPPeeringPolicy since 1.19. The same in cilium.io/v2:\n{}",
        equivalent(&policy.id.name, &policy.spec)
    );
    say(&policy.id, what)
}

/// The objects of cilium.io/v2 that say what a CiliumBGPPeeringPolicy said, as YAML.
fn equivalent(name: &str, policy: &PeeringPolicy) -> String {
    let mut instances = Vec::new();
    let mut others = Vec::new();
    for (at, speaker) in policy.virtual_routers.iter().enumerate() {
        let instance = format!("instance-{}", speaker.local_asn);
        let marked = json!({"weir.dev/from": format!("{name}-{at}")});
        let mut peers = Vec::new();
        for (index, neighbor) in speaker.neighbors.iter().enumerate() {
            let config = format!("{name}-{at}-{index}");
            // A prefix there, an address here.
            let address = neighbor.peer_address.split('/').next().unwrap_or_default();
            peers.push(
                json!({"name": format!("peer-{index}"), "peerAddress": address, "peerASN": neighbor.peer_asn,
                              "peerConfigRef": {"name": config}}),
            );
            others.push(object("CiliumBGPPeerConfig", &config, None, peer_config(neighbor, &marked)));
        }
        instances.push(json!({"name": instance, "localASN": speaker.local_asn, "peers": peers}));
        let spec = json!({"advertisements": advertisements(speaker)});
        others.push(object("CiliumBGPAdvertisement", &format!("{name}-{at}"), Some(&marked), spec));
    }
    let mut cluster = json!({"bgpInstances": instances});
    if let Some(selector) = &policy.node_selector {
        cluster["nodeSelector"] = selector.clone();
    }
    let mut all = vec![object("CiliumBGPClusterConfig", name, None, cluster)];
    all.append(&mut others);
    all.iter().map(|each| format!("---\n{}", serde_saphyr::to_string(each).unwrap_or_default())).collect()
}

fn object(kind: &str, name: &str, labels: Option<&Value>, spec: Value) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(labels) = labels {
        metadata["labels"] = labels.clone();
    }
    json!({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec})
}

fn peer_config(neighbor: &PolicyNeighbor, advertised: &Value) -> Value {
    let mut spec = json!({});
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec[field] = value;
        }
    };
    put("authSecretRef", neighbor.auth_secret_ref.as_ref().map(|name| json!(name)));
    put("ebgpMultihop", neighbor.ebgp_multihop_ttl.map(|ttl| json!(ttl)));
    put("gracefulRestart", neighbor.graceful_restart.clone());
    put("transport", neighbor.peer_port.filter(|port| *port != 179).map(|port| json!({"peerPort": port})));
    let timers: serde_json::Map<String, Value> = [
        ("holdTimeSeconds", neighbor.hold_time_seconds),
        ("keepAliveTimeSeconds", neighbor.keep_alive_time_seconds),
        ("connectRetryTimeSeconds", neighbor.connect_retry_time_seconds),
    ]
    .into_iter()
    .filter_map(|(field, seconds)| Some((field.to_owned(), json!(seconds?))))
    .collect();
    put("timers", (!timers.is_empty()).then(|| Value::Object(timers)));
    let families = match neighbor.families.is_empty() {
        true => vec![json!({"afi": "ipv4", "safi": "unicast"}), json!({"afi": "ipv6", "safi": "unicast"})],
        false => neighbor.families.clone(),
    };
    let with = |mut family: Value| {
        family["advertisements"] = json!({"matchLabels": advertised});
        family
    };
    put("families", Some(families.into_iter().map(with).collect()));
    spec
}

fn advertisements(speaker: &VirtualRouter) -> Vec<Value> {
    let mut all = Vec::new();
    if speaker.export_pod_cidr {
        all.push(json!({"advertisementType": "PodCIDR"}));
    }
    if let Some(selector) = &speaker.service_selector {
        let addresses = match speaker.service_advertisements.is_empty() {
            true => vec!["LoadBalancerIP".to_owned()],
            false => speaker.service_advertisements.clone(),
        };
        all.push(json!({"advertisementType": "Service", "service": {"addresses": addresses}, "selector": selector}));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile, config::Dialect, config::Tree, inputs::Collector, plan::Ledger};

    fn inputs(documents: Vec<Value>) -> Inputs {
        let mut collector = Collector::default();
        for document in documents {
            collector.document("test", &ClusterName::local(), document);
        }
        collector.finish()
    }

    fn router(paths: Option<u16>) -> Value {
        let mut bgp = json!({"asn": 64512, "addresses": ["10.10.30.1"]});
        if let Some(paths) = paths {
            bgp["maximumPaths"] = json!(paths);
        }
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gateway"},
               "spec": {"endpoints": ["https://10.10.10.1"], "tls": {}, "apiKey": {"file": "key"}, "bgp": bgp, "grants": "Open"}})
    }

    fn node(at: u8) -> [Value; 2] {
        let name = format!("n{at}");
        [
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                   "status": {"addresses": [{"type": "InternalIP", "address": format!("10.10.30.{}", 10 + at)}]}}),
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": name},
                   "spec": {"bgpInstances": [{"name": "i", "localASN": 64513, "peers": [
                       {"name": "gateway", "peerAddress": "10.10.30.1", "peerASN": 64512, "localAddress": format!("10.10.30.{}", 10 + at),
                        "peerConfigRef": {"name": "router"}}]}]}}),
        ]
    }

    fn config(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}, "data": data})
    }

    fn said(mut documents: Vec<Value>) -> Vec<String> {
        documents.push(
            json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "router"},
                   "spec": {"families": [{"afi": "ipv4", "safi": "unicast"}]}}),
        );
        let inputs = inputs(documents);
        let router = inputs.routers[0].clone();
        let compiled = compile::compile(&inputs, &router, Dialect::V1_5, &Tree::new(), &Ledger::default());
        bites(&inputs, &router, &compiled).into_iter().map(|each| each.what).collect()
    }

    #[test]
    fn a_sound_cluster_is_left_alone() {
        let mut documents = vec![
            router(Some(8)),
            config(json!({"enable-bgp-control-plane": "true", "cni-exclusive": "true"})),
        ];
        documents.extend((0..3).flat_map(node));
        // Another ConfigMap is nobody's business.
        documents.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"enable-tcx": "false"}}));
        assert_eq!(said(documents), Vec::<String>::new());
    }

    #[test]
    fn fewer_paths_than_nodes() {
        let with = |paths| {
            let mut documents = vec![router(paths)];
            documents.extend((0..3).flat_map(node));
            said(documents)
        };
        assert!(with(Some(2))[0].contains("uses 2 of them; set it to 3"), "{:?}", with(Some(2)));
        assert!(with(None)[0].contains("not set, and 3 nodes"), "{:?}", with(None));
        assert!(with(Some(3)).is_empty());
    }

    #[test]
    fn settings_that_bite_are_named() {
        let cluster = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPClusterConfig", "metadata": {"name": "c"},
                             "spec": {"bgpInstances": []}});
        let data = json!({"enable-bgp-control-plane-status-report": "false", "enable-tcx": "false", "bpf-lb-acceleration": "native",
                          "devices": "bond0 bond0.50 bond0.60", "vlan-bpf-bypass": "60", "enable-no-service-endpoints-routable": "false"});
        let said = said(vec![router(None), cluster, config(data)]);
        for (index, start) in [
            "enable-bgp-control-plane is not true",
            "enable-bgp-control-plane-status-report is false",
            "enable-no-service-endpoints-routable is false",
            "enable-tcx is false",
            "bpf-lb-acceleration is native",
            "devices names VLAN 50 and",
        ]
        .iter()
        .enumerate()
        {
            assert!(said[index].starts_with(start), "{said:#?}");
        }
        assert_eq!(said.len(), 6, "{said:#?}");
    }

    #[test]
    fn bridges_are_kept_out_of_cilium() {
        let attachment = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "tenant", "namespace": "default", "labels": {"network.harvesterhci.io/clusternetwork": "data",
                         "network.harvesterhci.io/vlan-id": "40", "network.harvesterhci.io/type": "L2VlanNetwork"}},
            "spec": {"config": r#"{"type":"bridge","bridge":"data-br","vlan":40}"#}});
        let found = said(vec![router(None), attachment.clone(), config(json!({}))]);
        assert!(found[0].contains("not served on data-br"), "{found:?}");
        assert!(said(vec![router(None), attachment, config(json!({"devices": "data-br"}))]).is_empty());
    }

    #[test]
    fn ambient_needs_two_settings() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": "shop", "labels": {"istio.io/dataplane-mode": "ambient"}}});
        let found = said(vec![router(None), namespace.clone(), config(json!({}))]);
        assert!(found[0].starts_with("cni-exclusive is true, and Namespace shop is enrolled"), "{found:?}");
        assert!(found[1].starts_with("bpf-lb-sock-hostns-only is false"), "{found:?}");
        let sound = json!({"cni-exclusive": "false", "bpf-lb-sock-hostns-only": "true"});
        assert!(said(vec![router(None), namespace, config(sound)]).is_empty());
    }

    #[test]
    fn a_retired_policy_is_written_anew() {
        let policy = json!({"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumBGPPeeringPolicy", "metadata": {"name": "vyos"},
            "spec": {"nodeSelector": {"matchLabels": {"bgp": "enabled"}}, "virtualRouters": [{"localASN": 64513, "exportPodCIDR": true,
                "serviceSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
                "neighbors": [{"peerAddress": "10.10.30.1/32", "peerASN": 64512, "authSecretRef": "bgp", "holdTimeSeconds": 9,
                               "keepAliveTimeSeconds": 3, "gracefulRestart": {"enabled": true}}]}]}});
        let found = said(vec![router(None), policy]);
        let (says, text) = found[0].split_once('\n').unwrap();
        assert!(says.contains("1.19"));
        let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        // What it becomes is followed, and no fault.
        let inputs = inputs([vec![router(None)], objects.clone()].concat());
        assert_eq!(inputs.faults, []);
        let instance = &inputs.bgp_clusters[0].spec.bgp_instances[0];
        assert_eq!(instance.local_asn, Some(64513));
        assert_eq!(instance.peers[0].peer_address.map(|it| it.0.to_string()).as_deref(), Some("10.10.30.1"));
        let config = &inputs.bgp_peer_configs[0];
        assert_eq!(instance.peers[0].config_name(), Some(config.id.name.as_str()));
        assert_eq!(config.spec.auth_secret_ref.as_deref(), Some("bgp"));
        assert_eq!(config.spec.hold_and_keepalive(), (9, 3));
        assert!(config.spec.restarts_gracefully());
        let advertisement = &inputs.bgp_advertisements[0];
        let families = config.spec.families.as_ref().unwrap();
        assert_eq!(families.len(), 2);
        let wanted = families[0].advertisements.as_ref().unwrap().match_labels.as_ref().unwrap();
        assert!(advertisement.has_labels(wanted), "the peer takes the advertisement");
        assert_eq!(advertisement.spec.advertisements.len(), 2);
    }
}
