//! The smaller services: relays, DNS forwarding, VRRP, VRFs.

use super::{Found, at, instances};
use crate::config::{Node, Tree};

pub(super) fn check(tree: &Tree, found: &mut Found) {
    relays(tree, found);
    if let Some(dns) = tree.at(&["service", "dns", "forwarding"]) {
        let path = || at(["service", "dns", "forwarding"]);
        if dns.child("allow-from").is_none() {
            found.add("service dns forwarding", path(), "DNS forwarding needs an allow-from network");
        }
        if dns.child("listen-address").is_none() {
            found.add("service dns forwarding", path(), "DNS forwarding needs a listen-address");
        }
    }
    for (name, group) in instances(tree.at(&["high-availability", "vrrp"]).unwrap_or(&Node::bare()), "group")
    {
        if group.child("vrid").is_none() {
            let text = format!(r#"VRID is required but not set in VRRP group "{name}""#);
            found.add("high-availability", at(["high-availability", "vrrp", "group", name]), text);
        }
    }
    for (name, vrf) in instances(tree.at(&["vrf"]).unwrap_or(&Node::bare()), "name") {
        if vrf.child("table").is_none() {
            found.add("vrf", at(["vrf", "name", name]), format!(r#"VRF "{name}" table id is mandatory!"#));
        }
    }
}

fn relays(tree: &Tree, found: &mut Found) {
    let enabled = |service| tree.at(&["service", service]).filter(|node| node.child("disable").is_none());
    if enabled("dhcp-relay").is_some_and(|relay| relay.child("server").is_none()) {
        found.add("service dhcp-relay", at(["service", "dhcp-relay"]), "a DHCP relay needs a server");
    }
    if let Some(relay) = enabled("dhcpv6-relay") {
        for side in ["listen-interface", "upstream-interface"] {
            if relay.child(side).is_none() {
                found.add(
                    "service dhcpv6-relay",
                    at(["service", "dhcpv6-relay"]),
                    format!("a DHCPv6 relay needs a {side}"),
                );
            }
        }
    }
}
