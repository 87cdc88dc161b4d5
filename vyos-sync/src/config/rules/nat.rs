//! Address translation.

use super::interfaces::Addresses;
use super::{Found, at, instances};
use crate::config::{ConfigPath, Dialect, Node, Tree};

const SCRIPT: &str = "nat";

pub(super) fn check(tree: &Tree, _: Dialect, found: &mut Found) {
    if let Some(nat) = tree.at(&["nat"]) {
        for side in [Side::Source, Side::Destination] {
            for (number, rule) in instances(nat.child(side.name()).unwrap_or(&Node::bare()), "rule") {
                check_rule(tree, &side, number, rule, found);
            }
        }
        for (number, rule) in instances(nat.child("static").unwrap_or(&Node::bare()), "rule") {
            let complete = rule.at(&["destination", "address"]).is_some()
                && rule.at(&["translation", "address"]).is_some();
            if !complete || rule.child("inbound-interface").is_none() {
                found.add(
                    SCRIPT,
                    at(["nat", "static", "rule", number]),
                    "Configuration file errors encountered!",
                );
            }
        }
    }
    if let Some(nat66) = tree.at(&["nat66"]) {
        for side in [Side::Source, Side::Destination] {
            for (number, rule) in instances(nat66.child(side.name()).unwrap_or(&Node::bare()), "rule") {
                check_rule66(&side, number, rule, found);
            }
        }
    }
}

enum Side {
    Source,
    Destination,
}

impl Side {
    const fn name(&self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::Source => "Source",
            Self::Destination => "Destination",
        }
    }

    const fn interface(&self) -> &'static str {
        match self {
            Self::Source => "outbound-interface",
            Self::Destination => "inbound-interface",
        }
    }

    fn path(&self, number: &str) -> ConfigPath {
        at(["nat", self.name(), "rule", number])
    }
}

fn check_rule(tree: &Tree, side: &Side, number: &str, rule: &Node, found: &mut Found) {
    let begin = format!("{} NAT configuration error in rule {number}:", side.title());
    let ports = [&["source", "port"][..], &["destination", "port"], &["translation", "port"]];
    if ports.iter().any(|port| rule.at(port).is_some()) && !takes_ports(rule) {
        let text =
            format!("{begin} ports can only be specified when protocol is either tcp, udp or tcp_udp!");
        found.add(SCRIPT, side.path(number), text);
    }
    groups(tree, side, number, rule, found);
    let ways = [
        &["translation", "address"][..],
        &["translation", "port"],
        &["translation", "redirect"],
        &["load-balance", "backend"],
    ];
    if rule.child("exclude").is_none() && !ways.iter().any(|way| rule.at(way).is_some()) {
        found.add(SCRIPT, side.path(number), format!("{begin} translation requires address and/or port"));
    }
}

fn takes_ports(rule: &Node) -> bool {
    matches!(rule.text("protocol"), Some("tcp" | "udp" | "tcp_udp"))
}

fn groups(tree: &Tree, side: &Side, number: &str, rule: &Node, found: &mut Found) {
    if let Some(group) = rule.at(&[side.interface(), "group"]).and_then(Node::first) {
        let name = group.trim_start_matches('!');
        let there = at(["firewall", "group", "interface-group", name]);
        if tree.at(&there).is_none() {
            let text = format!(r#"Invalid interface group "{group}" on {} nat rule"#, side.name());
            found.about(SCRIPT, side.path(number), text, there);
        }
    }
    for end in ["source", "destination"] {
        for (kind, group) in rule.at(&[end, "group"]).and_then(Node::children).into_iter().flatten() {
            let Some(name) = group.first().map(|name| name.trim_start_matches('!')) else { continue };
            let there = at(["firewall", "group", kind, name]);
            if tree.at(&there).is_none() {
                found.about(
                    SCRIPT,
                    side.path(number),
                    format!(r#"Invalid {kind} "{name}" on nat rule"#),
                    there,
                );
            }
        }
    }
}

fn check_rule66(side: &Side, number: &str, rule: &Node, found: &mut Found) {
    let path = || at(["nat66", side.name(), "rule", number]);
    let begin = format!("{} NAT66 configuration error in rule {number}:", side.title());
    if rule.child("exclude").is_none() && rule.at(&["translation", "address"]).is_none() {
        found.add("nat66", path(), format!("{begin} a translation address is needed"));
    }
    if rule.at(&[side.interface(), "name"]).is_none() {
        found.add("nat66", path(), format!("{begin} the {} is needed", side.interface()));
    }
}

pub(super) fn warn(tree: &Tree, addresses: &Addresses, found: &mut Found) {
    let Some(nat) = tree.at(&["nat"]) else { return };
    for side in [Side::Source, Side::Destination] {
        for (number, rule) in instances(nat.child(side.name()).unwrap_or(&Node::bare()), "rule") {
            let name = rule.at(&[side.interface(), "name"]).and_then(Node::first);
            if let Some(name) =
                name.filter(|name| !name.contains(['*', '!', '+']) && !addresses.has_interface(name))
            {
                let text =
                    format!(r#"Interface "{name}" for {} NAT rule "{number}" does not exist!"#, side.name());
                found.add(SCRIPT, side.path(number), text);
            }
            if let Side::Source = side {
                let address = rule.at(&["translation", "address"]).and_then(Node::first);
                if let Some(address) =
                    address.filter(|text| text.parse().is_ok_and(|ip| !addresses.holds(ip)))
                {
                    found.add(
                        SCRIPT,
                        side.path(number),
                        format!("IP address {address} does not exist on the system!"),
                    );
                }
            }
        }
    }
}
