//! BGP and BFD.

use std::net::IpAddr;

use super::interfaces::Addresses;
use super::{Found, at, instances};
use crate::config::{ConfigPath, Node, Tree};

const SCRIPT: &str = "protocols bgp";

pub(super) fn check(tree: &Tree, addresses: &Addresses, found: &mut Found) {
    if let Some(bgp) = tree.at(&["protocols", "bgp"]) {
        if bgp.child("system-as").is_none() {
            found.add(SCRIPT, at(["protocols", "bgp"]), "BGP needs a system-as number");
        }
        for (name, group) in instances(bgp, "peer-group") {
            peer(tree, bgp, &at(["protocols", "bgp", "peer-group", name]), group, found);
        }
        for (name, neighbor) in instances(bgp, "neighbor") {
            check_neighbor(tree, bgp, addresses, name, neighbor, found);
        }
        for (prefix, range) in instances(bgp.child("listen").unwrap_or(&Node::bare()), "range") {
            listen(bgp, prefix, range, found);
        }
    }
    if let Some(bfd) = tree.at(&["protocols", "bfd"]) {
        instances(bfd, "peer").for_each(|(name, peer)| check_bfd(name, peer, found));
    }
}

fn check_neighbor(
    tree: &Tree,
    bgp: &Node,
    addresses: &Addresses,
    name: &str,
    node: &Node,
    found: &mut Found,
) {
    let path = at(["protocols", "bgp", "neighbor", name]);
    let groups = [node.text("peer-group"), interface_text(node, "peer-group")];
    let has_as = node.text("remote-as").or_else(|| interface_text(node, "remote-as")).is_some();
    let mut as_from_group = false;
    for group in groups.into_iter().flatten() {
        let there = at(["protocols", "bgp", "peer-group", group]);
        match bgp.at(&["peer-group", group]) {
            None => {
                let text =
                    format!(r#"Specified peer-group "{group}" for neighbor "neighbor" does not exist!"#);
                return found.about(SCRIPT, path, text, there);
            }
            Some(node) => as_from_group |= node.child("remote-as").is_some(),
        }
        if as_from_group && has_as {
            let text =
                format!(r#"Peer-group member "{name}" cannot override remote-as of peer-group "{group}"!"#);
            found.about(SCRIPT, path.clone(), text, there);
        }
    }
    if !has_as && !as_from_group {
        found.add(SCRIPT, path.clone(), format!(r#"Neighbor "{name}" remote-as must be set!"#));
    }
    if name.parse::<IpAddr>().is_ok_and(|address| addresses.holds(address)) {
        let text = format!(r#"Can not configure local address as neighbor "{name}" in default VRF!"#);
        found.add(SCRIPT, path.clone(), text);
    }
    timers(&path, node, found);
    peer(tree, bgp, &path, node, found);
}

fn interface_text<'a>(node: &'a Node, leaf: &str) -> Option<&'a str> {
    let interface = node.child("interface")?;
    interface.text(leaf).or_else(|| interface.child("v6only")?.text(leaf))
}

/// FRR refuses a hold time of 1 or 2 seconds (RFC 4271 section 4.2), but is only told it together with a keepalive.
fn timers(path: &ConfigPath, node: &Node, found: &mut Found) {
    let Some(timers) = node.child("timers") else { return };
    if matches!(timers.text("holdtime"), Some("1" | "2")) && timers.child("keepalive").is_some() {
        found.add(SCRIPT, path.clone(), "a holdtime is 0 or at least 3 seconds");
    }
}

/// What neighbors and peer groups have in common.
fn peer(tree: &Tree, bgp: &Node, path: &ConfigPath, node: &Node, found: &mut Found) {
    if node.child("ebgp-multihop").is_some() && node.at(&["ttl-security", "hops"]).is_some() {
        found.add(SCRIPT, path.clone(), "You can not set both ebgp-multihop and ttl-security hops");
    }
    if instances(node, "local-as").any(|(local, _)| bgp.text("system-as") == Some(local)) {
        found.add(SCRIPT, path.clone(), "Cannot have local-as same as system-as number");
    }
    for (family, settings) in node.child("address-family").and_then(Node::children).into_iter().flatten() {
        let list = if family.starts_with("ipv6") { "prefix-list6" } else { "prefix-list" };
        for (what, kind) in [("route-map", "route-map"), ("prefix-list", list)] {
            for direction in ["import", "export"] {
                let Some(name) = settings.at(&[what, direction]).and_then(Node::first) else { continue };
                let there = at(["policy", kind, name]);
                if tree.at(&there).is_none() {
                    found.about(
                        SCRIPT,
                        path.clone(),
                        format!(r#"Specified {kind} "{name}" does not exist!"#),
                        there,
                    );
                }
            }
        }
    }
}

fn listen(bgp: &Node, prefix: &str, range: &Node, found: &mut Found) {
    let path = at(["protocols", "bgp", "listen", "range", prefix]);
    let Some(group) = range.text("peer-group") else {
        return found.add(
            SCRIPT,
            path,
            format!(r#"Listen range for prefix "{prefix}" has no peer group configured."#),
        );
    };
    let there = at(["protocols", "bgp", "peer-group", group]);
    match bgp.at(&["peer-group", group]) {
        None => {
            let text = format!(r#"Peer-group "{group}" for listen range "{prefix}" does not exist!"#);
            found.about(SCRIPT, path, text, there);
        }
        Some(node) if node.child("remote-as").is_none() => {
            found.about(
                SCRIPT,
                path,
                format!(r#"listen range "{prefix}" needs a remote-as in peer-group "{group}""#),
                there,
            );
        }
        Some(_) => {}
    }
}

fn check_bfd(name: &str, peer: &Node, found: &mut Found) {
    let path = || at(["protocols", "bfd", "peer", name]);
    if peer.child("multihop").is_none() {
        return;
    }
    if peer.at(&["source", "address"]).is_none() {
        found.add("protocols bfd", path(), "BFD multihop require source address");
    }
    if peer.child("echo-mode").is_some() {
        found.add("protocols bfd", path(), "BFD multihop and echo-mode cannot be used together");
    }
}

pub(super) fn warn(tree: &Tree, found: &mut Found) {
    let Some(bgp) = tree.at(&["protocols", "bgp"]) else { return };
    for (name, node) in instances(bgp, "neighbor") {
        let group = node.text("peer-group").and_then(|group| bgp.at(&["peer-group", group]));
        let families =
            [Some(node), group].into_iter().flatten().any(|node| node.child("address-family").is_some());
        if !families {
            let path = at(["protocols", "bgp", "neighbor", name]);
            found.add(SCRIPT, path, format!(r#"BGP neighbor "{name}" requires address-family!"#));
        }
    }
}
