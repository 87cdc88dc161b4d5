//! VLAN interfaces: on ethernet and bonding, on a VLAN-aware bridge, or as a member of a bridge.

use super::{Block, Pen, at, marked};
use crate::crd::ParentKind;
use crate::intent::Network;
use ipnet::IpNet;

pub(super) fn render(pen: &mut Pen<'_>, network: &Network) {
    let (object, owner) = (&network.object, &network.owner);
    let kind = match network.parent.kind {
        ParentKind::Ethernet => "ethernet",
        ParentKind::Bonding => "bonding",
        ParentKind::Bridge => "bridge",
    };
    let vlan = network.vlan.to_string();
    let vif = at("interfaces", &[kind, &network.parent.name, "vif", &vlan]);
    let mark = marked(owner, network.description.as_deref());
    let plain = Block::new().leaf("description", &mark).maybe("mtu", network.mtu);
    match &network.bridge {
        None => pen.subtree(object, owner, &vif, plain.leaves("address", addresses(network))),
        Some(bridge) => {
            pen.subtree(object, owner, &vif, plain);
            let member = [(network.parent.name.vif(network.vlan), Block::new())];
            let block = Block::new()
                .leaf("description", &mark)
                .maybe("mtu", network.mtu)
                .leaves("address", addresses(network))
                .block("member", Block::new().instances("interface", member));
            pen.subtree(object, owner, &at("interfaces", &["bridge", bridge]), block);
        }
    }
    if network.parent.kind == ParentKind::Bridge {
        let bridge = at("interfaces", &["bridge", &network.parent.name]);
        pen.flag(object, owner, &bridge.join("enable-vlan"));
        for member in &network.parent.members {
            let allowed = bridge.descend(["member", "interface", member, "allowed-vlan"]);
            pen.member(object, owner, &allowed, &vlan);
        }
    }
}

/// The router's addresses with the lengths of their subnets.
fn addresses(network: &Network) -> Vec<String> {
    let subnets = network.subnets.iter();
    let nets = subnets.filter_map(|subnet| IpNet::new(subnet.gateway, subnet.prefix.prefix_len()).ok());
    nets.map(|net| net.to_string()).collect()
}
