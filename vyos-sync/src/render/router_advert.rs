//! Router advertisements.

use super::{Block, Pen, at};
use crate::crd::V6Addressing;
use crate::intent::Network;

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let Some(advertisement) = &network.advertisement else { return };
    let addressing = advertisement.addressing;
    let prefixes = network
        .prefixes6()
        .map(|prefix| (prefix, Block::new().flag_if(addressing == V6Addressing::Dhcp, "no-autonomous-flag")));
    let block = Block::new()
        .flag_if(addressing == V6Addressing::Dhcp, "managed-flag")
        .flag_if(addressing != V6Addressing::Slaac, "other-config-flag")
        .block("interval", Block::new().maybe("max", advertisement.interval))
        .leaves("name-server", &advertisement.name_servers)
        .instances("prefix", prefixes);
    let path = at("service", &["router-advert", "interface", &network.interface()]);
    pen.subtree(&network.object, &network.owner, &path, block);
}
