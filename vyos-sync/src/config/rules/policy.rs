//! Prefix lists and route maps.

use std::collections::BTreeSet;

use super::{Found, at, instances};
use crate::config::{Node, Tree};

const SCRIPT: &str = "policy";

pub(super) fn check(tree: &Tree, found: &mut Found) {
    let Some(policy) = tree.at(&["policy"]) else { return };
    for kind in ["prefix-list", "prefix-list6"] {
        for (name, list) in instances(policy, kind) {
            prefix_list(kind, name, list, found);
        }
    }
    for (name, map) in instances(policy, "route-map") {
        route_map(policy, name, map, found);
    }
}

fn prefix_list(kind: &str, name: &str, list: &Node, found: &mut Found) {
    let mut seen = BTreeSet::new();
    let mut rules: Vec<_> = instances(list, "rule").collect();
    rules.sort_by_key(|(number, _)| number.parse::<u32>().unwrap_or(u32::MAX));
    for (number, rule) in rules {
        let path = || at(["policy", kind, name, "rule", number]);
        if rule.child("action").is_none() {
            found.add(
                SCRIPT,
                path(),
                format!(r#"Action must be specified for "{kind} {name} rule {number}"!"#),
            );
        }
        if rule.child("prefix").is_none() {
            found.add(
                SCRIPT,
                path(),
                format!(r#"A prefix must be specified for "{kind} {name} rule {number}"!"#),
            );
        }
        let content = ["action", "prefix", "ge", "le"].map(|leaf| rule.text(leaf));
        if content[1].is_some() && !seen.insert(content) {
            found.add(SCRIPT, path(), format!(r#"Rule "{number}" contains a duplicate prefix definition!"#));
        }
    }
}

fn route_map(policy: &Node, name: &str, map: &Node, found: &mut Found) {
    for (number, rule) in instances(map, "rule") {
        let path = || at(["policy", "route-map", name, "rule", number]);
        if rule.child("action").is_none() {
            found.add(
                SCRIPT,
                path(),
                format!(r#"Action must be specified for "route-map {name} rule {number}"!"#),
            );
        }
        for (family, kind) in [("ip", "prefix-list"), ("ipv6", "prefix-list6")] {
            for what in ["address", "nexthop", "route-source"] {
                let Some(list) = rule.at(&["match", family, what, "prefix-list"]).and_then(Node::first)
                else {
                    continue;
                };
                if policy.at(&[kind, list]).is_none() {
                    found.about(
                        SCRIPT,
                        path(),
                        format!("{kind} {list} does not exist!"),
                        at(["policy", kind, list]),
                    );
                }
            }
        }
    }
}
