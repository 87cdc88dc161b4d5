//! Our kinds for what a router has, and how much of it they cover. Pure; changes nothing anywhere.
//!
//! What carries a mark of ours gets the name in the mark, so that the objects render to the very same configuration.
//! What people made gets names after its place. What no object can say is left, and the report names it.

mod bgp;
mod dhcp;
mod nat;
mod network;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::{ConfigPath, Leaf, Node, Tree};
use crate::inputs::Inputs;
use crate::plan::Mark;

/// What came of an import.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The objects, as manifests.
    pub objects: Vec<Value>,
    /// The report.
    pub coverage: Vec<Coverage>,
    /// What the objects say otherwise than the router, or need from a person.
    pub notes: Vec<String>,
}

/// How much of one top-level part the objects speak of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Its first two words, such as `service dhcp-server`.
    pub part: String,
    /// Statements that the objects speak of.
    pub covered: usize,
    /// All its statements.
    pub all: usize,
    /// The paths that they do not speak of, each once.
    pub left: Vec<String>,
}

/// Reads a configuration as our kinds. Services of `known` give publications their names; where there is no Router
/// object, one is made.
pub fn import(tree: &Tree, router: &str, namespace: &str, known: &Inputs) -> Imported {
    let (taken, notes, names) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let mut reader = Reader { tree, taken, router, namespace, known, notes, names };
    let (networks, places) = reader.networks();
    let mut objects: Vec<Value> = reader.router_object().into_iter().collect();
    objects.extend(networks);
    objects.extend(reader.peerings());
    objects.extend(reader.publications(&places));
    let coverage = reader.coverage();
    Imported { objects, coverage, notes: reader.notes }
}

struct Reader<'a> {
    tree: &'a Tree,
    taken: BTreeSet<Leaf>,
    router: &'a str,
    namespace: &'a str,
    known: &'a Inputs,
    notes: Vec<String>,
    names: BTreeSet<String>,
}

/// Who an object is: from a mark of ours, or after its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    namespace: String,
    name: String,
    /// What a description says behind the mark, or all of it.
    words: Option<String>,
}

impl Reader<'_> {
    /// The name in a description's mark, or `otherwise`, told apart from those that were given.
    fn name(&mut self, kind: &str, description: Option<&str>, otherwise: &str) -> Name {
        let mark = description.and_then(Mark::read);
        let words = match (&mark, description) {
            (Some(mark), Some(text)) => {
                text.strip_prefix(mark.as_str()).map(|rest| rest.trim_start().to_owned())
            }
            (_, text) => text.map(str::to_owned),
        };
        let words = words.filter(|words| !words.is_empty());
        let place = mark.as_ref().and_then(|mark| mark.as_str().strip_prefix("vs:")?.split_once('/'));
        let (namespace, wished) = match place {
            Some((namespace, name)) if !namespace.is_empty() => (namespace.to_owned(), name.to_owned()),
            _ => (self.namespace.to_owned(), object_name(otherwise)),
        };
        let mut name = wished.clone();
        let mut nth = 2;
        while !self.names.insert(format!("{kind}/{namespace}/{name}")) {
            name = format!("{wished}-{nth}");
            nth += 1;
        }
        Name { namespace, name, words }
    }

    fn object(&self, kind: &str, name: &Name, spec: Map<String, Value>) -> Value {
        json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": kind,
            "metadata": {"namespace": name.namespace, "name": name.name}, "spec": spec,
        })
    }

    /// A spec that begins with the reference to the router.
    fn spec(&self) -> Map<String, Value> {
        Map::from_iter([("routerRef".to_owned(), json!({"name": self.router}))])
    }

    /// Notes that the objects speak of this leaf, with all its values.
    fn take(&mut self, at: &[String], below: &[&str]) {
        let words: Vec<String> = at.iter().cloned().chain(below.iter().map(|w| (*w).to_owned())).collect();
        let (Some(node), Ok(path)) = (self.tree.at(&words), ConfigPath::try_from(words)) else { return };
        match node.values() {
            Some(values) => {
                self.taken.extend(values.iter().map(|v| Leaf { path: path.clone(), value: Some(v.clone()) }));
            }
            None => drop(self.taken.insert(Leaf { path, value: None })),
        }
    }

    /// Notes that the objects speak of this one value of a leaf.
    fn take_value(&mut self, at: &[&str], value: &str) {
        let words: Vec<String> = at.iter().map(|w| (*w).to_owned()).collect();
        if let Ok(path) = ConfigPath::try_from(words) {
            self.taken.insert(Leaf { path, value: Some(value.to_owned()) });
        }
    }

    fn coverage(&self) -> Vec<Coverage> {
        let mut parts: BTreeMap<String, Coverage> = BTreeMap::new();
        for leaf in self.tree.leaves() {
            let part = leaf.path.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
            let empty = || Coverage { part: part.clone(), covered: 0, all: 0, left: Vec::new() };
            let entry = parts.entry(part.clone()).or_insert_with(empty);
            entry.all += 1;
            let path = leaf.path.to_string();
            match self.taken.contains(&leaf) {
                true => entry.covered += 1,
                false if entry.left.last() != Some(&path) => entry.left.push(path),
                false => {}
            }
        }
        parts.into_values().collect()
    }

    /// The Router itself, where the source has none. What a person must fill in is noted.
    fn router_object(&mut self) -> Option<Value> {
        let bgp = self.router_bgp();
        if self.known.router(self.router).is_some() {
            return None;
        }
        self.notes.push(format!(
            "Router {}: fill in spec.endpoints, spec.tls and spec.apiKey; it only observes until spec.mode says more",
            self.router
        ));
        let mut spec = json!({
            "endpoints": ["https://192.0.2.1"], "tls": {"caFile": "/etc/vyos-sync/ca.pem"},
            "apiKey": {"file": "/etc/vyos-sync/key"}, "mode": "Observe", "grants": "Open",
        });
        if let Some(bgp) = bgp {
            spec["bgp"] = bgp;
        }
        Some(json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Router", "metadata": {"name": self.router}, "spec": spec,
        }))
    }
}

/// A Kubernetes name close to a text.
fn object_name(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(fits).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "unnamed".to_owned() } else { name.chars().take(63).collect() }
}

fn words(path: &[&str]) -> Vec<String> {
    path.iter().map(|word| (*word).to_owned()).collect()
}

/// The instances of a tag node.
fn named<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
    node.child(tag).and_then(Node::children).into_iter().flatten()
}

/// The values of a leaf.
fn values<'a>(node: &'a Node, leaf: &str) -> impl Iterator<Item = &'a String> {
    node.child(leaf).and_then(Node::values).into_iter().flatten()
}

#[cfg(test)]
mod tests;
