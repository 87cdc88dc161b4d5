//! DHCP servers of both families.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::interfaces::Addresses;
use super::{Found, at, instances};
use crate::config::{ConfigPath, Dialect, Node, Tree};

const SCRIPT: &str = "service dhcp-server";
const SCRIPT6: &str = "service dhcpv6-server";

pub(super) fn check(tree: &Tree, dialect: Dialect, addresses: &Addresses, found: &mut Found) {
    if let Some(server) =
        tree.at(&["service", "dhcp-server"]).filter(|server| server.child("disable").is_none())
    {
        v4(server, dialect, addresses, found);
    }
    if let Some(server) =
        tree.at(&["service", "dhcpv6-server"]).filter(|server| server.child("disable").is_none())
    {
        v6(server, dialect, found);
    }
}

fn v4(server: &Node, dialect: Dialect, addresses: &Addresses, found: &mut Found) {
    let top = || at(["service", "dhcp-server"]);
    if instances(server, "shared-network-name").next().is_none() {
        return found.add(SCRIPT, top(), "No DHCP shared networks configured");
    }
    let (mut served, mut ids, mut nets) =
        (server.child("listen-address").is_some(), BTreeSet::new(), Vec::new());
    for (network, node) in instances(server, "shared-network-name") {
        let path = top().descend(["shared-network-name", network]);
        if instances(node, "subnet").next().is_none() {
            found.add(SCRIPT, path.clone(), format!("shared network {network} has no subnet"));
        }
        for (prefix, subnet) in instances(node, "subnet") {
            let path = path.descend(["subnet", prefix]);
            let Ok(net) = prefix.parse::<Ipv4Net>() else { continue };
            served |= addresses.serve(IpNet::V4(net));
            check_id(SCRIPT, dialect, &path, subnet, &mut ids, found);
            check_subnet(dialect, &path, net, subnet, found);
            nets.push((net, path));
        }
    }
    overlaps(nets, found);
    if !served {
        found.add(SCRIPT, top(), "None of the configured subnets have an appropriate primary IP address on any broadcast interface configured, nor was there an explicit listen-address configured for serving DHCP relay packets!");
    }
}

fn check_id(
    script: &str,
    dialect: Dialect,
    path: &ConfigPath,
    subnet: &Node,
    ids: &mut BTreeSet<String>,
    found: &mut Found,
) {
    if dialect == Dialect::V1_4 {
        return;
    }
    match subnet.text("subnet-id") {
        None => found.add(script, path.clone(), format!("subnet {} needs a subnet-id", path.name())),
        Some(id) if !ids.insert(id.to_owned()) => {
            found.add(
                script,
                path.clone(),
                format!("subnet-id {id} of subnet {} is another subnet's", path.name()),
            );
        }
        Some(_) => {}
    }
}

fn check_subnet(dialect: Dialect, path: &ConfigPath, net: Ipv4Net, subnet: &Node, found: &mut Found) {
    if subnet.child("disable").is_some() {
        return;
    }
    let enabled = |(_, mapping): &(&str, &Node)| mapping.child("disable").is_none();
    if instances(subnet, "range").next().is_none()
        && !instances(subnet, "static-mapping").any(|m| enabled(&m))
    {
        found.add(SCRIPT, path.clone(), format!("subnet {net} needs a range or a static-mapping"));
    }
    ranges(path, net, subnet, found);
    mappings(dialect, path, net, subnet, found);
}

fn ranges(path: &ConfigPath, net: Ipv4Net, subnet: &Node, found: &mut Found) {
    let mut spans: Vec<(Ipv4Addr, Ipv4Addr, &str)> = Vec::new();
    for (name, range) in instances(subnet, "range") {
        let at = path.descend(["range", name]);
        let end = |leaf| range.text(leaf).and_then(|text| text.parse::<Ipv4Addr>().ok());
        let (Some(start), Some(stop)) = (end("start"), end("stop")) else {
            found.add(SCRIPT, at, format!("range {name} of subnet {net} needs both start and stop"));
            continue;
        };
        if start > stop {
            found.add(
                SCRIPT,
                at,
                format!("range {name} of subnet {net} stops at {stop}, before its start {start}"),
            );
        } else if !net.contains(&start) || !net.contains(&stop) {
            found.add(SCRIPT, at, format!("range {name} ({start} to {stop}) is not inside subnet {net}"));
        } else {
            spans.push((start, stop, name));
        }
    }
    spans.sort();
    for pair in spans.windows(2).filter(|pair| pair[1].0 <= pair[0].1) {
        let text = format!("ranges {} and {} of subnet {net} overlap", pair[0].2, pair[1].2);
        found.add(SCRIPT, path.descend(["range", pair[1].2]), text);
    }
}

