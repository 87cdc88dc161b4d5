//! Routing as FRR's configuration: prefix-lists, route-maps, static routes, BFD, BGP. Pure.

use vyos_sync::config::print::natural;
use vyos_sync::config::{Node, Tree};

/// One line and the contexts that it stands in, such as `router bgp 64512`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) context: Vec<String>,
    pub(super) text: String,
}

/// The whole configuration, in an order that FRR can follow.
pub(super) fn lines(tree: &Tree) -> Vec<Line> {
    let mut writer = Writer { lines: Vec::new(), context: Vec::new() };
    writer.policy(tree);
    writer.statics(tree);
    if let Some(bfd) = tree.at(&["protocols", "bfd"]) {
        writer.within("bfd", |writer| writer.bfd(bfd));
    }
    if let Some(bgp) = tree.at(&["protocols", "bgp"]) {
        let asn = bgp.text("system-as").unwrap_or("0");
        writer.within(&format!("router bgp {asn}"), |writer| writer.bgp(bgp));
    }
    writer.lines
}

struct Writer {
    lines: Vec<Line>,
    context: Vec<String>,
}

/// The children of a tag node, in natural order.
fn instances<'a>(node: &'a Node, tag: &str) -> Vec<(&'a str, &'a Node)> {
    let children = node.child(tag).and_then(Node::children).into_iter().flatten();
    let mut all: Vec<_> = children.map(|(name, node)| (name.as_str(), node)).collect();
    all.sort_by(|a, b| natural(a.0, b.0));
    all
}

fn number<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    node.at(path).and_then(Node::first)
}

