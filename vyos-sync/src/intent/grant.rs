//! Who may use what: the RouterGrants of one router, parsed.

use super::problem::{Findings, Problem};
use super::values::{self, Asn, HostName, VlanId};
use crate::crd::{GrantPolicy, GrantSubjects, Protocol};
use crate::inputs::{ClusterName, Inputs, ObjectId};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The grants of one router.
pub(super) struct Grants<'a> {
    policy: GrantPolicy,
    grants: Vec<Grant<'a>>,
    namespaces: BTreeMap<&'a str, &'a BTreeMap<String, String>>,
}

struct Grant<'a> {
    subjects: &'a GrantSubjects,
    vlans: Vec<RangeInclusive<u32>>,
    cidrs: Vec<IpNet>,
    asns: Vec<RangeInclusive<u32>>,
    ports: Vec<(Protocol, RangeInclusive<u32>)>,
    hostnames: &'a [String],
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Subject<'a> {
    /// A namespace of the router's own cluster.
    Namespace(&'a str),
    /// Another cluster as a whole, or the router's own for objects without a namespace.
    Cluster(&'a ClusterName),
}

impl<'a> Subject<'a> {
    pub(super) fn of(object: &'a ObjectId) -> Self {
        match &object.namespace {
            Some(namespace) if object.cluster.is_local() => Self::Namespace(namespace),
            _ => Self::Cluster(&object.cluster),
        }
    }
}

impl<'a> Grants<'a> {
    pub(super) fn of(
        inputs: &'a Inputs,
        router: &str,
        policy: GrantPolicy,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let for_us = inputs.grants.iter().filter(|grant| {
            grant.spec.routers.is_empty() || grant.spec.routers.iter().any(|name| name == router)
        });
        let grants = for_us.filter_map(|grant| {
            let mut findings = Findings::on(&grant.id, problems);
            let way_out = "write a number or a range such as 100-110";
            let spec = &grant.spec;
            let ports = spec.public_ports.iter().enumerate().filter_map(|(at, ports)| {
                let range = values::numbers(&ports.ports);
                let range = findings.read(&format!("spec.publicPorts[{at}].ports"), range, way_out)?;
                Some((ports.protocol, range))
            });
            let ports = ports.collect();
            let parsed = Grant {
                subjects: &spec.subjects,
                vlans: findings.read_all("spec.vlans", &spec.vlans, values::numbers, way_out),
                cidrs: findings.read_all("spec.cidrs", &spec.cidrs, values::prefix, "write a prefix"),
                asns: findings.read_all("spec.asns", &spec.asns, values::numbers, way_out),
                ports,
                hostnames: &spec.hostnames,
            };
            // A grant that is half understood gives nothing.
            findings.accepted(parsed)
        });
        let grants = grants.collect();
        let local = inputs.namespaces.iter().filter(|namespace| namespace.id.cluster.is_local());
        let namespaces = local.map(|namespace| (namespace.id.name.as_str(), &namespace.labels)).collect();
        Self { policy, grants, namespaces }
    }

    pub(super) fn vlan(&self, subject: &Subject<'_>, vlan: VlanId) -> bool {
        self.any(subject, |grant| contains(&grant.vlans, u32::from(vlan.number())))
    }

    pub(super) fn cidr(&self, subject: &Subject<'_>, prefix: &IpNet) -> bool {
        self.any(subject, |grant| grant.cidrs.iter().any(|cidr| cidr.contains(prefix)))
    }

    pub(super) fn asn(&self, subject: &Subject<'_>, asn: Asn) -> bool {
        self.any(subject, |grant| contains(&grant.asns, asn.number()))
    }

    pub(super) fn port(&self, subject: &Subject<'_>, protocol: Protocol, port: u16) -> bool {
        self.any(subject, |grant| {
            grant.ports.iter().any(|(kind, range)| *kind == protocol && range.contains(&u32::from(port)))
        })
    }

    pub(super) fn hostname(&self, subject: &Subject<'_>, name: &HostName) -> bool {
        self.any(subject, |grant| grant.hostnames.iter().any(|pattern| name_matches(pattern, name)))
    }

    fn any(&self, subject: &Subject<'_>, test: impl Fn(&Grant<'_>) -> bool) -> bool {
        self.policy == GrantPolicy::Open
            || self.grants.iter().any(|grant| self.is_for(grant.subjects, subject) && test(grant))
    }

    fn is_for(&self, subjects: &GrantSubjects, subject: &Subject<'_>) -> bool {
        let named = |names: &[String], name: &str| names.iter().any(|each| each == "*" || each == name);
        match subject {
            Subject::Cluster(cluster) => named(&subjects.clusters, cluster.as_str()),
            Subject::Namespace(namespace) => {
                named(&subjects.namespaces, namespace) || self.labelled(&subjects.namespace_labels, namespace)
            }
        }
    }

    fn labelled(&self, wanted: &BTreeMap<String, String>, namespace: &str) -> bool {
        !wanted.is_empty()
            && self
                .namespaces
                .get(namespace)
                .is_some_and(|labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

/// What to do where no grant covers a use.
pub(super) const WAY_OUT: &str =
    "ask for a RouterGrant that covers it, or set spec.grants of the Router to Open";

fn contains(ranges: &[RangeInclusive<u32>], number: u32) -> bool {
    ranges.iter().any(|range| range.contains(&number))
}

fn name_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name.strip_suffix(parent).is_some_and(|child| child.ends_with('.')),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Collector;
    use serde_json::{Value, json};

    fn inputs(grant: Value) -> Inputs {
        let mut collector = Collector::default();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab", "labels": {"team": "net"}}});
        let grant = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "RouterGrant", "metadata": {"name": "g"}, "spec": grant});
        for document in [namespace, grant] {
            collector.document("test", &ClusterName::local(), document);
        }
        collector.finish()
    }

    fn vlan(grant: Value, policy: GrantPolicy, subject: &Subject<'_>) -> (bool, usize) {
        let (inputs, mut problems) = (inputs(grant), Vec::new());
        let grants = Grants::of(&inputs, "gateway", policy, &mut problems);
        (grants.vlan(subject, VlanId::try_from(40).unwrap()), problems.len())
    }

    #[test]
    fn only_its_subjects_are_given_the_use() {
        let (lab, other) = (Subject::Namespace("lab"), Subject::Namespace("other"));
        let by_label = json!({"subjects": {"namespaceLabels": {"team": "net"}}, "vlans": ["30-49"]});
        assert_eq!(vlan(by_label.clone(), GrantPolicy::Required, &lab), (true, 0));
        assert_eq!(vlan(by_label.clone(), GrantPolicy::Required, &other), (false, 0));
        assert_eq!(vlan(by_label, GrantPolicy::Open, &other), (true, 0));
        let media = ClusterName::from("media");
        let all_local = json!({"subjects": {"namespaces": ["*"]}, "vlans": ["40"]});
        assert_eq!(vlan(all_local, GrantPolicy::Required, &Subject::Cluster(&media)), (false, 0));
    }

    #[test]
    fn a_grant_for_another_router_gives_nothing() {
        let grant = json!({"routers": ["edge"], "subjects": {"namespaces": ["*"]}, "vlans": ["40"]});
        assert_eq!(vlan(grant, GrantPolicy::Required, &Subject::Namespace("lab")), (false, 0));
    }

    #[test]
    fn a_grant_that_is_half_understood_gives_nothing_and_is_named() {
        let grant = json!({"subjects": {"namespaces": ["*"]}, "vlans": ["40"], "cidrs": ["10.0.0.1/8"]});
        assert_eq!(vlan(grant, GrantPolicy::Required, &Subject::Namespace("lab")), (false, 1));
    }

    #[test]
    fn a_star_stands_for_names_below() {
        let name = |text| HostName::try_from(text).unwrap();
        assert!(name_matches("*.apps.example", &name("a.b.apps.example")));
        assert!(!name_matches("*.apps.example", &name("apps.example")));
        assert!(!name_matches("*.apps.example", &name("evilapps.example")));
    }
}
