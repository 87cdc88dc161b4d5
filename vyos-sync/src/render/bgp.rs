//! BGP peers, peer-groups and listen ranges.

use super::policy::{export_of, import_of};
use super::{Block, Pen, at, bfd, marked, tag_name};
use crate::inputs::ObjectId;
use crate::intent::{Bgp, Peer, PeerGroup, Policy, Session, State};
use crate::plan::Owner;
use std::net::IpAddr;

pub(super) fn render(pen: &mut Pen<'_>, bgp: &Bgp, router: &Owner, object: &ObjectId) {
    let root = at("protocols", &["bgp"]);
    pen.leaf(object, router, &root.join("system-as"), bgp.asn);
    if let Some(id) = bgp.router_id {
        pen.leaf(object, router, &root.descend(["parameters", "router-id"]), id);
    }
    if let Some(paths) = bgp.maximum_paths {
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            for kind in ["ebgp", "ibgp"] {
                let path = root.descend(["address-family", family, "maximum-paths", kind]);
                pen.leaf(object, router, &path, paths);
            }
        }
    }
    if let Some(limit) = bgp.listen_limit {
        pen.leaf(object, router, &root.descend(["listen", "limit"]), limit);
    }
    for peer in &bgp.peers {
        let path = root.join("neighbor").join(peer.address);
        pen.subtree(&peer.object, &peer.owner, &path, neighbor(bgp, peer));
    }
    for group in &bgp.groups {
        render_group(pen, bgp, group, object);
    }
}

fn neighbor(bgp: &Bgp, peer: &Peer) -> Block {
    let timers = peer.timers.map_or_else(Block::new, |timers| {
        Block::new().leaf("holdtime", timers.hold).leaf("keepalive", timers.keepalive)
    });
    // IPv4 routes over an IPv6 session have IPv6 next hops (RFC 8950).
    let foreign_hop = peer.address.is_ipv6() && peer.session.ipv4;
    session(bgp, &peer.session, peer.state)
        .leaf("description", marked(&peer.owner, Some(&peer.description)))
        .flag_if(peer.passive, "passive")
        .flag_if(peer.state == State::ShutDown, "shutdown")
        .block("timers", timers)
        .block("capability", Block::new().flag_if(foreign_hop, "extended-nexthop"))
}

fn render_group(pen: &mut Pen<'_>, bgp: &Bgp, group: &PeerGroup, object: &ObjectId) {
    let name = tag_name(&group.owner);
    let six = group.ranges.iter().any(|range| matches!(range.addr(), IpAddr::V6(_))) && group.session.ipv4;
    let block = session(bgp, &group.session, group.state)
        .leaf("description", marked(&group.owner, None))
        .block("capability", Block::new().flag_if(six, "extended-nexthop"));
    pen.subtree(object, &group.owner, &at("protocols", &["bgp", "peer-group", &name]), block);
    for range in &group.ranges {
        let path = at("protocols", &["bgp", "listen", "range"]).join(range);
        pen.subtree(object, &group.owner, &path, Block::new().leaf("peer-group", &name));
    }
}

/// What peers and groups have in common. The password is shown here and nowhere else.
fn session(bgp: &Bgp, session: &Session, state: State) -> Block {
    let policy = bgp.policies.iter().find(|policy| policy.owner == session.policy);
    let profile = policy.filter(|policy| policy.bfd.is_some()).map(|policy| bfd::profile_of(&policy.owner));
    let default = |v4: bool| policy.is_some_and(|policy| originates(policy, v4));
    let families = Block::new()
        .with(|block| {
            if session.ipv4 {
                block.block("ipv4-unicast", family(session, state, default(true)))
            } else {
                block
            }
        })
        .with(|block| {
            if session.ipv6 {
                block.block("ipv6-unicast", family(session, state, default(false)))
            } else {
                block
            }
        });
    Block::new()
        .leaf("remote-as", session.asn)
        .maybe("password", session.password.as_ref().map(|password| password.reveal()))
        .maybe("ebgp-multihop", session.multihop)
        .block("bfd", Block::new().maybe("profile", profile))
        .block("address-family", families)
}

fn originates(policy: &Policy, v4: bool) -> bool {
    if v4 { policy.export.default4 } else { policy.export.default6 }
}

fn family(session: &Session, state: State, default: bool) -> Block {
    let maps = Block::new()
        .leaf("import", import_of(&session.policy, state))
        .leaf("export", export_of(&session.policy));
    Block::new()
        .leaf("maximum-prefix", session.max_prefixes)
        .block("route-map", maps)
        .flag_if(default, "default-originate")
}
