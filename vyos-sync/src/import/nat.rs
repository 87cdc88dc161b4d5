//! Address translation: of a network, one to one, and publications of Services.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::network::Place;
use super::{Name, Reader, values, words};
use crate::config::Node;
use crate::inputs::ObjectId;

/// What rules of one publication have in common: the mark, the interface, the public address, and the Service's.
type Target = (Option<String>, String, Option<Ipv4Addr>, Ipv4Addr);

/// What one destination rule says.
struct Rule {
    number: String,
    interface: String,
    address: Option<Ipv4Addr>,
    protocol: String,
    port: u16,
    source: Option<String>,
    vip: Ipv4Addr,
    service_port: u16,
}

impl Reader<'_> {
    /// Source NAT of all IPv4 prefixes by one interface, with what is left alone.
    pub(super) fn source_nat(&mut self, prefixes: &[IpNet]) -> Option<Value> {
        let rules = ["nat", "source", "rule"];
        let mut spec = Map::new();
        let (mut exclude, mut taken) = (Vec::new(), Vec::new());
        for prefix in prefixes.iter().filter(|p| p.addr().is_ipv4()) {
            let of_prefix = self.tree.entries(&rules).filter(|(_, rule)| {
                first(rule, &["source", "address"]).and_then(|s| s.parse::<IpNet>().ok()).as_ref()
                    == Some(prefix)
            });
            for (number, rule) in of_prefix {
                let Some(out) = first(rule, &["outbound-interface", "name"]) else { continue };
                if spec.get("outboundInterface").is_some_and(|name| name != out) {
                    continue;
                }
                let towards = first(rule, &["destination", "address"]);
                match (rule.child("exclude"), towards, first(rule, &["translation", "address"])) {
                    (Some(_), Some(towards), None) => {
                        if !exclude.iter().any(|known| known == towards) {
                            exclude.push(towards.to_owned());
                        }
                        taken.push((number.clone(), &["exclude"][..]));
                    }
                    (None, None, Some(to)) if rule.child("protocol").is_none() => {
                        spec.insert("outboundInterface".into(), json!(out));
                        if to != "masquerade" {
                            spec.insert("address".into(), json!(to));
                        }
                        taken.push((number.clone(), &["translation", "address"][..]));
                    }
                    _ => {}
                }
            }
        }
        if !spec.contains_key("outboundInterface") {
            return None;
        }
        if !exclude.is_empty() {
            spec.insert("exclude".into(), json!(exclude));
        }
        for (number, leaf) in taken {
            let at = [words(&rules), vec![number]].concat();
            for below in
                [leaf, &["source", "address"], &["destination", "address"], &["outbound-interface", "name"]]
            {
                self.take(&at, below);
            }
            self.take(&at, &["description"]);
        }
        Some(Value::Object(spec))
    }

    pub(super) fn source_nat66(&mut self, prefixes: &[IpNet]) -> Option<Value> {
        let rules = ["nat66", "source", "rule"];
        let mut found = None;
        for prefix in prefixes.iter().filter(|p| p.addr().is_ipv6()) {
            let mut all = self.tree.entries(&rules);
            let rule = all.find(|(_, rule)| {
                first(rule, &["source", "prefix"]).and_then(|s| s.parse::<IpNet>().ok()).as_ref()
                    == Some(prefix)
            });
            let Some((number, rule)) = rule else { continue };
            let (out, to) =
                (first(rule, &["outbound-interface", "name"])?, first(rule, &["translation", "address"])?);
            found = Some(match to {
                "masquerade" => json!({"outboundInterface": out}),
                prefix => json!({"outboundInterface": out, "prefix": prefix}),
            });
            let at = [words(&rules), vec![number.clone()]].concat();
            for leaf in [
                &["source", "prefix"][..],
                &["outbound-interface", "name"],
                &["translation", "address"],
                &["description"],
            ] {
                self.take(&at, leaf);
            }
        }
        found
    }

    pub(super) fn one_to_one(&mut self, prefixes: &[IpNet]) -> Option<Value> {
        let rules = ["nat", "static", "rule"];
        let mut found = Vec::new();
        for (number, rule) in self.tree.entries(&rules) {
            let (Some(external), Some(internal), Some(inbound)) = (
                first(rule, &["destination", "address"]),
                first(rule, &["translation", "address"]),
                rule.text("inbound-interface"),
            ) else {
                continue;
            };
            let inside = internal.parse::<IpAddr>().is_ok_and(|ip| prefixes.iter().any(|p| p.contains(&ip)));
            if inside && external.parse::<Ipv4Addr>().is_ok() {
                found.push(json!({"external": external, "internal": internal, "inboundInterface": inbound}));
                let at = [words(&rules), vec![number.clone()]].concat();
                for leaf in [
                    &["destination", "address"][..],
                    &["translation", "address"],
                    &["inbound-interface"],
                    &["description"],
                ] {
                    self.take(&at, leaf);
                }
            }
        }
        (!found.is_empty()).then(|| json!(found))
    }

    /// One PortPublication for each Service and public address that destination NAT leads to.
    pub(super) fn publications(&mut self, places: &[Place]) -> Vec<Value> {
        let mut by_target: BTreeMap<Target, Vec<Rule>> = BTreeMap::new();
        let mut inner = Vec::new();
        for (number, node) in self.tree.entries(&["nat", "destination", "rule"]) {
            let Some(rule) = rule(number, node) else { continue };
            match places.iter().find(|place| place.interface == rule.interface) {
                Some(_) => inner.push(rule),
                None => {
                    let mark = node.text("description").and_then(crate::plan::Mark::read);
                    let key = (mark.map(|m| m.to_string()), rule.interface.clone(), rule.address, rule.vip);
                    by_target.entry(key).or_default().push(rule);
                }
            }
        }
        let mut found = Vec::new();
        for ((_, interface, address, vip), rules) in by_target {
            found.extend(self.publication(&interface, address, vip, &rules, &inner, places));
        }
        found
    }

    fn publication(
        &mut self,
        interface: &str,
        address: Option<Ipv4Addr>,
        vip: Ipv4Addr,
        rules: &[Rule],
        inner: &[Rule],
        places: &[Place],
    ) -> Option<Value> {
        let known = self.known.services.iter().find(|s| s.spec.vips.contains(&IpAddr::V4(vip)));
        let Some(service) = known.map(|service| service.id.clone()) else {
            let numbers: Vec<&str> = rules.iter().map(|rule| rule.number.as_str()).collect();
            self.notes.push(format!(
                "nat destination rule {}: no Service in the source has the address {vip}, so there is no PortPublication; \
                 have the Service in --source",
                numbers.join(", ")
            ));
            return None;
        };
        let node = self.tree.at(&["nat", "destination", "rule", &rules.first()?.number])?;
        let description = node.text("description").map(str::to_owned);
        let name =
            self.name("PortPublication", description.as_deref(), &format!("{}-{interface}", service.name));
        let mut spec = self.spec();
        spec.insert("serviceRef".into(), reference(&service, &name));
        spec.insert("interface".into(), json!(interface));
        if let Some(address) = address {
            spec.insert("address".into(), json!(address.to_string()));
        }
        if let Some(words) = &name.words {
            spec.insert("description".into(), json!(words));
        }
        let mut ports: Vec<(u16, u16, &str)> =
            rules.iter().map(|r| (r.port, r.service_port, &*r.protocol)).collect();
        ports.sort_unstable();
        ports.dedup();
        let port = |(port, service, protocol): &(u16, u16, &str)| {
            let protocol = if *protocol == "udp" { "UDP" } else { "TCP" };
            json!({"port": port, "servicePort": service, "protocol": protocol})
        };
        spec.insert("ports".into(), ports.iter().map(port).collect());
        let mut sources: Vec<&String> = rules.iter().filter_map(|rule| rule.source.as_ref()).collect();
        sources.sort();
        sources.dedup();
        if !sources.is_empty() {
            spec.insert("sourceRanges".into(), json!(sources));
        }
        rules.iter().for_each(|rule| self.take_rule("destination", &rule.number));
        let same = |rule: &&Rule| rule.vip == vip && rule.address == address;
        let inner: Vec<&Rule> = inner.iter().filter(same).collect();
        let networks = self.hairpin(vip, &inner, places, &name);
        if !networks.is_empty() {
            spec.insert("hairpin".into(), json!({"networks": networks}));
        }
        let names = self.host_names(vip);
        if !names.is_empty() {
            spec.insert("hostnames".into(), json!(names));
        }
        Some(self.object("PortPublication", &name, spec))
    }

    /// The networks whose hosts reach the Service by the public address, with the rules that bring answers back.
    fn hairpin(&mut self, vip: Ipv4Addr, inner: &[&Rule], places: &[Place], name: &Name) -> Vec<Value> {
        let mut networks = Vec::new();
        for place in places.iter().filter(|place| inner.iter().any(|rule| rule.interface == place.interface))
        {
            let mut network = json!({"name": place.name.name});
            if place.name.namespace != name.namespace {
                network["namespace"] = json!(place.name.namespace);
            }
            networks.push(network);
            let of_place = inner.iter().filter(|rule| rule.interface == place.interface);
            of_place.for_each(|rule| self.take_rule("destination", &rule.number));
            let back = self.tree.entries(&["nat", "source", "rule"]).filter(|(_, rule)| {
                let source = first(rule, &["source", "address"]).and_then(|s| s.parse::<IpNet>().ok());
                source.is_some_and(|source| place.prefixes.contains(&source))
                    && first(rule, &["destination", "address"]) == Some(&vip.to_string())
                    && first(rule, &["outbound-interface", "name"]) == Some(&place.interface)
                    && first(rule, &["translation", "address"]) == Some("masquerade")
            });
            let numbers: Vec<String> = back.map(|(number, _)| number.clone()).collect();
            numbers.iter().for_each(|number| self.take_rule("source", number));
        }
        networks
    }

    fn host_names(&mut self, vip: Ipv4Addr) -> Vec<String> {
        let path = ["system", "static-host-mapping", "host-name"];
        let hosts = self.tree.entries(&path).filter(|(_, host)| {
            values(host, "inet").any(|ip| *ip == vip.to_string()) && host.child("alias").is_none()
        });
        let names: Vec<String> = hosts.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.take(&[words(&path), vec![name.clone()]].concat(), &["inet"]);
        }
        names
    }

    fn take_rule(&mut self, direction: &str, number: &str) {
        let at = words(&["nat", direction, "rule", number]);
        for leaf in [
            &["description"][..],
            &["protocol"],
            &["inbound-interface", "name"],
            &["outbound-interface", "name"],
            &["source", "address"],
            &["destination", "address"],
            &["destination", "port"],
            &["translation", "address"],
            &["translation", "port"],
        ] {
            self.take(&at, leaf);
        }
    }
}

