//! Our kinds for what a router has, and how much of it they cover. Pure; changes nothing anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::{ConfigPath, Leaf, Node, Tree};

/// What came of an import.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The objects, as manifests.
    pub objects: Vec<Value>,
    /// The report.
    pub coverage: Vec<Coverage>,
}

/// How much of one top-level part the objects speak of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Its first two words, such as `service dhcp-server`.
    pub part: String,
    /// Statements that the objects speak of.
    pub covered: usize,
    /// All its statements.
    pub all: usize,
    /// The first few that they do not.
    pub left: Vec<String>,
}

/// How many uncovered statements are shown for each part.
const SHOWN: usize = 5;

/// Reads a configuration as our kinds.
pub fn import(tree: &Tree, router: &str, namespace: &str) -> Imported {
    let mut reader = Reader { tree, taken: BTreeSet::new(), router, namespace };
    let mut objects = reader.networks();
    objects.extend(reader.peerings());
    let coverage = reader.coverage();
    Imported { objects, coverage }
}

struct Reader<'a> {
    tree: &'a Tree,
    taken: BTreeSet<Leaf>,
    router: &'a str,
    namespace: &'a str,
}

impl Reader<'_> {
    /// One RouterNetwork for each VLAN with an address.
    fn networks(&mut self) -> Vec<Value> {
        let mut found = Vec::new();
        for (kind, shown) in [("ethernet", "Ethernet"), ("bonding", "Bonding"), ("bridge", "Bridge")] {
            for (name, parent) in self.tree.entries(&["interfaces", kind]) {
                for (vlan, vif) in parent.child("vif").and_then(Node::children).into_iter().flatten() {
                    let at = ["interfaces", kind, name, "vif", vlan].map(str::to_owned);
                    found.extend(self.network(&at, shown, vif));
                }
            }
        }
        found
    }

    fn network(&mut self, at: &[String], kind: &str, vif: &Node) -> Option<Value> {
        let (parent, vlan) = (at.get(2)?, at.get(4)?.parse::<u16>().ok()?);
        let addresses: Vec<IpNet> =
            vif.child("address")?.values()?.iter().filter_map(|a| a.parse().ok()).collect();
        if addresses.is_empty() {
            return None;
        }
        let interface = format!("{parent}.{vlan}");
        let subnets: Vec<Value> = addresses
            .iter()
            .map(|a| json!({"cidr": a.trunc().to_string(), "gateway": a.addr().to_string()}))
            .collect();
        let mut spec = Map::new();
        spec.insert("routerRef".into(), json!({"name": self.router}));
        spec.insert("vlan".into(), json!(vlan));
        spec.insert("parent".into(), json!({"kind": kind, "name": parent}));
        spec.insert("subnets".into(), json!(subnets));
        if let Some(mtu) = vif.text("mtu").and_then(|m| m.parse::<u16>().ok()) {
            spec.insert("mtu".into(), json!(mtu));
        }
        ["address", "description", "mtu"].iter().for_each(|leaf| self.take(at, &[leaf]));
        if let Some(dhcp) =
            addresses.iter().find_map(|a| self.dhcp(&a.trunc())).or_else(|| self.relay(&interface))
        {
            spec.insert("dhcp".into(), dhcp);
        }
        if let Some(snat) = addresses.iter().find_map(|a| self.snat(&a.trunc())) {
            spec.insert("snat".into(), snat);
        }
        Some(self.object("RouterNetwork", &format!("{}-vlan{vlan}", parent.to_lowercase()), spec))
    }

    fn dhcp(&mut self, prefix: &IpNet) -> Option<Value> {
        let path = ["service", "dhcp-server", "shared-network-name"];
        let (shared, subnet) = self.tree.entries(&path).find_map(|(shared, network)| {
            let subnets = network.child("subnet").and_then(Node::children)?;
            let (_, subnet) =
                subnets.iter().find(|(name, _)| name.parse::<IpNet>().ok().as_ref() == Some(prefix))?;
            Some((shared.clone(), subnet))
        })?;
        let mut at: Vec<String> = path.map(str::to_owned).to_vec();
        at.extend([shared, "subnet".to_owned(), prefix.to_string()]);
        // 1.5 keeps options one level deeper.
        let option = |name: &str| subnet.at(&["option", name]).or_else(|| subnet.child(name));
        let list =
            |name: &str| option(name).and_then(Node::values).map(|v| v.iter().cloned().collect::<Vec<_>>());
        let mut server = Map::new();
        let ranges: Vec<Value> = named(subnet, "range")
            .filter_map(|(_, r)| Some(json!({"start": r.text("start")?, "end": r.text("stop")?})))
            .collect();
        server.insert("ranges".into(), json!(ranges));
        let reservations: Vec<Value> = named(subnet, "static-mapping")
            .filter_map(|(name, m)| {
                let mac = m.text("mac").or_else(|| m.text("mac-address"))?;
                Some(json!({"name": name, "mac": mac, "ip": m.text("ip-address")?}))
            })
            .collect();
        server.insert("reservations".into(), json!(reservations));
        for (theirs, ours) in
            [("name-server", "nameServers"), ("ntp-server", "ntpServers"), ("domain-search", "domainSearch")]
        {
            if let Some(values) = list(theirs) {
                server.insert(ours.into(), json!(values));
                self.take(&at, &[theirs]);
                self.take(&at, &["option", theirs]);
            }
        }
        if let Some(domain) = option("domain-name").and_then(Node::first) {
            server.insert("domain".into(), json!(domain));
        }
        if let Some(lease) = subnet.text("lease").and_then(|l| l.parse::<u32>().ok()) {
            server.insert("leaseSeconds".into(), json!(lease));
        }
        if let Some(exclude) = subnet.child("exclude").and_then(Node::values) {
            server.insert("exclude".into(), json!(exclude.iter().collect::<Vec<_>>()));
        }
        for leaf in ["domain-name", "default-router", "subnet-id", "lease", "exclude", "description"] {
            self.take(&at, &[leaf]);
            self.take(&at, &["option", leaf]);
        }
        for (name, _) in named(subnet, "range") {
            ["start", "stop"].iter().for_each(|leaf| self.take(&at, &["range", name, leaf]));
        }
        for (name, mapping) in named(subnet, "static-mapping") {
            if mapping.text("ip-address").is_some() {
                let leaves = ["mac", "mac-address", "ip-address", "description"];
                leaves.iter().for_each(|leaf| self.take(&at, &["static-mapping", name, leaf]));
            }
        }
        Some(json!({"server": server}))
    }

    fn relay(&mut self, interface: &str) -> Option<Value> {
        let at = ["service", "dhcp-relay"].map(str::to_owned);
        let relay = self.tree.at(&at)?;
        let listens =
            |leaf: &str| relay.child(leaf).and_then(Node::values).is_some_and(|v| v.contains(interface));
        if !listens("listen-interface") && !listens("interface") {
            return None;
        }
        let servers: Vec<String> = relay.child("server")?.values()?.iter().cloned().collect();
        let upstream = relay.text("upstream-interface")?;
        ["server", "upstream-interface", "listen-interface"].iter().for_each(|leaf| self.take(&at, &[leaf]));
        Some(json!({"relay": {"servers": servers, "upstreamInterface": upstream}}))
    }

    fn snat(&mut self, prefix: &IpNet) -> Option<Value> {
        let rules = ["nat", "source", "rule"];
        let (number, rule) = self.tree.entries(&rules).find(|(_, rule)| {
            let source = rule.at(&["source", "address"]).and_then(Node::first);
            source.and_then(|s| s.parse::<IpNet>().ok()).as_ref() == Some(prefix)
                && rule.child("exclude").is_none()
        })?;
        let out = rule.at(&["outbound-interface", "name"])?.first()?;
        let to = rule.at(&["translation", "address"])?.first()?;
        let mut at = rules.map(str::to_owned).to_vec();
        at.push(number.clone());
        for leaf in [
            &["source", "address"][..],
            &["outbound-interface", "name"],
            &["translation", "address"],
            &["description"],
        ] {
            self.take(&at, leaf);
        }
        Some(match to {
            "masquerade" => json!({"outboundInterface": out}),
            address => json!({"outboundInterface": out, "address": address}),
        })
    }

    /// One BGPPeering for each AS number of neighbors.
    fn peerings(&mut self) -> Vec<Value> {
        let mut by_asn: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        let at = ["protocols", "bgp", "neighbor"];
        for (address, neighbor) in self.tree.entries(&at) {
            let group = neighbor.text("peer-group");
            let of_group =
                group.and_then(|g| self.tree.at(&["protocols", "bgp", "peer-group", g])?.text("remote-as"));
            let asn = neighbor.text("remote-as").or(of_group).and_then(|asn| asn.parse().ok());
            let (Some(asn), Ok(_)) = (asn, address.parse::<IpAddr>()) else { continue };
            let name = neighbor.text("description").unwrap_or(address);
            by_asn.entry(asn).or_default().push(json!({"name": name, "address": address}));
            let place = [&at.map(str::to_owned)[..], std::slice::from_ref(address)].concat();
            ["remote-as", "description", "peer-group"].iter().for_each(|leaf| self.take(&place, &[leaf]));
        }
        let peering = |(asn, peers): (u32, Vec<Value>)| {
            let mut spec = Map::new();
            spec.insert("routerRef".into(), json!({"name": self.router}));
            spec.insert("peerASN".into(), json!(asn));
            spec.insert("peers".into(), json!(peers));
            self.object("BGPPeering", &format!("as{asn}"), spec)
        };
        by_asn.into_iter().map(peering).collect()
    }

    fn object(&self, kind: &str, name: &str, spec: Map<String, Value>) -> Value {
        json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": kind,
            "metadata": {"namespace": self.namespace, "name": name}, "spec": spec,
        })
    }

    /// Notes that the objects speak of this leaf.
    fn take(&mut self, at: &[String], below: &[&str]) {
        let words: Vec<String> = at.iter().cloned().chain(below.iter().map(|w| (*w).to_owned())).collect();
        let (Some(node), Ok(path)) = (self.tree.at(&words), ConfigPath::try_from(words.clone())) else {
            return;
        };
        match node.values() {
            Some(values) => {
                self.taken.extend(values.iter().map(|v| Leaf { path: path.clone(), value: Some(v.clone()) }));
            }
            None => drop(self.taken.insert(Leaf { path, value: None })),
        }
    }

    fn coverage(&self) -> Vec<Coverage> {
        let mut parts: BTreeMap<String, Coverage> = BTreeMap::new();
        for leaf in self.tree.leaves() {
            let part = leaf.path.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
            let empty = || Coverage { part: part.clone(), covered: 0, all: 0, left: Vec::new() };
            let entry = parts.entry(part.clone()).or_insert_with(empty);
            entry.all += 1;
            match self.taken.contains(&leaf) {
                true => entry.covered += 1,
                false if entry.left.len() < SHOWN => entry.left.push(leaf.path.to_string()),
                false => {}
            }
        }
        parts.into_values().collect()
    }
}

