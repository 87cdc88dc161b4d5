//! NAT as nftables rules. As on the real router the table is deleted and made anew in one transaction, so any change
//! sets all counters back.

use std::fmt::Write as _;

use vyos_sync::config::print::natural;
use vyos_sync::config::{Node, Tree};

/// The whole `ip` table.
pub(super) fn ipv4(tree: &Tree) -> String {
    table("ip", tree, "nat")
}

/// The whole `ip6` table.
pub(super) fn ipv6(tree: &Tree) -> String {
    table("ip6", tree, "nat66")
}

fn table(family: &str, tree: &Tree, root: &str) -> String {
    let mut text = format!("add table {family} vyos_nat\ndelete table {family} vyos_nat\n");
    if tree.at(&[root]).is_none() {
        return text;
    }
    let lines = |kind: &str, line: &dyn Fn(&str, &Node) -> Option<String>| -> String {
        let mut rules: Vec<_> = tree.entries(&[root, kind, "rule"]).collect();
        rules.sort_by(|a, b| natural(a.0, b.0));
        let live = rules.into_iter().filter(|(_, rule)| rule.child("disable").is_none());
        live.filter_map(|(number, rule)| line(number, rule)).map(|line| format!("    {line}\n")).collect()
    };
    let writer = Writer { family, tree };
    let before = lines("static", &|n, rule| writer.fixed(n, rule, Side::Destination))
        + &lines("destination", &|n, rule| writer.rule(n, rule, Side::Destination));
    let after = lines("static", &|n, rule| writer.fixed(n, rule, Side::Source))
        + &lines("source", &|n, rule| writer.rule(n, rule, Side::Source));
    let _ = write!(
        text,
        "table {family} vyos_nat {{\n  chain PREROUTING {{\n    type nat hook prerouting priority -100; policy accept;\n\
         {before}  }}\n  chain POSTROUTING {{\n    type nat hook postrouting priority 100; policy accept;\n{after}  }}\n}}\n"
    );
    text
}

struct Writer<'a> {
    family: &'a str,
    tree: &'a Tree,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

impl Side {
    fn interface(self) -> (&'static str, &'static str) {
        match self {
            Self::Source => ("outbound-interface", "oifname"),
            Self::Destination => ("inbound-interface", "iifname"),
        }
    }
}

impl Writer<'_> {
    fn rule(&self, number: &str, rule: &Node, side: Side) -> Option<String> {
        let mut words = Vec::new();
        words.extend(self.interface(rule, side));
        words.extend(self.protocol(rule));
        for (end, address, port) in [("source", "saddr", "sport"), ("destination", "daddr", "dport")] {
            if let Some(node) = rule.child(end) {
                words.extend(self.address(node, address));
                words.extend(node.text("port").map(|ports| format!("th {port} {}", ports_of(ports))));
            }
        }
        words.push("counter".to_owned());
        words.push(self.action(rule, side)?);
        let label = if side == Side::Source { "SRC" } else { "DST" };
        words.push(format!("comment \"{label}-NAT-{number}\""));
        Some(words.join(" "))
    }

    /// A static rule is a destination rule and its mirror.
    fn fixed(&self, number: &str, rule: &Node, side: Side) -> Option<String> {
        let outside = rule.at(&["destination", "address"])?.first()?;
        let inside = rule.at(&["translation", "address"])?.first()?;
        let interface = rule.text("inbound-interface").filter(|name| *name != "any");
        let interface =
            interface.map(|name| format!("{} \"{name}\" ", side.interface().1)).unwrap_or_default();
        let (field, from, verb, to) = match side {
            Side::Destination => ("daddr", outside, "dnat", inside),
            Side::Source => ("saddr", inside, "snat", outside),
        };
        let family = self.family;
        let action = if from.contains('/') {
            format!("{verb} {family} prefix to {family} {field} map {{ {from} : {to} }}")
        } else {
            format!("{verb} to {to}")
        };
        Some(format!("{interface}{family} {field} {from} counter {action} comment \"STATIC-NAT-{number}\""))
    }

    fn interface(&self, rule: &Node, side: Side) -> Option<String> {
        let (node, word) = side.interface();
        let node = rule.child(node)?;
        if let Some(name) = node.text("name") {
            return (name != "any").then(|| format!("{word} {}", quoted(name)));
        }
        let group = node.text("group")?;
        let members = self.group("interface-group", group.trim_start_matches('!'), "interface");
        let members: Vec<_> = members.iter().map(|name| format!("\"{name}\"")).collect();
        let not = if group.starts_with('!') { "!= " } else { "" };
        Some(format!("{word} {not}{{ {} }}", members.join(", ")))
    }

    fn protocol(&self, rule: &Node) -> Option<String> {
        match rule.text("protocol")? {
            "all" => None,
            "tcp_udp" => Some("meta l4proto { tcp, udp }".to_owned()),
            other => Some(format!("meta l4proto {}", negated(other))),
        }
    }

    fn address(&self, node: &Node, field: &str) -> Option<String> {
        let family = self.family;
        if let Some(address) = node.text("address").or_else(|| node.text("prefix")) {
            return Some(format!("{family} {field} {}", negated(address)));
        }
        let group = node.child("group")?;
        let (kind, leaf) = [("address-group", "address"), ("network-group", "network")]
            .into_iter()
            .find(|(kind, _)| group.text(kind).is_some())?;
        let members = self.group(kind, group.text(kind)?, leaf);
        Some(format!("{family} {field} {{ {} }}", members.join(", ")))
    }

    fn group(&self, kind: &str, name: &str, leaf: &str) -> Vec<String> {
        let values = self.tree.at(&["firewall", "group", kind, name, leaf]).and_then(Node::values);
        values.into_iter().flatten().cloned().collect()
    }

    fn action(&self, rule: &Node, side: Side) -> Option<String> {
        if rule.child("exclude").is_some() {
            return Some("return".to_owned());
        }
        let translation = rule.child("translation")?;
        if let Some(port) = translation.at(&["redirect", "port"]).and_then(Node::first) {
            return Some(format!("redirect to :{port}"));
        }
        let port = translation.text("port").map(|port| format!(":{port}")).unwrap_or_default();
        let address = translation.text("address");
        Some(match (side, address) {
            (Side::Source, Some("masquerade")) if port.is_empty() => "masquerade".to_owned(),
            (Side::Source, Some("masquerade")) => format!("masquerade to {port}"),
            (Side::Source, Some(address)) => self.verb("snat", address, &self.to(rule, side, address, &port)),
            (Side::Destination, Some(address)) => {
                self.verb("dnat", address, &self.to(rule, side, address, &port))
            }
            (Side::Destination, None) => format!("redirect to {port}"),
            (Side::Source, None) => format!("masquerade to {port}"),
        })
    }

    fn verb(&self, verb: &str, address: &str, to: &str) -> String {
        if address.contains('/') {
            format!("{verb} {} prefix to {to}", self.family)
        } else {
            format!("{verb} to {to}")
        }
    }

    /// A prefix maps the prefix that the rule matches on; anything else is one address or a range.
    fn to(&self, rule: &Node, side: Side, address: &str, port: &str) -> String {
        let family = self.family;
        let (end, field) = match side {
            Side::Source => ("source", "saddr"),
            Side::Destination => ("destination", "daddr"),
        };
        let matched = rule.child(end).and_then(|node| node.text("prefix").or_else(|| node.text("address")));
        if let (true, Some(matched)) = (address.contains('/'), matched) {
            return format!("{family} {field} map {{ {matched} : {address} }}");
        }
        let bracketed = family == "ip6" && !port.is_empty();
        if bracketed { format!("[{address}]{port}") } else { format!("{address}{port}") }
    }
}

