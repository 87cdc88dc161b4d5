//! Interfaces, and what addresses they hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Found, at, instances};
use crate::config::{ConfigPath, Node, Tree};

/// The interfaces of a configuration and their addresses.
#[derive(Default)]
pub(super) struct Addresses {
    names: BTreeSet<String>,
    all: BTreeSet<IpAddr>,
    broadcast: BTreeSet<IpAddr>,
}

impl Addresses {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut addresses = Self::default();
        for (kind, named) in tree.entries(&["interfaces"]) {
            let broadcast = !matches!(kind.as_str(), "loopback" | "dummy" | "tunnel" | "vti" | "wireguard");
            for (name, node) in named.children().into_iter().flatten() {
                addresses.add(name, node, broadcast);
            }
        }
        addresses
    }

    fn add(&mut self, name: &str, node: &Node, broadcast: bool) {
        for value in node.child("address").and_then(Node::values).into_iter().flatten() {
            let Ok(net) = value.parse::<IpNet>() else { continue };
            self.all.insert(net.addr());
            if broadcast {
                self.broadcast.insert(net.addr());
            }
        }
        for tag in ["vif", "vif-s", "vif-c"] {
            for (vlan, vif) in instances(node, tag) {
                self.add(&format!("{name}.{vlan}"), vif, broadcast);
            }
        }
        self.names.insert(name.to_owned());
    }

    pub(super) fn has_interface(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn holds(&self, address: IpAddr) -> bool {
        self.all.contains(&address)
    }

    /// Whether a broadcast interface has an address in that network.
    pub(super) fn serve(&self, net: IpNet) -> bool {
        self.broadcast.range(net.network()..=net.broadcast()).next().is_some()
    }
}

pub(super) fn check(tree: &Tree, found: &mut Found) {
    for (kind, named) in tree.entries(&["interfaces"]) {
        for (name, node) in named.children().into_iter().flatten() {
            let script = format!("interfaces {kind} {name}");
            let path = at(["interfaces", kind, name]);
            interface(tree, &script, &path, node, found);
            let mtu = node.text("mtu").and_then(|mtu| mtu.parse::<u32>().ok()).unwrap_or(1500);
            for (vlan, vif) in instances(node, "vif") {
                let path = path.descend(["vif", vlan]);
                interface(tree, &script, &path, vif, found);
                if let Some(own) = vif.text("mtu").filter(|own| own.parse::<u32>().is_ok_and(|own| own > mtu))
                {
                    let text = format!(r#"Interface MTU "{own}" too high, parent interface MTU is "{mtu}"!"#);
                    found.add(&script, path, text);
                }
            }
        }
    }
}

fn interface(tree: &Tree, script: &str, path: &ConfigPath, node: &Node, found: &mut Found) {
    if let Some(vrf) = node.text("vrf") {
        let there = at(["vrf", "name", vrf]);
        if tree.at(&there).is_none() {
            found.about(script, path.clone(), format!(r#"VRF "{vrf}" does not exist!"#), there);
        }
    }
}
