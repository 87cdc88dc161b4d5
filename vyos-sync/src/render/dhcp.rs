//! DHCPv4 server. 1.4 has the options directly in the subnet, 1.5 has a `subnet-id` and an `option` node.

use super::numbers::key;
use super::{Block, Dialect, Pen, SpaceId, at, marked, tag_name};
use crate::intent::{Dhcp4, Network, Range, Reservation, Server4};
use ipnet::Ipv4Net;
use std::net::{IpAddr, Ipv4Addr};

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let Some(Dhcp4::Server(server)) = &network.dhcp else { return };
    if pen.dialect == Dialect::V1_4 {
        server.reservations.iter().for_each(|each| note_boot(pen, each));
    }
    let mut subnets = Vec::new();
    for prefix in network.prefixes4() {
        let inside = Inside::of(server, prefix);
        // VyOS refuses a subnet with nothing to hand out.
        if inside.ranges.is_empty() && inside.reservations.is_empty() {
            continue;
        }
        let id = match pen.dialect {
            Dialect::V1_4 => None,
            Dialect::V1_5 => {
                match pen.number(&network.object, SpaceId::Dhcp4, &key(&network.owner, &[&prefix])) {
                    Some(id) => Some(id),
                    None => continue,
                }
            }
        };
        subnets.push((prefix, subnet(pen.dialect, network, server, &inside, prefix, id)));
    }
    if subnets.is_empty() {
        return;
    }
    let block = Block::new()
        .flag("authoritative")
        .leaf("description", marked(&network.owner, network.description.as_deref()))
        .instances("subnet", subnets);
    let path = at("service", &["dhcp-server", "shared-network-name", &tag_name(&network.owner)]);
    pen.subtree(&network.object, &network.owner, &path, block);
}

/// What of a server falls into one subnet.
struct Inside<'a> {
    ranges: Vec<&'a Range<Ipv4Addr>>,
    reservations: Vec<&'a Reservation>,
    exclude: Vec<Ipv4Addr>,
}

impl<'a> Inside<'a> {
    fn of(server: &'a Server4, prefix: Ipv4Net) -> Self {
        Self {
            ranges: server.ranges.iter().filter(|range| prefix.contains(&range.start)).collect(),
            reservations: server.reservations.iter().filter(|each| prefix.contains(&each.ip)).collect(),
            exclude: server.exclude.iter().filter(|ip| prefix.contains(*ip)).copied().collect(),
        }
    }
}

fn subnet(
    dialect: Dialect,
    network: &Network,
    server: &Server4,
    inside: &Inside<'_>,
    prefix: Ipv4Net,
    id: Option<u32>,
) -> Block {
    let ranges = inside
        .ranges
        .iter()
        .map(|range| (range.start, Block::new().leaf("start", range.start).leaf("stop", range.end)));
    let reservations = inside.reservations.iter().map(|each| (each.name.to_string(), mapping(dialect, each)));
    let block = Block::new()
        .maybe("subnet-id", id)
        .maybe("lease", server.lease)
        .leaves("exclude", &inside.exclude)
        .instances("range", ranges)
        .instances("static-mapping", reservations);
    match dialect {
        Dialect::V1_4 => block.with(|block| options(block, network, server, prefix)),
        Dialect::V1_5 => block.block("option", options(Block::new(), network, server, prefix)),
    }
}

fn options(block: Block, network: &Network, server: &Server4, prefix: Ipv4Net) -> Block {
    let gateway = network.subnets.iter().find_map(|subnet| match subnet.gateway {
        IpAddr::V4(ip) => prefix.contains(&ip).then_some(ip),
        IpAddr::V6(_) => None,
    });
    block
        .maybe("default-router", gateway)
        .leaves("name-server", &server.name_servers)
        .maybe("domain-name", server.domain.as_deref())
        .leaves("domain-search", server.domain_search.iter().map(|name| name.to_string()))
        .leaves("ntp-server", &server.ntp_servers)
        .maybe("bootfile-name", server.bootfile_name.as_deref())
        .maybe("bootfile-server", server.bootfile_server.as_deref())
        .maybe("tftp-server-name", server.tftp_server.as_deref())
}

/// 1.4 has options of a subnet only, so a machine cannot have its own.
fn note_boot(pen: &mut Pen<'_>, each: &Reservation) {
    let file = each.bootfile_name.as_ref().map(|name| format!("boot file {name}"));
    let server = each.tftp_server.as_ref().map(|name| format!("TFTP server {name}"));
    let asked: Vec<_> = file.into_iter().chain(server).collect();
    if !asked.is_empty() {
        let what = format!("VyOS 1.4 has no {} of one machine ({})", asked.join(" and "), each.mac);
        let way_out = "it is left out: set spec.dhcp.server.pxe of the RouterNetwork, or use VyOS 1.5";
        pen.note(&each.source, "network boot", what, way_out);
    }
}

fn mapping(dialect: Dialect, each: &Reservation) -> Block {
    let block = Block::new().leaf("ip-address", each.ip);
    match dialect {
        Dialect::V1_4 => block.leaf("mac-address", &each.mac),
        Dialect::V1_5 => {
            let option = Block::new()
                .maybe("bootfile-name", each.bootfile_name.as_deref())
                .maybe("tftp-server-name", each.tftp_server.as_deref());
            block.leaf("mac", &each.mac).block("option", option)
        }
    }
}