/// A destination rule that a PortPublication can say.
fn rule(number: &str, node: &Node) -> Option<Rule> {
    let port: u16 = first(node, &["destination", "port"])?.parse().ok()?;
    let protocol = node.text("protocol").filter(|p| matches!(*p, "tcp" | "udp"))?;
    let address = match first(node, &["destination", "address"]) {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    if node.child("exclude").is_some() || node.child("disable").is_some() {
        return None;
    }
    Some(Rule {
        number: number.to_owned(),
        interface: first(node, &["inbound-interface", "name"])?.to_owned(),
        address,
        protocol: protocol.to_owned(),
        port,
        source: first(node, &["source", "address"]).map(str::to_owned),
        vip: first(node, &["translation", "address"])?.parse().ok()?,
        service_port: first(node, &["translation", "port"]).map_or(Some(port), |p| p.parse().ok())?,
    })
}

fn reference(service: &ObjectId, name: &Name) -> Value {
    let mut reference = json!({"name": service.name});
    if service.namespace.as_deref() != Some(&name.namespace) {
        reference["namespace"] = json!(service.namespace);
    }
    if !service.cluster.is_local() {
        reference["cluster"] = json!(service.cluster.as_str());
    }
    reference
}

fn first<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    node.at(path).and_then(Node::first)
}
