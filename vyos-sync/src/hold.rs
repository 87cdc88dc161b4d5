//! Whose configuration must not shrink now: something is wrong with an object, or with one that it is made from. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    inputs::{ClusterName, Completeness, Fault, Inputs, Kind, ObjectId},
    intent::{Effect, Intent, Problem, owner_of},
    plan::{Keep, Ledger, Mark, Owner},
};

/// What may not be removed, and why.
///
/// A manifest that cannot be read and whose objects are not known could have wanted anything: nothing of its source is
/// removed. Otherwise only what belongs to the objects that are held, or is made from them, is kept, and what a machine is on.
pub(crate) fn keep(
    inputs: &Inputs,
    intent: &Intent,
    rendering: &[Problem],
    ledger: &Ledger,
    in_use: &BTreeMap<Mark, Problem>,
) -> Keep {
    if intent.completeness == Completeness::Incomplete {
        let unknown: Vec<&Fault> = intent.faults.iter().filter(|fault| fault.object.is_none()).collect();
        match (unknown.first(), intent.faults.is_empty()) {
            (Some(fault), _) => return Keep::All(format!("{}: {}", fault.place, fault.what)),
            (None, true) => return Keep::All("not all of the source could be read".to_owned()),
            (None, false) => {}
        }
    }
    let refused = rendering.iter().filter(|problem| problem.effect == Effect::Refused);
    let mut held = intent.held.clone();
    held.extend(refused.map(|problem| owner_of(&problem.object)));
    if held.is_empty() && inputs.stale.is_empty() && in_use.is_empty() {
        return Keep::Nothing;
    }
    let mut marks = marks(inputs, &held);
    for cluster in inputs.stale.keys() {
        marks.extend(of_cluster(inputs, ledger, cluster));
        held.insert(Owner::cluster("Cluster", cluster.as_str()));
    }
    marks.extend(in_use.keys().cloned());
    held.extend(in_use.values().map(|problem| owner_of(&problem.object)));
    Keep::Of { marks, because: held }
}

/// The marks of everything that is made from the objects of a cluster of which not all is known: those that are known,
/// those that were known when the router was last changed, and what of ours speaks of the cluster.
fn of_cluster(inputs: &Inputs, ledger: &Ledger, cluster: &ClusterName) -> BTreeSet<Mark> {
    let known = inputs.ids().filter(|id| id.cluster == *cluster).map(|id| owner_of(id).mark());
    let begins = [format!("vs:{cluster}/"), format!("vs:{cluster}.")];
    let before =
        ledger.claims.values().filter(|mark| begins.iter().any(|each| mark.as_str().starts_with(each)));
    let peerings =
        inputs.peerings.iter().filter(|each| each.spec.cluster == cluster.as_str()).map(|each| &each.id);
    let publications = inputs.publications.iter();
    let publications =
        publications.filter(|each| each.spec.service_ref.cluster.as_deref() == Some(cluster.as_str()));
    let ours = peerings.chain(publications.map(|each| &each.id)).map(|id| owner_of(id).mark());
    known.chain(before.cloned()).chain(ours).collect()
}

/// The marks of the held owners, and of those that are in the source and could want less because of them. Who is no
/// longer in the source wants nothing, whatever is wrong with the others.
fn marks(inputs: &Inputs, held: &BTreeSet<Owner>) -> BTreeSet<Mark> {
    let kinds: BTreeSet<Kind> = held.iter().filter_map(|owner| Kind::named(&owner.kind)).collect();
    let shrinks = |id: &&ObjectId| kinds.iter().any(|kind| may_shrink(id.kind, *kind));
    let others = inputs.ids().filter(shrinks).map(|id| owner_of(id).mark());
    held.iter().map(Owner::mark).chain(others).collect()
}

/// Whether objects of a kind can want less on the router because one of the other kind is held. What lies inside the
/// configuration of a held owner is kept anyway.
fn may_shrink(kind: Kind, held: Kind) -> bool {
    match held {
        Kind::Router | Kind::RouterGrant | Kind::Namespace => true,
        Kind::RouterNetwork => kind == Kind::PortPublication || peers(kind),
        Kind::NetworkAttachmentDefinition => {
            matches!(kind, Kind::RouterNetwork | Kind::PortPublication) || peers(kind)
        }
        // A network without a range and without a reservation serves no DHCP.
        Kind::Hardware | Kind::VirtualMachineInstance | Kind::VirtualMachine => {
            matches!(kind, Kind::RouterNetwork | Kind::NetworkAttachmentDefinition)
        }
        Kind::Service => kind == Kind::PortPublication,
        Kind::PortPublication | Kind::RouterConfig => false,
        Kind::BgpPeering => peers(kind) && kind != Kind::BgpPeering,
        _ => peers(kind),
    }
}