impl Writer {
    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(Line { context: self.context.clone(), text: text.into() });
    }

    fn within(&mut self, context: &str, write: impl FnOnce(&mut Self)) {
        self.context.push(context.to_owned());
        // The context is a line of its own, so that an empty one is there as well.
        self.line("");
        write(self);
        self.context.pop();
    }

    fn policy(&mut self, tree: &Tree) {
        let Some(policy) = tree.at(&["policy"]) else { return };
        for (kind, word) in [("prefix-list", "ip"), ("prefix-list6", "ipv6")] {
            for (name, list) in instances(policy, kind) {
                for (seq, rule) in instances(list, "rule") {
                    let action = rule.text("action").unwrap_or("deny");
                    let prefix = rule.text("prefix").unwrap_or("any");
                    let bound =
                        |word: &str| rule.text(word).map(|n| format!(" {word} {n}")).unwrap_or_default();
                    let (ge, le) = (bound("ge"), bound("le"));
                    self.line(format!("{word} prefix-list {name} seq {seq} {action} {prefix}{ge}{le}"));
                }
            }
        }
        for (name, map) in instances(policy, "route-map") {
            for (seq, rule) in instances(map, "rule") {
                let action = rule.text("action").unwrap_or("deny");
                self.within(&format!("route-map {name} {action} {seq}"), |writer| writer.map_rule(rule));
            }
        }
    }

    fn map_rule(&mut self, rule: &Node) {
        for (path, line) in [
            (&["match", "ip", "address", "prefix-list"][..], "match ip address prefix-list"),
            (&["match", "ipv6", "address", "prefix-list"][..], "match ipv6 address prefix-list"),
            (&["match", "interface"][..], "match interface"),
            (&["match", "protocol"][..], "match source-protocol"),
            (&["match", "tag"][..], "match tag"),
            (&["set", "local-preference"][..], "set local-preference"),
            (&["set", "metric"][..], "set metric"),
            (&["set", "weight"][..], "set weight"),
            (&["set", "tag"][..], "set tag"),
            (&["set", "src"][..], "set src"),
            (&["set", "ip-next-hop"][..], "set ip next-hop"),
            (&["set", "as-path", "prepend"][..], "set as-path prepend"),
            (&["set", "community", "replace"][..], "set community"),
            (&["on-match", "goto"][..], "on-match goto"),
        ] {
            if let Some(value) = number(rule, path) {
                self.line(format!("{line} {value}"));
            }
        }
    }

    fn statics(&mut self, tree: &Tree) {
        let Some(node) = tree.at(&["protocols", "static"]) else { return };
        for (tag, word) in [("route", "ip"), ("route6", "ipv6")] {
            for (prefix, route) in instances(node, tag) {
                for kind in ["next-hop", "interface"] {
                    for (hop, options) in instances(route, kind) {
                        if options.child("disable").is_none() {
                            let distance =
                                options.text("distance").map(|d| format!(" {d}")).unwrap_or_default();
                            self.line(format!("{word} route {prefix} {hop}{distance}"));
                        }
                    }
                }
                for discard in ["blackhole", "reject"] {
                    if let Some(node) = route.child(discard) {
                        let distance = node.text("distance").map(|d| format!(" {d}")).unwrap_or_default();
                        self.line(format!("{word} route {prefix} {discard}{distance}"));
                    }
                }
            }
        }
    }

    fn bfd(&mut self, bfd: &Node) {
        for (name, profile) in instances(bfd, "profile") {
            self.within(&format!("profile {name}"), |writer| writer.bfd_timers(profile));
        }
        for (name, peer) in instances(bfd, "peer") {
            let multihop = if peer.child("multihop").is_some() { " multihop" } else { "" };
            let source = number(peer, &["source", "address"]).map(|a| format!(" local-address {a}"));
            let interface = number(peer, &["source", "interface"]).map(|i| format!(" interface {i}"));
            let (source, interface) = (source.unwrap_or_default(), interface.unwrap_or_default());
            self.within(&format!("peer {name}{multihop}{source}{interface}"), |writer| {
                writer.bfd_timers(peer)
            });
        }
    }

    fn bfd_timers(&mut self, node: &Node) {
        for (leaf, line) in [
            ("receive", "receive-interval"),
            ("transmit", "transmit-interval"),
            ("multiplier", "detect-multiplier"),
            ("echo-interval", "echo-interval"),
        ] {
            if let Some(value) = number(node, &["interval", leaf]) {
                self.line(format!("{line} {value}"));
            }
        }
        if let Some(profile) = node.text("profile") {
            self.line(format!("profile {profile}"));
        }
        for flag in ["echo-mode", "shutdown"] {
            if node.child(flag).is_some() {
                self.line(flag);
            }
        }
    }

    fn bgp(&mut self, bgp: &Node) {
        // The router's own defaults, which differ from FRR's.
        for default in
            ["no bgp default ipv4-unicast", "no bgp ebgp-requires-policy", "no bgp network import-check"]
        {
            self.line(default);
        }
        let parameters = bgp.child("parameters");
        if let Some(id) = parameters.and_then(|p| p.text("router-id")) {
            self.line(format!("bgp router-id {id}"));
        }
        if parameters.is_some_and(|p| p.at(&["bestpath", "as-path", "multipath-relax"]).is_some()) {
            self.line("bgp bestpath as-path multipath-relax");
        }
        if parameters.is_some_and(|p| p.child("graceful-restart").is_some()) {
            self.line("bgp graceful-restart");
        }
        if let Some(timers) = bgp.child("timers").filter(|timers| !timers.is_bare()) {
            let (keepalive, hold) =
                (timers.text("keepalive").unwrap_or("60"), timers.text("holdtime").unwrap_or("180"));
            self.line(format!("timers bgp {keepalive} {hold}"));
        }
        for (name, group) in instances(bgp, "peer-group") {
            self.line(format!("neighbor {name} peer-group"));
            self.peer(name, group);
        }
        for (name, peer) in instances(bgp, "neighbor") {
            self.neighbor(name, peer);
        }
        if let Some(listen) = bgp.child("listen") {
            if let Some(limit) = listen.text("limit") {
                self.line(format!("bgp listen limit {limit}"));
            }
            for (range, node) in instances(listen, "range") {
                let group = node.text("peer-group").unwrap_or("");
                self.line(format!("bgp listen range {range} peer-group {group}"));
            }
        }
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            self.within(&format!("address-family {}", family.replace('-', " ")), |writer| {
                writer.family(bgp, family)
            });
        }
    }

    /// A member takes the AS of its group, unless it has its own.
    fn neighbor(&mut self, name: &str, peer: &Node) {
        if let Some(remote) = peer.text("remote-as") {
            self.line(format!("neighbor {name} remote-as {remote}"));
        }
        if let Some(group) = peer.text("peer-group") {
            self.line(format!("neighbor {name} peer-group {group}"));
        }
        self.peer_options(name, peer);
    }

    fn peer(&mut self, name: &str, peer: &Node) {
        if let Some(remote) = peer.text("remote-as") {
            self.line(format!("neighbor {name} remote-as {remote}"));
        }
        self.peer_options(name, peer);
    }

    fn peer_options(&mut self, name: &str, peer: &Node) {
        for (leaf, word) in [
            ("description", "description"),
            ("update-source", "update-source"),
            ("ebgp-multihop", "ebgp-multihop"),
            ("password", "password"),
            ("port", "port"),
        ] {
            if let Some(value) = peer.text(leaf) {
                self.line(format!("neighbor {name} {word} {value}"));
            }
        }
        if let Some(hops) = number(peer, &["ttl-security", "hops"]) {
            self.line(format!("neighbor {name} ttl-security hops {hops}"));
        }
        for (asn, options) in instances(peer, "local-as") {
            let no_prepend = if options.child("no-prepend").is_some() { " no-prepend" } else { "" };
            self.line(format!("neighbor {name} local-as {asn}{no_prepend}"));
        }
        if let Some(timers) = peer.child("timers") {
            if timers.child("keepalive").is_some() || timers.child("holdtime").is_some() {
                let (keepalive, hold) =
                    (timers.text("keepalive").unwrap_or("60"), timers.text("holdtime").unwrap_or("180"));
                self.line(format!("neighbor {name} timers {keepalive} {hold}"));
            }
            if let Some(connect) = timers.text("connect") {
                self.line(format!("neighbor {name} timers connect {connect}"));
            }
        }
        for flag in ["passive", "shutdown", "disable-connected-check"] {
            if peer.child(flag).is_some() {
                self.line(format!("neighbor {name} {flag}"));
            }
        }
        if let Some(bfd) = peer.child("bfd") {
            let profile = bfd.text("profile").map(|p| format!(" profile {p}")).unwrap_or_default();
            self.line(format!("neighbor {name} bfd{profile}"));
        }
    }

    fn family(&mut self, bgp: &Node, family: &str) {
        if let Some(own) = bgp.at(&["address-family", family]) {
            for (prefix, node) in instances(own, "network") {
                let map = node.text("route-map").map(|m| format!(" route-map {m}")).unwrap_or_default();
                self.line(format!("network {prefix}{map}"));
            }
            for (prefix, _) in instances(own, "aggregate-address") {
                self.line(format!("aggregate-address {prefix}"));
            }
            for (source, _) in instances(own, "redistribute") {
                self.line(format!("redistribute {source}"));
            }
            for (leaf, line) in [("ebgp", "maximum-paths"), ("ibgp", "maximum-paths ibgp")] {
                if let Some(paths) = number(own, &["maximum-paths", leaf]) {
                    self.line(format!("{line} {paths}"));
                }
            }
        }
        for (name, peer) in instances(bgp, "peer-group").into_iter().chain(instances(bgp, "neighbor")) {
            if let Some(options) = peer.at(&["address-family", family]) {
                self.peer_family(name, options);
            }
        }
    }

    fn peer_family(&mut self, name: &str, options: &Node) {
        self.line(format!("neighbor {name} activate"));
        for (path, words) in [
            (&["soft-reconfiguration", "inbound"][..], "soft-reconfiguration inbound"),
            (&["nexthop-self"][..], "next-hop-self"),
            (&["default-originate"][..], "default-originate"),
            (&["as-override"][..], "as-override"),
            (&["route-reflector-client"][..], "route-reflector-client"),
            (&["remove-private-as"][..], "remove-private-AS"),
        ] {
            if options.at(path).is_some() {
                self.line(format!("neighbor {name} {words}"));
            }
        }
        for (path, words) in [
            (&["maximum-prefix"][..], "maximum-prefix"),
            (&["weight"][..], "weight"),
            (&["allowas-in", "number"][..], "allowas-in"),
        ] {
            if let Some(value) = number(options, path) {
                self.line(format!("neighbor {name} {words} {value}"));
            }
        }
        for filter in ["prefix-list", "route-map"] {
            for (side, way) in [("import", "in"), ("export", "out")] {
                if let Some(list) = number(options, &[filter, side]) {
                    self.line(format!("neighbor {name} {filter} {list} {way}"));
                }
            }
        }
    }
}