fn named<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
    node.child(tag).and_then(Node::children).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::parse, inputs::Collector};

    const BOOT: &str = "interfaces { ethernet eth1 { vif 40 { address 10.0.40.1/24\n mtu 1400\n }\n vif 50 { description bare\n }\n }\n }\n\
        service { dhcp-server { shared-network-name LAB { subnet 10.0.40.0/24 { range 0 { start 10.0.40.10\n stop 10.0.40.20\n }\n\
        option { name-server 10.0.40.1\n }\n subnet-id 7\n static-mapping a { mac 02:00:00:00:00:01\n ip-address 10.0.40.9\n }\n }\n }\n }\n }\n\
        nat { source { rule 100 { outbound-interface { name eth0\n }\n source { address 10.0.40.0/24\n }\n translation { address masquerade\n }\n }\n }\n }\n\
        protocols { bgp { neighbor 10.0.40.2 { remote-as 65001\n }\n system-as 65000\n }\n }\n";

    #[test]
    fn a_router_becomes_objects_that_our_own_reader_takes() {
        let tree = parse::boot(BOOT).unwrap().tree;
        let imported = import(&tree, "gw", "lab");
        let kinds: Vec<&str> = imported.objects.iter().filter_map(|o| o["kind"].as_str()).collect();
        assert_eq!(kinds, ["RouterNetwork", "BGPPeering"]);
        let mut collector = Collector::default();
        for object in imported.objects {
            collector.document("import", &crate::inputs::ClusterName::local(), object);
        }
        let inputs = collector.finish();
        assert_eq!(inputs.faults, []);
        let network = &inputs.networks[0].spec;
        assert_eq!((network.vlan, network.mtu), (Some(40), Some(1400)));
        let server = network.dhcp.as_ref().unwrap().server.as_ref().unwrap();
        assert_eq!((server.ranges.len(), server.reservations.len()), (1, 1));
        assert_eq!(network.snat.as_ref().unwrap().outbound_interface, "eth0");
        assert_eq!(inputs.peerings[0].spec.peer_asn, Some(65_001));
    }

    #[test]
    fn what_is_not_covered_is_said() {
        let tree = parse::boot(BOOT).unwrap().tree;
        let coverage = import(&tree, "gw", "lab").coverage;
        let of = |part: &str| coverage.iter().find(|c| c.part == part).unwrap();
        assert_eq!((of("service dhcp-server").covered, of("service dhcp-server").all), (6, 6));
        assert_eq!(of("interfaces ethernet").left, ["interfaces ethernet eth1 vif 50 description"]);
        assert_eq!(of("protocols bgp").left, ["protocols bgp system-as"]);
    }
}