fn quoted(name: &str) -> String {
    match name.strip_prefix('!') {
        Some(name) => format!("!= \"{name}\""),
        None => format!("\"{name}\""),
    }
}

fn negated(value: &str) -> String {
    value.strip_prefix('!').map_or_else(|| value.to_owned(), |value| format!("!= {value}"))
}

fn ports_of(ports: &str) -> String {
    match ports.strip_prefix('!') {
        Some(ports) => format!("!= {{ {ports} }}"),
        None => format!("{{ {ports} }}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyos_sync::config::parse;

    fn rules(text: &str) -> String {
        let text = ipv4(&parse::boot(text).unwrap().tree);
        text.lines()
            .filter(|line| line.contains("comment"))
            .map(|line| format!("{}\n", line.trim()))
            .collect()
    }

    #[test]
    fn hairpin_masquerade_and_publication() {
        let text = "nat {
            destination { rule 10 { destination { address 203.0.113.1
                        port 443 }
                    inbound-interface { name eth0 }
                    protocol tcp
                    translation { address 10.0.0.5
                        port 8443 } } }
            source { rule 100 { outbound-interface { name eth0 }
                    source { address 10.0.0.0/24 }
                    translation { address masquerade } } }
        }";
        assert_eq!(
            rules(text),
            "iifname \"eth0\" meta l4proto tcp ip daddr 203.0.113.1 th dport { 443 } counter dnat to 10.0.0.5:8443 comment \"DST-NAT-10\"\n\
             oifname \"eth0\" ip saddr 10.0.0.0/24 counter masquerade comment \"SRC-NAT-100\"\n"
        );
    }

    #[test]
    fn a_prefix_is_mapped_to_a_prefix() {
        let text = "nat66 { source { rule 10 { outbound-interface { name eth1 }
                    source { prefix fd00:10::/64 }
                    translation { address fd00:20::/64 } } } }";
        let text = ipv6(&parse::boot(text).unwrap().tree);
        let wanted =
            "snat ip6 prefix to ip6 saddr map { fd00:10::/64 : fd00:20::/64 } comment \"SRC-NAT-10\"";
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn a_disabled_rule_is_left_out_and_static_has_two_directions() {
        let text = "nat { static { rule 1 { destination { address 203.0.113.9 }
                    inbound-interface eth0
                    translation { address 10.0.0.9 } } }
            source { rule 2 { disable
                    translation { address masquerade } } } }";
        let text = rules(text);
        assert!(text.contains("dnat to 10.0.0.9") && text.contains("snat to 203.0.113.9"), "{text}");
        assert!(!text.contains("masquerade"), "{text}");
    }
}
