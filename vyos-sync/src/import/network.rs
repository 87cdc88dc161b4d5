//! RouterNetworks: VLAN interfaces with an address, and what hangs on their subnets.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Name, Reader, named, values, words};
use crate::config::Node;

/// Where an imported network is, for publications that refer to it.
pub(super) struct Place {
    pub(super) interface: String,
    pub(super) prefixes: Vec<IpNet>,
    pub(super) name: Name,
}

impl<'a> Reader<'a> {
    /// One RouterNetwork for each VLAN with an address.
    pub(super) fn networks(&mut self) -> (Vec<Value>, Vec<Place>) {
        let (mut found, mut places) = (Vec::new(), Vec::new());
        for (kind, shown) in [("ethernet", "Ethernet"), ("bonding", "Bonding"), ("bridge", "Bridge")] {
            for (parent, node) in self.tree.entries(&["interfaces", kind]) {
                for (vlan, vif) in named(node, "vif") {
                    let at = words(&["interfaces", kind, parent, "vif", vlan]);
                    if let Some((object, place)) = self.network(&at, shown, vif) {
                        found.push(object);
                        places.push(place);
                    }
                }
            }
        }
        (found, places)
    }

    fn network(&mut self, at: &[String], kind: &str, vif: &Node) -> Option<(Value, Place)> {
        let (parent, vlan) = (at.get(2)?.clone(), at.get(4)?.parse::<u16>().ok()?);
        let own = format!("{parent}.{vlan}");
        // The addresses sit on the VLAN interface, or on a bridge that it is the only member of.
        let bridge = match vif.child("address") {
            Some(_) => None,
            None => Some(self.bridge_of(&own)?),
        };
        let (place, holder) = match bridge {
            Some(bridge) => {
                (words(&["interfaces", "bridge", bridge]), self.tree.at(&["interfaces", "bridge", bridge])?)
            }
            None => (at.to_vec(), vif),
        };
        let addresses: Vec<IpNet> = values(holder, "address").filter_map(|a| a.parse().ok()).collect();
        if addresses.is_empty() {
            return None;
        }
        let interface = bridge.map_or(own, str::to_owned);
        let name = self.name("RouterNetwork", holder.text("description"), &format!("{parent}-vlan{vlan}"));
        let mut spec = self.spec();
        spec.insert("vlan".into(), json!(vlan));
        spec.insert("parent".into(), self.parent(kind, &parent, vlan));
        if let Some(bridge) = bridge {
            spec.insert("bridge".into(), json!(bridge));
            self.take(&place, &["member", "interface", &format!("{parent}.{vlan}")]);
        }
        let subnet = |a: &IpNet| json!({"cidr": a.trunc().to_string(), "gateway": a.addr().to_string()});
        spec.insert("subnets".into(), addresses.iter().map(subnet).collect());
        self.plain(&place, at, vif, holder, &name, &mut spec);
        self.services(&interface, &addresses, &mut spec);
        let prefixes = addresses.iter().map(IpNet::trunc).collect();
        let object = self.object("RouterNetwork", &name, spec);
        Some((object, Place { interface, prefixes, name }))
    }

    /// Description and MTU, of the VLAN interface and of a bridge above it.
    fn plain(
        &mut self,
        place: &[String],
        vif_at: &[String],
        vif: &Node,
        holder: &Node,
        name: &Name,
        spec: &mut Map<String, Value>,
    ) {
        if let Some(mtu) = holder.text("mtu").and_then(|m| m.parse::<u16>().ok()) {
            spec.insert("mtu".into(), json!(mtu));
        }
        if let Some(words) = &name.words {
            spec.insert("description".into(), json!(words));
        }
        for leaf in ["description", "mtu"] {
            self.take(place, &[leaf]);
            if vif.text(leaf) == holder.text(leaf) {
                self.take(vif_at, &[leaf]);
            }
        }
        for address in values(holder, "address").filter(|address| address.parse::<IpNet>().is_ok()) {
            let at: Vec<&str> = place.iter().map(String::as_str).chain(["address"]).collect();
            self.take_value(&at, address);
        }
    }

    fn parent(&mut self, kind: &str, name: &str, vlan: u16) -> Value {
        let mut parent = json!({"kind": kind, "name": name});
        if kind != "Bridge" {
            return parent;
        }
        let path = words(&["interfaces", "bridge", name]);
        self.take(&path, &["enable-vlan"]);
        let members = self.tree.at(&path).map(|bridge| {
            let bridge = bridge.at(&["member", "interface"]).and_then(Node::children);
            let allows = |node: &Node| values(node, "allowed-vlan").any(|id| *id == vlan.to_string());
            bridge
                .into_iter()
                .flatten()
                .filter(|(_, node)| allows(node))
                .map(|(name, _)| name.clone())
                .collect()
        });
        let members: Vec<String> = members.unwrap_or_default();
        for member in &members {
            let at = ["interfaces", "bridge", name, "member", "interface", member, "allowed-vlan"];
            self.take_value(&at, &vlan.to_string());
        }
        if !members.is_empty() {
            parent["members"] = json!(members);
        }
        parent
    }

    /// The bridge that this interface is the only member of.
    fn bridge_of(&self, interface: &str) -> Option<&'a str> {
        let mut bridges = self.tree.entries(&["interfaces", "bridge"]);
        let found = bridges.find(|(_, bridge)| {
            let members = bridge.at(&["member", "interface"]).and_then(Node::children);
            members.is_some_and(|members| members.len() == 1 && members.contains_key(interface))
        });
        found.map(|(name, _)| name.as_str())
    }

    fn services(&mut self, interface: &str, addresses: &[IpNet], spec: &mut Map<String, Value>) {
        let prefixes: Vec<IpNet> = addresses.iter().map(IpNet::trunc).collect();
        let found = [
            ("dhcp", self.server4(addresses).or_else(|| self.relay4(interface))),
            ("dhcp6", self.server6(interface, &prefixes).or_else(|| self.relay6(interface))),
            ("routerAdvertisement", self.advertisement(interface, &prefixes)),
            ("snat", self.source_nat(&prefixes)),
            ("nat66", self.source_nat66(&prefixes)),
            ("oneToOne", self.one_to_one(&prefixes)),
            ("dns", self.forwards_dns(addresses).then(|| json!("Forward"))),
        ];
        spec.extend(found.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))));
    }
}
