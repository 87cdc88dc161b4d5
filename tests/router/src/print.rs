//! `showConfig` in the formats `raw` and `json_ast`.

use serde_json::{Value, json};
use vyos_sync::config::print::{block, natural};
use vyos_sync::config::{Kind, Kinds, Node, Tree};

/// Kinds as seen from a node down.
struct Below<'a, K>(&'a K, &'a [String]);

impl<K: Kinds> Kinds for Below<'_, K> {
    fn kind(&self, path: &[String]) -> Option<Kind> {
        self.0.kind(&[self.1, path].concat())
    }
}

/// The content of a node as a config block, every line one blank further right.
pub(crate) fn raw(kinds: &impl Kinds, at: &[String], node: &Node) -> String {
    let text = match (node, at.split_last()) {
        (Node::Branch(children), _) => block(&Tree::from(children.clone()), &Below(kinds, at)),
        (Node::Leaf(_), Some((name, above))) => {
            let only = Tree::from(vyos_sync::config::Children::from([(name.clone(), node.clone())]));
            block(&only, &Below(kinds, above))
        }
        (Node::Leaf(_), None) => String::new(),
    };
    text.lines().map(|line| format!(" {line}\n")).collect()
}

/// The abstract syntax tree; `at` is the place of the node that is printed as `name`.
pub(crate) fn ast(kinds: &impl Kinds, at: &[String], name: &str, node: &Node) -> Value {
    let values: Vec<_> = node.values().into_iter().flatten().collect();
    let mut below: Vec<_> = node.children().into_iter().flatten().collect();
    below.sort_by(|a, b| natural(a.0, b.0));
    let children: Vec<_> = below
        .into_iter()
        .map(|(name, child)| ast(kinds, &[at, std::slice::from_ref(name)].concat(), name, child))
        .collect();
    let tag = kinds.kind(at) == Some(Kind::Tag);
    json!({"name": name, "data": {"values": values, "comment": null, "tag": tag}, "children": children})
}
