//! A whole tree against a schema, each node looked at once.

use std::collections::BTreeMap;

use super::{Rule, SchemaError};
use crate::config::{Children, ConfigPath, Kind, Node};

/// What is wrong with the children of the node at `at`.
pub(super) fn children(
    nodes: &Children,
    rules: &BTreeMap<String, Rule>,
    at: &mut Vec<String>,
    errors: &mut Vec<SchemaError>,
) {
    for (name, node) in nodes {
        at.push(name.clone());
        match rules.get(name) {
            None => unknown(node, at, errors),
            Some(rule) if rule.kind == Kind::Tag => instances(node, rule, at, errors),
            Some(rule) => one(node, rule, at, errors),
        }
        at.pop();
    }
}

fn one(node: &Node, rule: &Rule, at: &mut Vec<String>, errors: &mut Vec<SchemaError>) {
    match (rule.kind, node) {
        (Kind::Leaf | Kind::Multi, Node::Leaf(values)) => {
            errors.extend(values.iter().filter_map(|value| rule.accept(at, value).err()));
        }
        (Kind::Branch, Node::Branch(nodes)) => children(nodes, &rule.children, at, errors),
        (Kind::Flag, node) if node.is_bare() => {}
        _ => unknown(node, at, errors),
    }
}

fn instances(node: &Node, rule: &Rule, at: &mut Vec<String>, errors: &mut Vec<SchemaError>) {
    let Some(named) = node.children().filter(|named| !named.is_empty()) else {
        return unknown(node, at, errors);
    };
    for (name, node) in named {
        errors.extend(rule.accept(at, name).err());
        at.push(name.clone());
        match node {
            Node::Branch(nodes) => children(nodes, &rule.children, at, errors),
            Node::Leaf(_) => unknown(node, at, errors),
        }
        at.pop();
    }
}

/// Every statement below is unknown, whatever it is.
fn unknown(node: &Node, at: &mut Vec<String>, errors: &mut Vec<SchemaError>) {
    node.walk(at, &mut |path, value| {
        errors.push(SchemaError::Path { path: ConfigPath::from_walk(path).descend(value) });
    });
}
