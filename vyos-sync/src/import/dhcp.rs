//! DHCP servers and relays of a network.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Reader, named, values, words};
use crate::config::Node;

impl<'a> Reader<'a> {
    /// The server of the IPv4 subnets, options as the first of them has them.
    pub(super) fn server4(&mut self, addresses: &[IpNet]) -> Option<Value> {
        let mut server = Map::new();
        let (mut ranges, mut exclude, mut reservations) = (Vec::new(), Vec::new(), Vec::new());
        for address in addresses.iter().filter(|a| a.addr().is_ipv4()) {
            let Some((at, subnet)) = self.subnet("dhcp-server", &address.trunc()) else { continue };
            if server.is_empty() {
                self.options4(&at, subnet, &mut server);
            } else {
                self.same_options(&at, subnet, &server);
            }
            for leaf in ["default-router", "subnet-id"] {
                let own = address.addr().to_string();
                let fits = option(subnet, leaf)
                    .is_none_or(|node| leaf != "default-router" || node.first() == Some(&own));
                if fits {
                    self.take_option(&at, leaf);
                }
            }
            for (name, range) in named(subnet, "range") {
                if let (Some(start), Some(stop)) = (range.text("start"), range.text("stop")) {
                    ranges.push(json!({"start": start, "end": stop}));
                    ["start", "stop"].iter().for_each(|leaf| self.take(&at, &["range", name, leaf]));
                }
            }
            exclude.extend(values(subnet, "exclude").cloned());
            self.take(&at, &["exclude"]);
            for (name, mapping) in named(subnet, "static-mapping") {
                let mac = mapping.text("mac").or_else(|| mapping.text("mac-address"));
                if let (Some(mac), Some(ip)) = (mac, mapping.text("ip-address")) {
                    reservations.push(json!({"name": name, "mac": mac, "ip": ip}));
                    let leaves = ["mac", "mac-address", "ip-address"];
                    leaves.iter().for_each(|leaf| self.take(&at, &["static-mapping", name, leaf]));
                }
            }
            server.entry("ranges").or_insert_with(|| json!([]));
        }
        if server.is_empty() {
            return None;
        }
        server.insert("ranges".into(), json!(ranges));
        // A gateway inside a range is excluded by itself, and so it would be if it were not said.
        if !exclude.is_empty() {
            server.insert("exclude".into(), json!(exclude));
        }
        if !reservations.is_empty() {
            server.insert("reservations".into(), json!(reservations));
        }
        Some(json!({"server": server}))
    }

    fn options4(&mut self, at: &[String], subnet: &Node, server: &mut Map<String, Value>) {
        for (theirs, ours) in LISTS4 {
            if let Some(list) = option(subnet, theirs).and_then(Node::values) {
                server.insert(ours.into(), json!(list.iter().collect::<Vec<_>>()));
                self.take_option(at, theirs);
            }
        }
        if let Some(domain) = option(subnet, "domain-name").and_then(Node::first) {
            server.insert("domain".into(), json!(domain));
            self.take_option(at, "domain-name");
        }
        let mut pxe = Map::new();
        for (theirs, ours) in BOOT4 {
            if let Some(value) = option(subnet, theirs).and_then(Node::first) {
                pxe.insert(ours.into(), json!(value));
                self.take_option(at, theirs);
            }
        }
        if !pxe.is_empty() {
            server.insert("pxe".into(), json!(pxe));
        }
        if let Some(lease) = subnet.text("lease").and_then(|l| l.parse::<u32>().ok()) {
            server.insert("leaseSeconds".into(), json!(lease));
            self.take(at, &["lease"]);
        }
        server.entry("ranges").or_insert_with(|| json!([]));
    }

    /// Another subnet of the same network is covered as far as it says the same.
    fn same_options(&mut self, at: &[String], subnet: &Node, server: &Map<String, Value>) {
        for (theirs, ours) in LISTS4 {
            let list = option(subnet, theirs).and_then(Node::values);
            if list.is_some_and(|list| server.get(ours) == Some(&json!(list.iter().collect::<Vec<_>>()))) {
                self.take_option(at, theirs);
            }
        }
        for (leaf, value) in [("domain-name", server.get("domain")), ("lease", server.get("leaseSeconds"))] {
            let same = |node: &Node| value.is_some_and(|value| node.first() == Some(&text_of(value)));
            if option(subnet, leaf).is_some_and(same) {
                self.take_option(at, leaf);
            }
        }
        for (theirs, ours) in BOOT4 {
            let value = server.get("pxe").and_then(|pxe| pxe.get(ours));
            let same = |node: &Node| value.is_some_and(|value| node.first() == Some(&text_of(value)));
            if option(subnet, theirs).is_some_and(same) {
                self.take_option(at, theirs);
            }
        }
    }

    /// 1.5 keeps options one level deeper than 1.4.
    fn take_option(&mut self, at: &[String], leaf: &str) {
        self.take(at, &[leaf]);
        self.take(at, &["option", leaf]);
    }

