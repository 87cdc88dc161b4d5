//! Publications: destination NAT, and hairpin NAT for inside networks that use the public address.

use super::numbers::key;
use super::{Block, Pen, SpaceId, at, marked};
use crate::crd::Protocol;
use crate::intent::{Forward, Publication};
use ipnet::Ipv4Net;

/// One rule of a publication.
pub(super) struct Rule {
    pub(super) space: SpaceId,
    pub(super) key: String,
    block: Block,
}

pub(super) fn render(pen: &mut Pen<'_>, publication: &Publication) {
    let (object, owner) = (&publication.object, &publication.owner);
    for rule in rules(publication) {
        let Some(number) = pen.number(object, rule.space, &rule.key) else { continue };
        let direction = if rule.space == SpaceId::Destination { "destination" } else { "source" };
        pen.subtree(object, owner, &at("nat", &[direction, "rule"]).join(number), rule.block);
    }
}

/// The rules of a publication, with the keys of their numbers.
pub(super) fn rules(publication: &Publication) -> Vec<Rule> {
    let mut rules = Vec::new();
    for forward in &publication.forwards {
        if publication.sources.is_empty() {
            rules.push(outside(publication, forward, None));
        }
        rules.extend(publication.sources.iter().map(|source| outside(publication, forward, Some(*source))));
        for network in &publication.hairpins {
            let key = key(&publication.owner, &[&word(forward), &network.interface]);
            let block = destination(publication, forward, &network.interface);
            rules.push(Rule { space: SpaceId::Destination, key, block });
            rules.extend(
                network.prefixes.iter().map(|prefix| back(publication, forward, &network.interface, *prefix)),
            );
        }
    }
    rules
}

fn outside(publication: &Publication, forward: &Forward, source: Option<Ipv4Net>) -> Rule {
    let from = source.map_or_else(|| "any".to_owned(), |source| source.to_string());
    let block = destination(publication, forward, &publication.interface);
    Rule {
        space: SpaceId::Destination,
        key: key(&publication.owner, &[&word(forward), &from]),
        block: block.block("source", Block::new().maybe("address", source)),
    }
}

fn destination(publication: &Publication, forward: &Forward, inbound: &str) -> Block {
    Block::new()
        .leaf("description", marked(&publication.owner, publication.description.as_deref()))
        .block("inbound-interface", Block::new().leaf("name", inbound))
        .leaf("protocol", protocol(forward))
        .block("destination", Block::new().maybe("address", publication.address).leaf("port", forward.port))
        .block("translation", Block::new().leaf("address", forward.vip).leaf("port", forward.service_port))
}

/// A host on the segment of the Service's nodes would get the answer past the router, and not know it.
fn back(publication: &Publication, forward: &Forward, interface: &str, prefix: Ipv4Net) -> Rule {
    let block = Block::new()
        .leaf("description", marked(&publication.owner, publication.description.as_deref()))
        .block("source", Block::new().leaf("address", prefix))
        .block("destination", Block::new().leaf("address", forward.vip).leaf("port", forward.service_port))
        .leaf("protocol", protocol(forward))
        .block("outbound-interface", Block::new().leaf("name", interface))
        .block("translation", Block::new().leaf("address", "masquerade"));
    Rule { space: SpaceId::Hairpin, key: key(&publication.owner, &[&word(forward), &prefix]), block }
}

fn protocol(forward: &Forward) -> &'static str {
    match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn word(forward: &Forward) -> String {
    format!("{}/{}", protocol(forward), forward.port)
}
