//! Router advertisements and DNS forwarding of a network.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Reader, named, values, words};
use crate::config::Node;

impl Reader<'_> {
    /// The advertisements of an interface, where they tell of exactly the network's own prefixes.
    pub(super) fn advertisement(&mut self, interface: &str, prefixes: &[IpNet]) -> Option<Value> {
        let at = words(&["service", "router-advert", "interface", interface]);
        let node = self.tree.at(&at)?;
        let told: Vec<(&String, &Node)> = named(node, "prefix").collect();
        let own = |name: &String| name.parse::<IpNet>().is_ok_and(|net| prefixes.contains(&net));
        if told.is_empty() || !told.iter().all(|(name, _)| own(name)) {
            return None;
        }
        let has = |leaf: &str| node.child(leaf).is_some();
        let silent = told.iter().filter(|(_, prefix)| prefix.child("no-autonomous-flag").is_some()).count();
        let addressing = match (has("managed-flag"), has("other-config-flag")) {
            (true, true) if silent == told.len() => "Dhcp",
            (false, true) if silent == 0 => "SlaacWithDhcp",
            (false, false) if silent == 0 => "Slaac",
            // A mixture that no object of ours can say.
            _ => return None,
        };
        let mut advertisement = Map::from_iter([("addressing".to_owned(), json!(addressing))]);
        ["managed-flag", "other-config-flag"].iter().for_each(|leaf| self.take(&at, &[leaf]));
        if let Some(longest) =
            node.at(&["interval", "max"]).and_then(Node::first).and_then(|n| n.parse::<u16>().ok())
        {
            advertisement.insert("intervalSeconds".into(), json!(longest));
            self.take(&at, &["interval", "max"]);
        }
        let servers: Vec<&String> = values(node, "name-server").collect();
        if !servers.is_empty() {
            advertisement.insert("nameServers".into(), json!(servers));
            self.take(&at, &["name-server"]);
        }
        for (prefix, node) in told {
            match node.child("no-autonomous-flag") {
                Some(_) => self.take(&at, &["prefix", prefix, "no-autonomous-flag"]),
                None => self.take(&at, &["prefix", prefix]),
            }
        }
        Some(Value::Object(advertisement))
    }

    /// Whether the forwarder listens on every gateway and lets every prefix in.
    pub(super) fn forwards_dns(&mut self, addresses: &[IpNet]) -> bool {
        let path = ["service", "dns", "forwarding"];
        let Some(forwarding) = self.tree.at(&path) else { return false };
        let has = |leaf: &str, value: &str| values(forwarding, leaf).any(|v| v == value);
        let pairs: Vec<(String, String)> =
            addresses.iter().map(|a| (a.addr().to_string(), a.trunc().to_string())).collect();
        if !pairs.iter().all(|(gateway, prefix)| has("listen-address", gateway) && has("allow-from", prefix))
        {
            return false;
        }
        for (gateway, prefix) in pairs {
            self.take_value(&["service", "dns", "forwarding", "listen-address"], &gateway);
            self.take_value(&["service", "dns", "forwarding", "allow-from"], &prefix);
        }
        true
    }
}