/// Whether it makes, or is part of what makes, BGP peers.
fn peers(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Router
            | Kind::BgpPeering
            | Kind::CiliumBgpClusterConfig
            | Kind::CiliumBgpPeerConfig
            | Kind::CiliumBgpNodeConfig
            | Kind::CiliumNode
            | Kind::Node
            | Kind::CapiCluster
            | Kind::CapiMachine
            | Kind::NodeDatapath
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inputs::Collector, intent};
    use serde_json::{Value, json};

    fn object(kind: &str, name: &str, spec: Value) -> Value {
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": kind,
               "metadata": {"name": name, "namespace": "lab"}, "spec": spec})
    }

    fn network(name: &str, vlan: u16) -> Value {
        object(
            "RouterNetwork",
            name,
            json!({"routerRef": {"name": "gw"}, "vlan": vlan, "parent": {"name": "eth1"},
            "subnets": [{"cidr": format!("10.10.{}.0/24", vlan % 250)}]}),
        )
    }

    fn router() -> Value {
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": "gw"},
            "spec": {"endpoints": ["https://192.0.2.1"], "tls": {}, "apiKey": {}, "grants": "Open", "bgp": {"asn": 64512}}})
    }

    fn of(objects: &[Value]) -> Keep {
        let mut collector = Collector::default();
        for each in [router()].iter().chain(objects) {
            collector.document("file", &ClusterName::local(), each.clone());
        }
        let inputs = collector.finish();
        keep(&inputs, &intent::derive(&inputs, &"gw".into()), &[], &Ledger::default(), &BTreeMap::new())
    }

    fn kept(keep: &Keep) -> Vec<&str> {
        let Keep::Of { marks, .. } = keep else { panic!("{keep:?}") };
        marks.iter().map(Mark::as_str).collect()
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_wrong() {
        assert_eq!(of(&[network("a", 40)]), Keep::Nothing);
    }

    #[test]
    fn a_refused_network_keeps_itself_and_what_is_made_from_it() {
        let peering = object(
            "BGPPeering",
            "p",
            json!({"routerRef": {"name": "gw"}, "peerASN": 65001,
            "peers": [{"name": "x", "address": "10.10.41.9"}], "accept": [{"prefix": "10.9.0.0/24"}]}),
        );
        let keep = of(&[network("a", 4095), network("b", 41), peering]);
        assert_eq!(kept(&keep), ["vs:/gw", "vs:lab/a", "vs:lab/p"]);
    }

    #[test]
    fn an_unreadable_object_is_held_by_its_name() {
        let keep = of(&[object("RouterNetwork", "a", json!({"vlan": "many"})), network("b", 41)]);
        let Keep::Of { because, .. } = &keep else { panic!("{keep:?}") };
        assert_eq!(because.iter().map(ToString::to_string).collect::<Vec<_>>(), ["RouterNetwork lab/a"]);
        assert!(!kept(&keep).contains(&"vs:lab/b"));
    }

    #[test]
    fn what_is_made_from_a_cluster_that_cannot_be_asked_is_kept() {
        let peering = object("BGPPeering", "p", json!({"routerRef": {"name": "gw"}, "cluster": "media"}));
        let mut collector = Collector::default();
        collector.document("file", &ClusterName::local(), router());
        collector.document("file", &ClusterName::local(), peering);
        let mut inputs = collector.finish();
        inputs.stale.insert(ClusterName::from("media"), "connection refused".to_owned());
        let mut ledger = Ledger::default();
        for (at, mark) in
            ["vs:media/node-a one", "vs:media.kube-system/x", "vs:medialab/node", "vs:/gw"].iter().enumerate()
        {
            ledger.claims.insert(format!("a {at}").parse().unwrap(), Mark::read(mark).unwrap());
        }
        let keep = keep(&inputs, &intent::derive(&inputs, &"gw".into()), &[], &ledger, &BTreeMap::new());
        let kept = kept(&keep);
        assert!(kept.contains(&"vs:media/node-a") && kept.contains(&"vs:media.kube-system/x"), "{kept:?}");
        assert!(kept.contains(&"vs:lab/p"), "{kept:?}");
        assert!(!kept.contains(&"vs:medialab/node"), "{kept:?}");
    }

    #[test]
    fn an_object_without_a_name_could_be_anyone() {
        let nameless = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterNetwork", "spec": {}});
        assert!(matches!(of(&[nameless, network("b", 41)]), Keep::All(why) if why.contains("file")));
    }
}
