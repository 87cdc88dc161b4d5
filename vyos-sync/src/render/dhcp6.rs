//! DHCPv6 server. 1.4 names a range by its first address, 1.5 by a name of its own.

use super::numbers::key;
use super::{Block, Dialect, Pen, SpaceId, at, marked, tag_name};
use crate::intent::{Dhcp6, Network, Range, Server6};
use ipnet::Ipv6Net;
use std::net::Ipv6Addr;

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let Some(Dhcp6::Server(server)) = &network.dhcp6 else { return };
    let mut subnets = Vec::new();
    for prefix in network.prefixes6() {
        let ranges: Vec<_> = server.ranges.iter().filter(|range| prefix.contains(&range.start)).collect();
        if ranges.is_empty() {
            continue;
        }
        let Some(block) = subnet(pen, network, server, &ranges, prefix) else { continue };
        subnets.push((prefix, block));
    }
    if subnets.is_empty() {
        return;
    }
    let block = Block::new()
        .leaf("description", marked(&network.owner, network.description.as_deref()))
        .instances("subnet", subnets);
    let path = at("service", &["dhcpv6-server", "shared-network-name", &tag_name(&network.owner)]);
    pen.subtree(&network.object, &network.owner, &path, block);
}

fn subnet(
    pen: &mut Pen<'_>,
    network: &Network,
    server: &Server6,
    ranges: &[&Range<Ipv6Addr>],
    prefix: Ipv6Net,
) -> Option<Block> {
    let lease = Block::new().maybe("default", server.lease).maybe("maximum", server.lease);
    let block = Block::new().block("lease-time", lease);
    Some(match pen.dialect {
        Dialect::V1_4 => {
            let starts = ranges.iter().map(|range| (range.start, Block::new().leaf("stop", range.end)));
            let block = block.block("address-range", Block::new().instances("start", starts));
            options(block, server)
        }
        Dialect::V1_5 => {
            let id = pen.number(&network.object, SpaceId::Dhcp6, &key(&network.owner, &[&prefix]))?;
            let named = ranges.iter().map(|range| {
                (range_name(range), Block::new().leaf("start", range.start).leaf("stop", range.end))
            });
            let block = block.leaf("subnet-id", id).leaf("interface", network.interface());
            block.instances("range", named).block("option", options(Block::new(), server))
        }
    })
}

fn options(block: Block, server: &Server6) -> Block {
    block
        .leaves("name-server", &server.name_servers)
        .leaves("domain-search", server.domain_search.iter().map(|name| name.to_string()))
}

/// A name that stays when other ranges come and go. Colons are not allowed in it.
fn range_name(range: &Range<Ipv6Addr>) -> String {
    range.start.to_string().replace(':', "-")
}