    /// A subnet of one of the shared networks, whose own leaves are taken too.
    fn subnet(&mut self, service: &str, prefix: &IpNet) -> Option<(Vec<String>, &'a Node)> {
        let path = ["service", service, "shared-network-name"];
        let (shared, spelt) = self.tree.entries(&path).find_map(|(shared, network)| {
            let mut subnets = named(network, "subnet");
            let spelt = subnets.find(|(name, _)| name.parse::<IpNet>().ok().as_ref() == Some(prefix))?.0;
            Some((shared.clone(), spelt.clone()))
        })?;
        let network = words(&["service", service, "shared-network-name", &shared]);
        ["authoritative", "description"].iter().for_each(|leaf| self.take(&network, &[leaf]));
        let at = [network, words(&["subnet", &spelt])].concat();
        let node = self.tree.at(&at)?;
        Some((at, node))
    }

    /// The server of the IPv6 subnets.
    pub(super) fn server6(&mut self, interface: &str, prefixes: &[IpNet]) -> Option<Value> {
        let mut server = Map::new();
        let mut ranges = Vec::new();
        for prefix in prefixes.iter().filter(|p| p.addr().is_ipv6()) {
            let Some((at, subnet)) = self.subnet("dhcpv6-server", prefix) else { continue };
            for (theirs, ours) in [("name-server", "nameServers"), ("domain-search", "domainSearch")] {
                if let Some(list) = option(subnet, theirs).and_then(Node::values) {
                    server.insert(ours.into(), json!(list.iter().collect::<Vec<_>>()));
                    self.take_option(&at, theirs);
                }
            }
            let lease = |leaf: &str| subnet.at(&["lease-time", leaf]).and_then(Node::first);
            if let (Some(one), Some(other)) = (lease("default"), lease("maximum"))
                && let (true, Ok(seconds)) = (one == other, one.parse::<u32>())
            {
                server.insert("leaseSeconds".into(), json!(seconds));
                ["default", "maximum"].iter().for_each(|leaf| self.take(&at, &["lease-time", leaf]));
            }
            for (name, range) in named(subnet, "range") {
                if let (Some(start), Some(stop)) = (range.text("start"), range.text("stop")) {
                    ranges.push(json!({"start": start, "end": stop}));
                    ["start", "stop"].iter().for_each(|leaf| self.take(&at, &["range", name, leaf]));
                }
            }
            // 1.4 begins a range with its first address.
            for (start, range) in
                subnet.child("address-range").into_iter().flat_map(|node| named(node, "start"))
            {
                if let Some(stop) = range.text("stop") {
                    ranges.push(json!({"start": start, "end": stop}));
                    self.take(&at, &["address-range", "start", start, "stop"]);
                }
            }
            self.take(&at, &["subnet-id"]);
            if subnet.text("interface") == Some(interface) {
                self.take(&at, &["interface"]);
            }
        }
        if ranges.is_empty() {
            return None;
        }
        server.insert("ranges".into(), json!(ranges));
        Some(json!({"server": server}))
    }

    pub(super) fn relay4(&mut self, interface: &str) -> Option<Value> {
        let path = ["service", "dhcp-relay"];
        let relay = self.tree.at(&path)?;
        let leaf = ["listen-interface", "interface"]
            .into_iter()
            .find(|leaf| values(relay, leaf).any(|v| v == interface))?;
        let servers: Vec<&String> = values(relay, "server").collect();
        let upstream = values(relay, "upstream-interface").next()?;
        self.take_value(&["service", "dhcp-relay", leaf], interface);
        self.take_value(&["service", "dhcp-relay", "upstream-interface"], upstream);
        self.take(&words(&path), &["server"]);
        Some(json!({"relay": {"servers": servers, "upstreamInterface": upstream}}))
    }

    pub(super) fn relay6(&mut self, interface: &str) -> Option<Value> {
        let path = words(&["service", "dhcpv6-relay"]);
        let relay = self.tree.at(&path)?;
        named(relay, "listen-interface").find(|(name, _)| *name == interface)?;
        let (upstream, node) = named(relay, "upstream-interface").next()?;
        let servers: Vec<&String> = values(node, "address").collect();
        self.take(&path, &["listen-interface", interface]);
        self.take(&path, &["upstream-interface", upstream, "address"]);
        Some(json!({"relay": {"servers": servers, "upstreamInterface": upstream}}))
    }
}

/// Options with several values, and our fields for them.
const LISTS4: [(&str, &str); 3] =
    [("name-server", "nameServers"), ("ntp-server", "ntpServers"), ("domain-search", "domainSearch")];
/// Options for network boot, and our fields for them.
const BOOT4: [(&str, &str); 3] = [
    ("bootfile-name", "bootfileName"),
    ("bootfile-server", "bootfileServer"),
    ("tftp-server-name", "tftpServer"),
];

fn option<'a>(subnet: &'a Node, name: &str) -> Option<&'a Node> {
    subnet.at(&["option", name]).or_else(|| subnet.child(name))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
