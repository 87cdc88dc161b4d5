//! From intent to the desired tree of the router. Pure; one file a noun, and one [`Dialect`] for what differs.
//!
//! Only DHCP differs materially between 1.4 (ISC dhcpd) and 1.5 (Kea): see `dhcp.rs` and `dhcp6.rs`.

mod bfd;
mod bgp;
mod block;
mod dhcp;
mod dhcp6;
mod dns;
mod nat;
mod nat66;
mod numbers;
mod policy;
mod publication;
mod relay;
mod router_advert;
mod vlan;
mod wishes;

pub use crate::config::Dialect;
pub use numbers::{Allocations, SpaceId};
pub use wishes::wishes;

use crate::checksum::checksum;
use crate::config::{ConfigPath, Node};
use crate::inputs::{Kind, ObjectId};
use crate::intent::{Effect, Intent, Problem, Raw};
use crate::plan::{Contested, Desired, Owner};
use block::{Block, at};

/// The desired tree, and what could not be put into it.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The tree with its owners.
    pub desired: Desired,
    /// Objects that want the same piece of configuration, or got no number.
    pub problems: Vec<Problem>,
}

/// The desired tree of an intent.
///
/// `numbers` holds a number for each of [`wishes`]; what got none is left out and named.
#[must_use]
pub fn render(intent: &Intent, dialect: Dialect, numbers: &Allocations) -> Rendered {
    let mut pen = Pen { desired: Desired::new(), problems: Vec::new(), dialect, numbers };
    for network in &intent.networks {
        vlan::render(&mut pen, network);
        dhcp::render(&mut pen, network);
        dhcp6::render(&mut pen, network);
        relay::render(&mut pen, network);
        router_advert::render(&mut pen, network);
        nat::render(&mut pen, network);
        nat66::render(&mut pen, network);
        dns::forwarding(&mut pen, network);
    }
    for publication in &intent.publications {
        publication::render(&mut pen, publication);
        dns::hosts(&mut pen, publication);
    }
    if let Some(bgp) = &intent.bgp {
        let object = router_object(intent);
        policy::render(&mut pen, bgp, &object);
        bfd::render(&mut pen, bgp, &object);
        bgp::render(&mut pen, bgp, &intent.router, &object);
    }
    for raw in &intent.raw {
        render_raw(&mut pen, raw);
    }
    pen.problems.sort();
    pen.problems.dedup();
    Rendered { desired: pen.desired, problems: pen.problems }
}

fn router_object(intent: &Intent) -> ObjectId {
    let cluster = crate::inputs::ClusterName::local();
    ObjectId { kind: Kind::Router, cluster, namespace: None, name: intent.router.name.clone() }
}

fn render_raw(pen: &mut Pen<'_>, raw: &Raw) {
    let mut tree = crate::config::Tree::new();
    for (nth, setting) in raw.set.iter().enumerate() {
        let path = raw.subtree.descend(setting.path.iter().cloned());
        let placed = match &setting.value {
            Some(value) => tree.add(&path, value),
            None => tree.set_flag(&path),
        };
        if let Err(error) = placed {
            pen.problem(
                &raw.object,
                &format!("spec.set[{nth}]"),
                error.to_string(),
                "correct the path or the value",
            );
            return;
        }
    }
    let node = tree.at(&raw.subtree).cloned().unwrap_or_else(Node::bare);
    pen.subtree(&raw.object, &raw.owner, &raw.subtree, node);
}

/// Writes into the desired tree, and keeps what could not be written.
struct Pen<'a> {
    desired: Desired,
    problems: Vec<Problem>,
    dialect: Dialect,
    numbers: &'a Allocations,
}

impl Pen<'_> {
    fn subtree(&mut self, object: &ObjectId, owner: &Owner, path: &ConfigPath, node: impl Into<Node>) {
        let result = self.desired.subtree(owner, path, node.into());
        self.contested(object, result);
    }

    fn flag(&mut self, object: &ObjectId, owner: &Owner, path: &ConfigPath) {
        let result = self.desired.flag(owner, path);
        self.contested(object, result);
    }

    fn leaf(&mut self, object: &ObjectId, owner: &Owner, path: &ConfigPath, value: impl ToString) {
        let result = self.desired.leaf(owner, path, value.to_string());
        self.contested(object, result);
    }

    fn member(&mut self, object: &ObjectId, owner: &Owner, path: &ConfigPath, value: impl ToString) {
        let result = self.desired.member(owner, path, value.to_string());
        self.contested(object, result);
    }

    /// The number that was given for a key.
    fn number(&mut self, object: &ObjectId, space: SpaceId, key: &str) -> Option<u32> {
        let number = self.numbers.get(space, key);
        if number.is_none() {
            let what = format!("no {space} is free for it");
            self.problem(object, "spec", what, "widen ruleRanges of the Router");
        }
        number
    }

    fn contested(&mut self, object: &ObjectId, result: Result<(), Contested>) {
        if let Err(error) = result {
            let what = format!("{} is claimed by {} already", error.path, error.holder);
            self.problem(object, "spec", what, "remove it from one of them");
        }
    }

    fn problem(&mut self, object: &ObjectId, field: &str, what: String, way_out: &str) {
        self.say(object, field, what, way_out, Effect::Refused);
    }

    /// Something that this release cannot express, on the object that asks for it. The rest of it is rendered.
    fn note(&mut self, object: &ObjectId, field: &str, what: String, way_out: &str) {
        self.say(object, field, what, way_out, Effect::Noted);
    }

    fn say(&mut self, object: &ObjectId, field: &str, what: String, way_out: &str, effect: Effect) {
        let (object, field, way_out) = (object.clone(), field.to_owned(), way_out.to_owned());
        self.problems.push(Problem { object, field, what, way_out, effect });
    }
}

/// The description that marks a node as ours, with words for people after the mark.
fn marked(owner: &Owner, words: Option<&str>) -> String {
    match words {
        Some(words) => format!("{} {words}", owner.mark()),
        None => owner.mark().to_string(),
    }
}

/// A name for tag nodes that is different for different owners: letters, digits, hyphens and underscores.
///
/// Kubernetes names hold no underscore, so `vs_NAMESPACE_NAME` is read in one way only. Cilium's objects, whose
/// owners have a cluster in place of a namespace, get `vs__CLUSTER_NAME`.
fn tag_name(owner: &Owner) -> String {
    let foreign = owner.kind.starts_with("Cilium");
    let gap = if foreign || owner.namespace.is_none() { "__" } else { "_" };
    let scope = owner.namespace.as_deref().unwrap_or("local");
    format!("vs{gap}{scope}_{}", owner.name).replace('.', "_")
}

/// The name cut to a length, told apart by a checksum where it had to be cut.
fn short_name(name: &str, length: usize) -> String {
    if name.len() <= length {
        return name.to_owned();
    }
    let checksum = checksum(name.as_bytes());
    let kept: String = name.chars().take(length.saturating_sub(9)).collect();
    format!("{kept}-{checksum:08x}")
}