fn mappings(dialect: Dialect, path: &ConfigPath, net: Ipv4Net, subnet: &Node, found: &mut Found) {
    let (mut macs, mut ips) = (BTreeSet::new(), BTreeSet::new());
    for (name, mapping) in instances(subnet, "static-mapping").filter(|(_, m)| m.child("disable").is_none()) {
        let at = || path.descend(["static-mapping", name]);
        let identity = match dialect {
            Dialect::V1_4 => mapping.text("mac-address"),
            Dialect::V1_5 => mapping.text("mac").or_else(|| mapping.text("duid")),
        };
        match identity {
            None => {
                found.add(SCRIPT, at(), format!("static-mapping {name} of subnet {net} needs a MAC address"))
            }
            Some(_) if mapping.child("mac").is_some() && mapping.child("duid").is_some() => {
                found.add(
                    SCRIPT,
                    at(),
                    format!("static-mapping {name} of subnet {net} has both mac and duid"),
                );
            }
            Some(mac) if !macs.insert(mac.to_ascii_lowercase()) => {
                found.add(
                    SCRIPT,
                    at(),
                    format!("static-mapping {name} of subnet {net}: {mac} is another mapping's"),
                );
            }
            Some(_) => {}
        }
        let Some(ip) = mapping.text("ip-address") else { continue };
        if ip.parse::<Ipv4Addr>().is_ok_and(|ip| !net.contains(&ip)) {
            found.add(SCRIPT, at(), format!("static-mapping {name}: {ip} is not inside subnet {net}"));
        }
        if !ips.insert(ip) {
            found.add(
                SCRIPT,
                at(),
                format!("static-mapping {name} of subnet {net}: {ip} is another mapping's"),
            );
        }
    }
}

fn overlaps(mut nets: Vec<(Ipv4Net, ConfigPath)>, found: &mut Found) {
    nets.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    for pair in nets.windows(2).filter(|pair| pair[0].0.contains(&pair[1].0)) {
        let text = format!("subnet {} lies in subnet {}, which is served too", pair[1].0, pair[0].0);
        found.about(SCRIPT, pair[1].1.clone(), text, pair[0].1.clone());
    }
}

fn v6(server: &Node, dialect: Dialect, found: &mut Found) {
    let top = || at(["service", "dhcpv6-server"]);
    if instances(server, "shared-network-name").next().is_none() {
        return found.add(SCRIPT6, top(), "No DHCPv6 shared networks configured");
    }
    let (mut ids, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (network, node) in instances(server, "shared-network-name") {
        let path = top().descend(["shared-network-name", network]);
        if instances(node, "subnet").next().is_none() {
            found.add(SCRIPT6, path.clone(), format!("shared network {network} has no subnet"));
        }
        for (prefix, subnet) in instances(node, "subnet") {
            let path = path.descend(["subnet", prefix]);
            check_id(SCRIPT6, dialect, &path, subnet, &mut ids, found);
            let Ok(net) = prefix.parse::<IpNet>() else { continue };
            if !seen.insert(net) {
                found.add(SCRIPT6, path.clone(), format!("subnet {net} is served twice"));
            }
            ranges6(&path, net, subnet, found);
        }
    }
}

fn ranges6(path: &ConfigPath, net: IpNet, subnet: &Node, found: &mut Found) {
    let new = instances(subnet, "range").filter(|(_, range)| range.child("prefix").is_none());
    let new = new.map(|(name, range)| (name, "range", range.text("start"), range.text("stop")));
    let none = Node::bare();
    let old = instances(subnet.child("address-range").unwrap_or(&none), "start");
    let old = old.map(|(start, range)| (start, "address-range", Some(start), range.text("stop")));
    for (name, tag, start, stop) in new.chain(old) {
        let at = if tag == "range" { path.descend([tag, name]) } else { path.descend([tag, "start", name]) };
        let ends = start
            .zip(stop)
            .and_then(|(start, stop)| Some((start.parse::<IpAddr>().ok()?, stop.parse::<IpAddr>().ok()?)));
        match ends {
            None => found.add(SCRIPT6, at, format!("{tag} {name} of subnet {net} needs both start and stop")),
            Some((start, stop)) if start > stop => {
                found.add(SCRIPT6, at, format!("{tag} {name} of subnet {net} stops before it starts"))
            }
            Some((start, stop)) if !net.contains(&start) || !net.contains(&stop) => {
                found.add(SCRIPT6, at, format!("{tag} {name} is not inside subnet {net}"));
            }
            Some(_) => {}
        }
    }
}
