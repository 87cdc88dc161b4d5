//! Source NAT for IPv6: prefix translation (RFC 6296) or masquerade.

use super::numbers::key;
use super::{Block, Pen, SpaceId, at, marked};
use crate::intent::Network;

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let Some(nat) = &network.nat66 else { return };
    let (object, owner) = (&network.object, &network.owner);
    for prefix in network.prefixes6() {
        let Some(number) = pen.number(object, SpaceId::Nat66, &key(owner, &[&prefix])) else { continue };
        let address = nat.prefix.map_or_else(|| "masquerade".to_owned(), |net| net.to_string());
        let block = Block::new()
            .leaf("description", marked(owner, network.description.as_deref()))
            .block("source", Block::new().leaf("prefix", prefix))
            .block("outbound-interface", Block::new().leaf("name", &nat.outbound))
            .block("translation", Block::new().leaf("address", address));
        pen.subtree(object, owner, &at("nat66", &["source", "rule"]).join(number), block);
    }
}
