//! BGPPeerings: neighbors by hand and listen ranges, with their filters and BFD, and the router's own part.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Name, Reader, named, words};
use crate::config::Node;
use crate::plan::Mark;

/// The two families, with their words in neighbors and policies.
const FAMILIES: [(&str, &str, &str); 2] =
    [("ipv4-unicast", "prefix-list", "ip"), ("ipv6-unicast", "prefix-list6", "ipv6")];

/// A prefix with the lengths that are let through.
type Prefix = (String, Option<u8>, Option<u8>);

/// What neighbors of one BGPPeering have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Common {
    mark: Option<String>,
    asn: u32,
    timers: Option<(u16, u16)>,
    multihop: Option<u8>,
    bfd: Option<String>,
    password: Option<String>,
    most: Option<u32>,
    import: Option<String>,
    list: Option<String>,
    export: Option<String>,
    default: [bool; 2],
}

impl Reader<'_> {
    /// The router's own part of BGP, for its Router object.
    pub(super) fn router_bgp(&mut self) -> Option<Value> {
        let root = words(&["protocols", "bgp"]);
        let bgp = self.tree.at(&root)?;
        let asn: u32 = bgp.text("system-as")?.parse().ok()?;
        let mut found = Map::from_iter([("asn".to_owned(), json!(asn))]);
        let declared = self.known.router(self.router).and_then(|router| router.spec.bgp.as_ref());
        let says = |same: &dyn Fn(&crate::crd::RouterBgp) -> bool| declared.is_none_or(same);
        if says(&|bgp| bgp.asn == asn) {
            self.take(&root, &["system-as"]);
        }
        if let Some(id) = bgp.at(&["parameters", "router-id"]).and_then(Node::first) {
            found.insert("routerID".into(), json!(id));
            if says(&|bgp| bgp.router_id.as_deref() == Some(id)) {
                self.take(&root, &["parameters", "router-id"]);
            }
        }
        let paths = FAMILIES.iter().flat_map(|(family, ..)| ["ebgp", "ibgp"].map(|kind| (*family, kind)));
        let each = |(family, kind): (&str, &str)| {
            let value = bgp.at(&["address-family", family, "maximum-paths", kind]).and_then(Node::first)?;
            value.parse::<u16>().ok()
        };
        let all: Vec<Option<u16>> = paths.clone().map(each).collect();
        if let (Some(Some(most)), true) = (all.first(), all.windows(2).all(|pair| pair[0] == pair[1])) {
            found.insert("maximumPaths".into(), json!(most));
            if says(&|bgp| bgp.maximum_paths == Some(*most)) {
                for (family, kind) in paths {
                    self.take(&root, &["address-family", family, "maximum-paths", kind]);
                }
            }
        }
        Some(Value::Object(found))
    }

    pub(super) fn peerings(&mut self) -> Vec<Value> {
        let mut by_common: BTreeMap<Common, Vec<(String, IpAddr)>> = BTreeMap::new();
        for (name, neighbor) in self.tree.entries(&["protocols", "bgp", "neighbor"]) {
            let (Ok(address), Some(common)) = (name.parse::<IpAddr>(), self.common(neighbor)) else {
                continue;
            };
            by_common.entry(common).or_default().push((name.clone(), address));
        }
        let mut found: Vec<Value> =
            by_common.into_iter().map(|(common, peers)| self.by_hand(&common, &peers)).collect();
        found.extend(self.listening());
        found
    }

    fn common(&self, node: &Node) -> Option<Common> {
        let group = node.text("peer-group");
        let of_group =
            group.and_then(|g| self.tree.at(&["protocols", "bgp", "peer-group", g])?.text("remote-as"));
        let asn = node.text("remote-as").or(of_group)?.parse().ok()?;
        let timers = node.child("timers").and_then(|timers| {
            Some((timers.text("holdtime")?.parse().ok()?, timers.text("keepalive")?.parse().ok()?))
        });
        let family = |leaf: &[&str]| {
            let found = |(family, ..): &(&str, &str, &str)| {
                let path = [&["address-family", family][..], leaf].concat();
                node.at(&path).and_then(Node::first).map(str::to_owned)
            };
            FAMILIES.iter().find_map(found)
        };
        let originates = |family: &str| node.at(&["address-family", family, "default-originate"]).is_some();
        Some(Common {
            mark: node.text("description").and_then(Mark::read).map(|mark| mark.to_string()),
            asn,
            timers,
            multihop: node.text("ebgp-multihop").and_then(|hops| hops.parse().ok()),
            bfd: node.child("bfd").map(|bfd| bfd.text("profile").unwrap_or_default().to_owned()),
            password: node.text("password").map(str::to_owned),
            most: family(&["maximum-prefix"]).and_then(|most| most.parse().ok()),
            import: family(&["route-map", "import"]),
            list: family(&["prefix-list", "import"]),
            export: family(&["route-map", "export"]),
            default: [originates("ipv4-unicast"), originates("ipv6-unicast")],
        })
    }

    fn by_hand(&mut self, common: &Common, neighbors: &[(String, IpAddr)]) -> Value {
        let name = self.name("BGPPeering", common.mark.as_deref(), &format!("as{}", common.asn));
        let mut spec = self.spec();
        let mut cluster = None;
        let mut peers = Vec::new();
        for (address, _) in neighbors {
            let node = self.tree.at(&["protocols", "bgp", "neighbor", address]);
            let description = node.and_then(|node| node.text("description")).unwrap_or(address);
            let words = match Mark::read(description) {
                Some(mark) => description[mark.as_str().len()..].trim_start(),
                None => description,
            };
            // What we write is the cluster and then the peer.
            let (of, peer) = match (&common.mark, words.split_once(' ')) {
                (Some(_), Some((cluster, peer))) => (Some(cluster), peer),
                _ => (None, words),
            };
            cluster = cluster.or(of.map(str::to_owned));
            peers.push(json!({"name": peer, "address": address}));
        }
        if let Some(cluster) = cluster {
            spec.insert("cluster".into(), json!(cluster));
        }
        spec.insert("peerASN".into(), json!(common.asn));
        spec.insert("peers".into(), json!(peers));
        self.session(common, &name, &mut spec);
        for (address, _) in neighbors {
            let at = words(&["protocols", "bgp", "neighbor", address]);
            self.take_session(&at, common, &spec);
            ["description", "peer-group"].iter().for_each(|leaf| self.take(&at, &[leaf]));
            if let Some(node) = self.tree.at(&at).filter(|node| node.child("shutdown").is_some()) {
                let words = node.text("description").unwrap_or_default();
                self.notes.push(format!(
                    "neighbor {address} ({words}) is shut down; the BGPPeering would bring it up"
                ));
            }
        }
        self.object("BGPPeering", &name, spec)
    }

    /// Listen ranges, by the peer-group that they lead to.
    fn listening(&mut self) -> Vec<Value> {
        let mut by_group: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (range, node) in self.tree.entries(&["protocols", "bgp", "listen", "range"]) {
            if let Some(group) = node.text("peer-group") {
                by_group.entry(group.to_owned()).or_default().push(range.clone());
            }
        }
        let listen = words(&["protocols", "bgp", "listen"]);
        let limit = self.tree.at(&listen).and_then(|node| node.text("limit")?.parse::<u16>().ok());
        let mut found = Vec::new();
        for (group, ranges) in by_group {
            let at = words(&["protocols", "bgp", "peer-group", &group]);
            let Some(node) = self.tree.at(&at) else { continue };
            let Some(common) = self.common(node) else { continue };
            let name = self.name("BGPPeering", common.mark.as_deref(), &group);
            let mut spec = self.spec();
            spec.insert("mode".into(), json!("Dynamic"));
            spec.insert("peerASN".into(), json!(common.asn));
            let mut dynamic = json!({"ranges": ranges});
            if let Some(limit) = limit {
                dynamic["limit"] = json!(limit);
                self.take(&listen, &["limit"]);
            }
            spec.insert("dynamic".into(), dynamic);
            self.session(&common, &name, &mut spec);
            self.take_session(&at, &common, &spec);
            self.take(&at, &["description"]);
            ranges.iter().for_each(|range| self.take(&listen, &["range", range, "peer-group"]));
            found.push(self.object("BGPPeering", &name, spec));
        }
        found
    }

    /// Filters, timers, BFD and the password's place.
    fn session(&mut self, common: &Common, name: &Name, spec: &mut Map<String, Value>) {
        if let Some((hold, keepalive)) = common.timers {
            spec.insert("timers".into(), json!({"holdTimeSeconds": hold, "keepAliveTimeSeconds": keepalive}));
        }
        if let Some(hops) = common.multihop {
            spec.insert("multihop".into(), json!(hops));
        }
        if let Some(most) = common.most {
            spec.insert("maxPrefixes".into(), json!(most));
        }
        if common.password.is_some() {
            let secret = format!("{}-bgp", name.name);
            self.notes.push(format!(
                "BGPPeering {}/{}: put the peers' password into Secret {secret}, key `password`",
                name.namespace, name.name
            ));
            spec.insert("passwordRef".into(), json!({"name": secret}));
        }
        if let Some(profile) = &common.bfd {
            spec.insert("bfd".into(), self.bfd(profile));
        }
        let mut drained = false;
        let accept = match (&common.import, &common.list) {
            (Some(map), _) => self.permitted(map).map(|(accept, last)| {
                drained = last;
                accept
            }),
            (None, Some(list)) => Some(self.listed(list)),
            (None, None) => None,
        };
        if drained {
            spec.insert("drain".into(), json!("Now"));
        }
        // We keep the map for service and the one for draining beside each other.
        let beside = common.import.as_ref().and_then(|map| {
            let in_service = map.strip_suffix("-drain").map(|base| format!("{base}-in"));
            in_service.or_else(|| Some(format!("{}-drain", map.strip_suffix("-in")?)))
        });
        if let Some(map) = beside {
            self.permitted(&map);
        }
        if let Some(accept) = accept {
            let rule = |(prefix, ge, le): &Prefix| {
                let mut rule = json!({"prefix": prefix});
                [("ge", ge), ("le", le)]
                    .iter()
                    .filter_map(|(w, n)| Some((w, (**n)?)))
                    .for_each(|(w, n)| rule[*w] = json!(n));
                rule
            };
            spec.insert("accept".into(), accept.iter().map(rule).collect());
        }
        let exported = common.export.as_ref().and_then(|map| Some(self.permitted(map)?.0));
        let mut advertise: Vec<String> = exported.into_iter().flatten().map(|(prefix, ..)| prefix).collect();
        let defaults = ["0.0.0.0/0", "::/0"].into_iter().zip(common.default);
        advertise.extend(defaults.filter(|(_, on)| *on).map(|(prefix, _)| prefix.to_owned()));
        if !advertise.is_empty() {
            spec.insert("advertise".into(), json!(advertise));
        }
        if common.export.is_none() {
            self.notes.push(format!(
                "BGPPeering {}/{}: the router announces to these peers whatever it has; the BGPPeering announces only \
                 what spec.advertise names",
                name.namespace, name.name
            ));
        }
    }

    fn bfd(&mut self, profile: &str) -> Value {
        let at = words(&["protocols", "bfd", "profile", profile, "interval"]);
        let number = |leaf: &str| self.tree.at(&at).and_then(|node| node.text(leaf)?.parse::<u16>().ok());
        let found = (number("receive"), number("transmit"), number("multiplier"));
        ["receive", "transmit", "multiplier"].iter().for_each(|leaf| self.take(&at, &[leaf]));
        json!({
            "receiveMilliseconds": found.0.unwrap_or(300), "transmitMilliseconds": found.1.unwrap_or(300),
            "multiplier": found.2.unwrap_or(3),
        })
    }

    /// What a route-map lets through, where it does no more than that: rules that permit prefix-lists, and a denial. Also
    /// whether all of it is made the last choice.
    fn permitted(&mut self, map: &str) -> Option<(Vec<Prefix>, bool)> {
        let at = words(&["policy", "route-map", map]);
        let (mut lists, mut drained) = (Vec::new(), 0);
        let mut taken = vec![vec!["description".to_owned()]];
        for (number, rule) in named(self.tree.at(&at)?, "rule") {
            let place = |below: &[&str]| [vec!["rule".to_owned(), number.clone()], words(below)].concat();
            match (rule.text("action"), rule.child("match")) {
                (Some("deny"), None) => {}
                (Some("permit"), Some(_)) if rule.child("set").is_none_or(is_last_choice) => {
                    if rule.child("set").is_some() {
                        drained += 1;
                        taken.push(place(&["set", "local-preference"]));
                    }
                    let list = FAMILIES.iter().find_map(|(_, kind, word)| {
                        let name =
                            rule.at(&["match", word, "address", "prefix-list"]).and_then(Node::first)?;
                        Some((*kind, *word, name.to_owned()))
                    })?;
                    taken.push(place(&["match", list.1, "address", "prefix-list"]));
                    lists.push(list);
                }
                _ => return None,
            }
            taken.push(place(&["action"]));
        }
        if drained > 0 && drained < lists.len() {
            return None;
        }
        for below in taken {
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            self.take(&at, &below);
        }
        let drained = drained > 0;
        let found = lists.into_iter().flat_map(|(kind, _, name)| self.rules(kind, &name)).collect();
        Some((found, drained))
    }

    /// The prefix-lists of both families with that name.
    fn listed(&mut self, name: &str) -> Vec<Prefix> {
        FAMILIES.iter().flat_map(|(_, kind, _)| self.rules(kind, name)).collect()
    }

    fn rules(&mut self, kind: &str, name: &str) -> Vec<Prefix> {
        let at = words(&["policy", kind, name]);
        let Some(list) = self.tree.at(&at) else { return Vec::new() };
        let mut found = Vec::new();
        self.take(&at, &["description"]);
        for (number, rule) in named(list, "rule") {
            let length = |leaf: &str| rule.text(leaf).and_then(|n| n.parse().ok());
            if let (Some("permit"), Some(prefix)) = (rule.text("action"), rule.text("prefix")) {
                found.push((prefix.to_owned(), length("ge"), length("le")));
                for leaf in ["action", "prefix", "ge", "le"] {
                    self.take(&at, &["rule", number, leaf]);
                }
            } else {
                self.notes.push(format!(
                    "policy {kind} {name} rule {number}: a BGPPeering only permits; see to the order"
                ));
            }
        }
        found
    }

    /// What the peering says of a neighbor or a peer-group.
    fn take_session(&mut self, at: &[String], common: &Common, spec: &Map<String, Value>) {
        self.take(at, &["remote-as"]);
        if common.timers.is_some() {
            ["holdtime", "keepalive"].iter().for_each(|leaf| self.take(at, &["timers", leaf]));
        }
        for leaf in ["ebgp-multihop", "password"] {
            self.take(at, &[leaf]);
        }
        match common.bfd.as_deref() {
            Some("") => self.take(at, &["bfd"]),
            _ => self.take(at, &["bfd", "profile"]),
        }
        let six = |address: &str| address.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6());
        if at.last().is_some_and(|name| six(name) || at.contains(&"peer-group".to_owned())) {
            self.take(at, &["capability", "extended-nexthop"]);
        }
        let has = |field: &str| spec.contains_key(field);
        for (family, ..) in FAMILIES {
            let place = |below: &[&str]| {
                [&["address-family", family][..], below]
                    .concat()
                    .iter()
                    .map(|w| (*w).to_owned())
                    .collect::<Vec<String>>()
            };
            let mut leaves = vec![place(&["maximum-prefix"]), place(&["default-originate"])];
            if has("accept") || common.import.is_some() {
                leaves.extend([place(&["route-map", "import"]), place(&["prefix-list", "import"])]);
            }
            if common.export.is_some() {
                leaves.push(place(&["route-map", "export"]));
            }
            for leaf in leaves {
                let leaf: Vec<&str> = leaf.iter().map(String::as_str).collect();
                self.take(at, &leaf);
            }
            let bare = [at, &words(&["address-family", family])].concat();
            if self.tree.at(&bare).is_some_and(Node::is_bare) {
                self.take(&bare, &[]);
            }
        }
    }
}

fn is_last_choice(set: &Node) -> bool {
    set.children().is_some_and(|all| all.len() == 1) && set.text("local-preference") == Some("0")
}
