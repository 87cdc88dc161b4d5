//! Source NAT of networks, and one-to-one NAT.

use super::numbers::key;
use super::{Block, Pen, SpaceId, at, marked};
use crate::intent::Network;

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let (object, owner) = (&network.object, &network.owner);
    let mark = marked(owner, network.description.as_deref());
    if let Some(snat) = &network.snat {
        let outbound = || Block::new().leaf("name", &snat.outbound);
        for prefix in network.prefixes4() {
            let source = || Block::new().leaf("address", prefix);
            for excluded in &snat.exclude {
                let block = Block::new()
                    .leaf("description", &mark)
                    .block("source", source())
                    .block("destination", Block::new().leaf("address", excluded))
                    .block("outbound-interface", outbound())
                    .flag("exclude");
                rule(pen, network, SpaceId::Exclude, &key(owner, &[&prefix, excluded]), block);
            }
            let address = snat.address.map_or_else(|| "masquerade".to_owned(), |ip| ip.to_string());
            let block = Block::new()
                .leaf("description", &mark)
                .block("source", source())
                .block("outbound-interface", outbound())
                .block("translation", Block::new().leaf("address", address));
            rule(pen, network, SpaceId::Source, &key(owner, &[&prefix]), block);
        }
    }
    for each in &network.one_to_one {
        let Some(number) = pen.number(object, SpaceId::OneToOne, &key(owner, &[&each.external])) else {
            continue;
        };
        let block = Block::new()
            .leaf("description", &mark)
            .block("destination", Block::new().leaf("address", each.external))
            .leaf("inbound-interface", &each.inbound)
            .block("translation", Block::new().leaf("address", each.internal));
        pen.subtree(object, owner, &at("nat", &["static", "rule"]).join(number), block);
    }
}

fn rule(pen: &mut Pen<'_>, network: &Network, space: SpaceId, key: &str, block: Block) {
    if let Some(number) = pen.number(&network.object, space, key) {
        pen.subtree(&network.object, &network.owner, &at("nat", &["source", "rule"]).join(number), block);
    }
}
